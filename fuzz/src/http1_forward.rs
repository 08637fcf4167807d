//! HTTP/1 through the whole proxy: hostile octets of a client, and those of a hostile server as
//! answers, in pieces. What reaches the server is read again by the strict scan: it must be
//! requests that the rule allows, each one that the client has sent, in the client's order and with the
//! client's body. What reaches the client must be whole responses up to the last one.
//!
//! The input is the client's stream, then 0xFF, then answers with 0xFF between them.

use l7_parsers::{
    http1::{
        Body, Framing, Limits, Part, RequestParts, ResponseFraming, ResponseHead, ResponseScan, Scanner,
        Step, Target,
    },
    http2::frame::PREFACE,
    path::normalize,
};

mod lab;

pub use lab::Exchange;

use crate::lab::is_allowed;

pub fn run(data: &[u8]) {
    let mut parts = data.split(|octet| *octet == 0xff);
    let client = parts.next().unwrap_or_default();
    if client.starts_with(PREFACE) {
        // HTTP/2 has a target of its own.
        return;
    }
    let answers: Vec<&[u8]> = parts.collect();
    let exchange = lab::exchange(client, &answers, data);
    // Where the stream may have stopped being HTTP, what follows is nobody's requests.
    let switches = answers.iter().any(|answer| {
        let says = |text: &[u8]| answer.windows(text.len()).any(|window| window == text);
        says(b" 101") || says(b" 2")
    });

    let asked = requests(client, switches);
    let mut next = asked.iter();
    let mut last = None;
    for stream in &exchange.reached {
        let sent = requests(stream, switches);
        assert!(!sent.refused, "what reaches the server is well-formed: {:?}", text(stream));
        for (number, request) in sent.requests.iter().enumerate() {
            assert!(request.is_allowed(), "a denied request has reached the server: {request:?}");
            // Once more, and on another connection, where one that had been kept ended without an answer.
            if number == 0
                && let Some(before) = last.take_if(|before: &mut &Request| before.may_be_repeated())
                && before.has_become(request)
            {
                continue;
            }
            let asked = next.find(|asked| asked.has_become(request));
            assert!(
                asked.is_some(),
                "nobody has asked so, or not in this order: {request:?} of {:?}",
                text(client)
            );
            last = asked.filter(|_| number > 0);
        }
    }
    responses(&exchange.answered, &asked);
}

fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

#[derive(Debug)]
struct Request {
    method: String,
    /// In normal form.
    target: String,
    content: Vec<u8>,
    /// All of the content.
    complete: bool,
}

impl Request {
    fn is_allowed(&self) -> bool {
        self.method == "CONNECT" || is_allowed(&self.method, &self.target)
    }

    fn may_be_repeated(&self) -> bool {
        matches!(&*self.method, "GET" | "HEAD" | "OPTIONS") && self.content.is_empty()
    }

    fn has_become(&self, sent: &Self) -> bool {
        self.method == sent.method
            && self.target == sent.target
            && self.content.starts_with(&sent.content)
            && (!sent.complete || self.content.len() == sent.content.len())
    }
}

#[derive(Debug)]
struct Requests {
    requests: Vec<Request>,
    refused: bool,
    /// What follows may be no HTTP.
    switched: bool,
}

impl Requests {
    fn iter(&self) -> std::slice::Iter<'_, Request> {
        self.requests.iter()
    }
}

/// The requests of a stream. `switches`: one that may stop being HTTP may have.
fn requests(stream: &[u8], switches: bool) -> Requests {
    let mut scanner = Scanner::new(Limits::default());
    let mut found = Requests { requests: Vec::new(), refused: false, switched: false };
    let mut at = 0;
    loop {
        let step = scanner.step(&stream[at..]);
        let last = found.requests.last_mut();
        let taken = match step {
            Step::More => break,
            Step::Refused(_) => {
                found.refused = true;
                break;
            }
            Step::Undecided if switches => {
                found.switched = true;
                break;
            }
            Step::Undecided => {
                scanner.go_on();
                0
            }
            Step::Head { octets, head } => {
                let parts = RequestParts::read(&stream[at..at + octets]).expect("a head with one reading");
                let target = match parts.target {
                    Target::Authority(authority) => authority.to_owned(),
                    Target::Asterisk => "*".to_owned(),
                    Target::Origin(path) | Target::Absolute { path, .. } => {
                        normalize(path).expect("a path with a normal form").into_owned()
                    }
                };
                let (method, content) = (parts.method.to_owned(), Vec::new());
                let complete = head.framing == Framing::Length(0);
                found.requests.push(Request { method, target, content, complete });
                octets
            }
            Step::Body { octets } => {
                let last = last.expect("a body has a head");
                last.content.extend_from_slice(&stream[at..at + octets]);
                octets
            }
            Step::Skip { octets }
            | Step::Framing { octets }
            | Step::Trailers { octets }
            | Step::Opaque { octets } => octets,
        };
        at += taken;
        if (scanner.between_requests() || scanner.is_undecided())
            && let Some(last) = found.requests.last_mut()
        {
            last.complete = true;
        }
    }
    found
}

/// Reads what the client got: an answer to each request in turn, and perhaps one more for what was none.
fn responses(stream: &[u8], asked: &Requests) {
    let limits = Limits::default();
    let (mut at, mut answered) = (0, 0);
    while at < stream.len() {
        let request = asked.requests.get(answered);
        if request.is_none() && asked.switched {
            return;
        }
        assert!(answered <= asked.requests.len(), "more answers than requests: {:?}", text(stream));
        let found = ResponseScan::new().advance(&stream[at..], &limits).expect("a well-formed response");
        let Some((octets, head)) = found else { return };
        at += octets;
        if (100..200).contains(&head.status) && head.status != 101 {
            continue;
        }
        let is_connect = request.is_some_and(|request| request.method == "CONNECT");
        if head.status == 101 || is_connect && (200..300).contains(&head.status) {
            return;
        }
        answered += 1;
        let is_head = request.is_some_and(|request| request.method == "HEAD");
        match body(&stream[at..], head, is_head) {
            Some(octets) => at += octets,
            None => return,
        }
    }
}

/// The octets of a response's body; `None`: it was cut off.
fn body(stream: &[u8], head: ResponseHead, is_head: bool) -> Option<usize> {
    let mut body = match head.framing(is_head) {
        ResponseFraming::Framed(framing) => Body::new(framing),
        ResponseFraming::UntilClose => return None,
    };
    let mut at = 0;
    while !body.is_complete() {
        match body.advance(&stream[at..], &Limits::default()).expect("a well-formed body") {
            Part::More => return None,
            Part::Content { octets } | Part::Framing { octets } | Part::Trailers { octets } => at += octets,
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::lab;

    #[test]
    fn what_is_allowed_reaches_the_server_and_what_is_denied_does_not() {
        let client = b"GET /ok/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n\
            GET /ok/2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let exchange = lab::exchange(client, &[answer, answer], client);
        let reached = String::from_utf8(exchange.reached.concat()).unwrap();
        let paths: Vec<&str> = reached.lines().filter_map(|line| line.strip_prefix("GET ")).collect();
        assert_eq!(paths, ["/ok/1 HTTP/1.1", "/ok/2 HTTP/1.1"]);
        let answered = String::from_utf8(exchange.answered).unwrap();
        let statuses = answered.matches("HTTP/1.1 ").count();
        assert_eq!((statuses, answered.matches("HTTP/1.1 403").count()), (3, 1), "{answered}");
    }
}
