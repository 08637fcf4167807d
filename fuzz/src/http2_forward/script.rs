//! What the two ends say, and when: steps read from the input.

const METHODS: [&str; 6] = ["GET", "POST", "HEAD", "PUT", "CONNECT", "get"];
const PATHS: [&str; 10] =
    ["/ok", "/ok/1", "/no", "/ok/../no", "/ok/%2e%2e/no", "/no/../ok", "/ok/%31?x=1", "*", "", "/okay"];
const STATUSES: [&str; 8] = ["200", "204", "100", "103", "304", "403", "101", "2x0"];
const FIELDS: [(&str, &str); 16] = [
    ("x-a", "b"),
    ("content-length", "3"),
    ("content-length", "0"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("content-type", "application/grpc-web-text"),
    ("content-type", "text/plain"),
    ("grpc-status", "0"),
    ("host", "web"),
    ("host", "other"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("expect", "100-continue"),
    ("X-Upper", "c"),
    ("cookie", "a=b"),
    ("content_length", "3"),
];

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Client,
    /// On which of the connections to it.
    Server(usize),
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) who: Who,
    pub(super) octets: Vec<u8>,
    /// The other side gets time to answer.
    pub(super) pause: bool,
}

/// The steps, as long as there are octets for one: a first octet for who (0x80: the server; 0x60: which
/// connection), whether a pause follows (0x10: none), and what (0x0f).
pub(super) fn steps(mut data: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((&first, rest)) = data.split_first() {
        data = rest;
        let who = match first & 0x80 {
            0 => Who::Client,
            _ => Who::Server(usize::from(first >> 5 & 3)),
        };
        let Some(octets) = said(first & 15, who, &mut data) else { break };
        steps.push(Step { who, octets, pause: first & 0x10 == 0 });
    }
    steps
}

/// `None`: the input is used up.
fn said(what: u8, who: Who, data: &mut &[u8]) -> Option<Vec<u8>> {
    Some(match what {
        // A frame of any kind, of which only the length is right.
        0..=9 => {
            let (flags, stream, length) = (octet(data)?, octet(data)?, octet(data)?);
            frame(what, flags, stream, take(data, length.into()))
        }
        10 | 11 => {
            let (flags, stream, choice, more) = (octet(data)?, octet(data)?, octet(data)?, octet(data)?);
            let mut block = Vec::new();
            if what == 10 {
                start(who, choice, &mut block);
            }
            // Trailers have but these.
            for place in [more & 15, more >> 4].into_iter().take(usize::from(choice >> 6)) {
                let (name, value) = FIELDS[usize::from(place)];
                literal(name, value, &mut block);
            }
            match flags & 0x80 {
                0 => frame(1, flags & 1 | 4, stream, &block),
                _ => {
                    let (one, other) = block.split_at(block.len() / 2);
                    [frame(1, flags & 1, stream, one), frame(9, 4, stream, other)].concat()
                }
            }
        }
        // Much of a body.
        12 => {
            let (flags, stream, length) = (octet(data)?, octet(data)?, octet(data)?);
            let body: Vec<u8> = (0..usize::from(length) * 64).map(|at| at as u8).collect();
            body.chunks(1 << 14).flat_map(|part| frame(0, flags & 1, stream, part)).collect()
        }
        // Room, or a setting.
        13 => {
            let (stream, amount) = (octet(data)?, octet(data)?);
            frame(8, 0, stream, &(1_u32 << (amount & 31)).to_be_bytes())
        }
        14 => {
            let (setting, amount) = (octet(data)?, octet(data)?);
            let value = u32::from(amount & 15) << (2 * (amount >> 4));
            frame(4, 0, 0, &[&[0, setting][..], &value.to_be_bytes()].concat())
        }
        // No frame at all, perhaps.
        _ => {
            let length = octet(data)?;
            take(data, length.into()).to_vec()
        }
    })
}

fn octet(data: &mut &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    Some(*first)
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(data.len().min(length));
    *data = rest;
    taken
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short one");
    let head = [&length.to_be_bytes()[1..], &[kind, flags], &u32::from(stream).to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The pseudo-headers of a request or an answer.
fn start(who: Who, choice: u8, block: &mut Vec<u8>) {
    let choice = usize::from(choice & 63);
    if who != Who::Client {
        return literal(":status", STATUSES[choice % STATUSES.len()], block);
    }
    let (method, path) = (METHODS[choice / PATHS.len() % METHODS.len()], PATHS[choice % PATHS.len()]);
    for (name, value) in [(":method", method), (":scheme", "http"), (":authority", "web"), (":path", path)] {
        literal(name, value, block);
    }
}

/// Not in any table (RFC 7541 §6.2.2).
fn literal(name: &str, value: &str, block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).expect("a short one"));
        block.extend_from_slice(text.as_bytes());
    }
}
