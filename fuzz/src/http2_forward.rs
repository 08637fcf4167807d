//! HTTP/2 through the whole proxy, between a hostile client and hostile servers, frame by frame. All
//! that the proxy says is read again by a plainer reader: it must be well-formed, within the windows that
//! its peers gave, and at a server a request that the rule allows, as the client has sent it on the stream
//! of that number. An answer must be the server's, or one that the proxy may give.

use l7_parsers::{http2::frame::PREFACE, path::normalize};

mod exchange;
mod heard;
mod script;

use exchange::{Exchange, exchange};
use heard::{Heard, Lines, Told};

use crate::lab::is_allowed;

pub fn run(data: &[u8]) {
    let Exchange { client, servers } = exchange(&script::steps(data));
    let asked = Heard::from_peer(&client.to_proxy[PREFACE.len()..]);
    let mut serving = Vec::new();
    for server in &servers {
        let said = Heard::from_peer(&server.to_proxy);
        let start = server.by_proxy.len().min(PREFACE.len());
        assert_eq!(server.by_proxy[..start], PREFACE[..start]);
        let got = Heard::from_proxy(&server.by_proxy[start..], &said);
        assert!(got.order.is_sorted(), "numbers of streams grow: {:?}", got.order);
        for (stream, got) in &got.streams {
            at_server(*stream, got, &asked);
        }
        serving.push((said, got));
    }
    let answered = Heard::from_proxy(&client.by_proxy, &asked);
    for (stream, answer) in &answered.streams {
        let has = |got: &Heard| got.streams.get(stream).is_some_and(Told::has_begun);
        let there: Vec<&Heard> = serving.iter().filter(|(_, got)| has(got)).map(|(said, _)| said).collect();
        assert!(there.len() <= 1, "stream {stream} went to several servers");
        let server = there.first().and_then(|said| said.streams.get(stream));
        if answer.has_begun() {
            let request = asked.streams.get(stream).expect("a stream that the client has opened");
            at_client(*stream, answer, request, server);
        } else {
            assert!(answer.data.is_empty(), "a body without a head on stream {stream}");
        }
    }
}

/// What a request says, in normal form.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    method: String,
    path: String,
    authority: Vec<u8>,
}

/// `None`: no request that could be judged.
fn said(request: &Told) -> Option<Said> {
    let text = |name| String::from_utf8(request.value(0, name)?.to_vec()).ok();
    let path = text(":path")?;
    let path = if path == "*" { path } else { normalize(&path).ok()?.into_owned() };
    let authority = request.value(0, ":authority").or_else(|| request.value(0, "host"))?.to_vec();
    Some(Said { method: text(":method")?, path, authority })
}

fn at_server(stream: u32, got: &Told, asked: &Heard) {
    if !got.has_begun() {
        assert!(got.reset && got.data.is_empty(), "of a stream that was not begun");
        return;
    }
    let request = asked.streams.get(&stream).filter(|request| request.has_begun());
    let request = request.expect("the stream is one of the client's");
    let (wanted, is) = (said(request), said(got).expect("a request as it should be"));
    assert!(is_allowed(&is.method, &is.path), "a denied request has reached the server: {is:?}");
    assert_eq!(wanted.as_ref(), Some(&is), "nobody has asked so");
    assert_eq!(got.heads.len(), 1, "trailers of a request go no further");
    for (name, value) in plain(&got.heads[0]) {
        // The parts of a cookie may become one (RFC 9113 §8.2.3).
        let same = plain(&request.heads[0]).any(|line| line == (name, value))
            || name == b"cookie" && value == cookie(&request.heads[0]);
        assert!(same, "{} is nobody's: {got:?}", name.escape_ascii());
    }
    whole(stream, got, request);
}

/// A body is the other's up to where it is cut off, and says that it is whole only where it is.
fn whole(stream: u32, got: &Told, of: &Told) {
    assert!(of.data.starts_with(&got.data), "another body on stream {stream}");
    if got.ended {
        assert!(of.ended && of.data.len() == got.data.len(), "a body cut off that looks whole: {stream}");
    }
}

fn cookie(lines: &Lines) -> Vec<u8> {
    let parts = plain(lines).filter(|(name, _)| *name == b"cookie").map(|(_, value)| value);
    parts.collect::<Vec<_>>().join(&b"; "[..])
}

fn plain(lines: &Lines) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = lines.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
    lines.filter(|(name, _)| !name.starts_with(b":"))
}

fn at_client(stream: u32, answer: &Told, request: &Told, server: Option<&Told>) {
    let Some((lines, status)) = answer.answer() else {
        return assert!(answer.data.is_empty(), "a body of information on stream {stream}");
    };
    let is = |lines: &Lines, name: &[u8], of: &[u8]| {
        lines.iter().any(|(own, value)| own == name && value.starts_with(of))
    };
    let speaks_grpc = is(lines, b"content-type", b"application/grpc");
    let is_allowed = said(request).is_some_and(|said| is_allowed(&said.method, &said.path));
    let own =
        status.first() >= Some(&b'4') && is(lines, b"content-type", b"text/plain") && answer.data.len() < 200
            || speaks_grpc && answer.data.is_empty() && lines.iter().any(|(name, _)| name == b"grpc-status");
    assert!(is_allowed || own, "an answer to what is denied on stream {stream}: {answer:?}");
    let theirs = server.and_then(|server| server.answer().map(|found| (server, found)));
    match theirs {
        Some((server, (_, of))) if of == status && (server.data.starts_with(&answer.data) || speaks_grpc) => {
            if !own && !speaks_grpc {
                whole(stream, answer, server);
            }
        }
        _ => assert!(own, "an answer that nobody gave on stream {stream}: {answer:?} of {server:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_reaches_the_server_and_what_is_denied_does_not() {
        // GET /ok/1 on 1, GET /no on 3; 200 with a body and its end.
        let script =
            [&[10, 1, 1, 1, 0, 10, 1, 3, 2, 0], &[0x8a, 0, 1, 0, 0, 0x80, 1, 1, 2][..], b"ok"].concat();
        let Exchange { client, servers } = exchange(&script::steps(&script));
        let got = Heard::from_peer(&servers[0].by_proxy[PREFACE.len()..]);
        assert_eq!(got.order, [1]);
        assert_eq!(got.streams[&1].value(0, ":path"), Some(&b"/ok/1"[..]));
        let answered = Heard::from_peer(&client.by_proxy);
        assert_eq!(answered.streams[&3].answer().unwrap().1, b"403");
        let answer = &answered.streams[&1];
        assert_eq!(
            (answer.answer().unwrap().1, &answer.data[..], answer.ended),
            (&b"200"[..], &b"ok"[..], true)
        );
        run(&script);
    }
}
