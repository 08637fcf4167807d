//! A connection's octets through the HTTP/1 scan: however they are cut, the same passes; nothing is
//! held beyond the limits; and a second parser reads the same in each head that passes.

use l7_parsers::{
    http1::{Framing, Head, Limits, Refusal, Scanner, Step, Version},
    path::normalize,
};

use crate::cut::Cut;

/// Small enough that inputs of a fuzzer meet them.
const NARROW: Limits = Limits { head_octets: 160, fields: 4, chunk_line_octets: 12 };

pub fn run(data: &[u8]) {
    let whole = scan(data, Limits::default(), |left| left);
    let mut cut = Cut::of(data, 1);
    assert_eq!(whole, scan(data, Limits::default(), |left| cut.segment(left)), "cut otherwise");
    assert_eq!(whole, scan(data, Limits::default(), |_| 1), "octet by octet");

    let narrow = scan(data, NARROW, |left| left);
    assert_eq!(narrow, scan(data, NARROW, |_| 1), "octet by octet, with narrow limits");
    let limited = matches!(
        narrow.refused,
        Some(Refusal::HeadTooLarge | Refusal::TooManyFields | Refusal::ChunkLineTooLong)
    );
    if limited {
        assert!(whole.heads.starts_with(&narrow.heads) && whole.passed >= narrow.passed);
    } else {
        assert_eq!(whole, narrow, "limits only refuse");
    }

    for (at, head, octets) in &whole.heads {
        read_again(&data[*at..*at + *octets], *head);
    }
}

/// All that came of a stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Passage {
    /// Where each head begins, what it says, and its octets.
    pub(crate) heads: Vec<(usize, Head, usize)>,
    /// Octets that passed: heads, bodies, and what came after a switch.
    pub(crate) passed: usize,
    pub(crate) skipped: usize,
    pub(crate) refused: Option<Refusal>,
    /// Nothing more can be judged before the server has answered.
    pub(crate) undecided: bool,
    pub(crate) between_requests: bool,
}

/// Shows a new scanner the octets of `data` in segments of `next(octets left)`. Of the requests that
/// ask to switch protocols every third is answered with a switch, the others go on.
pub(crate) fn scan(data: &[u8], limits: Limits, mut next: impl FnMut(usize) -> usize) -> Passage {
    let mut scanner = Scanner::new(limits);
    let mut passage = Passage {
        heads: Vec::new(),
        passed: 0,
        skipped: 0,
        refused: None,
        undecided: false,
        between_requests: true,
    };
    let (mut at, mut shown, mut switches) = (0, 0, 0);
    while passage.refused.is_none() {
        let step = scanner.step(&data[at..shown]);
        let taken = match step {
            Step::More | Step::Undecided => 0,
            Step::Head { octets, head } => {
                passage.heads.push((at, head, octets));
                octets
            }
            Step::Body { octets }
            | Step::Framing { octets }
            | Step::Trailers { octets }
            | Step::Opaque { octets } => octets,
            Step::Skip { octets } => {
                passage.skipped += octets;
                octets
            }
            Step::Refused(refusal) => {
                passage.refused = Some(refusal);
                0
            }
        };
        if !matches!(step, Step::Skip { .. }) {
            passage.passed += taken;
        }
        at += taken;
        assert!(at <= shown, "no more passes than was shown");
        match step {
            Step::Undecided => {
                assert!(scanner.is_undecided());
                switches += 1;
                if switches % 3 == 0 { scanner.switch() } else { scanner.go_on() }
            }
            Step::More => {
                assert!(shown - at <= limits.head_octets, "what must be held is bounded");
                if shown == data.len() {
                    break;
                }
                shown += next(data.len() - shown).clamp(1, data.len() - shown);
            }
            _ => {}
        }
    }
    passage.undecided = scanner.is_undecided();
    passage.between_requests = scanner.between_requests();
    passage
}

/// Reads a head that passed with another parser, and judges its framing from that one's fields.
fn read_again(bytes: &[u8], head: Head) {
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut slots);
    let read = request.parse(bytes);
    assert_eq!(read, Ok(httparse::Status::Complete(bytes.len())), "a head for everybody");
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let version = if head.version == Version::Http11 { 1 } else { 0 };
    assert_eq!(request.version, Some(version));
    let fields = request.headers;
    let line = format!("{method} {target} HTTP/1.{version}\r\n");
    assert!(bytes.starts_with(line.as_bytes()), "the request line has one reading");
    assert_eq!(fields.len() + 2, bytes.split(|octet| *octet == b'\n').count() - 1, "a field a line");
    assert!(!bytes.iter().any(|octet| *octet < b' ' && !b"\t\r\n".contains(octet)));

    let of = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
    };
    let (lengths, encodings, hosts) = (of("content-length"), of("transfer-encoding"), of("host"));
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => assert_eq!(head.framing, Framing::Length(0)),
        ([length], []) => {
            let digits = std::str::from_utf8(length).expect("digits");
            let octets: u64 = digits.parse().expect("a number");
            assert_eq!((head.framing, octets.to_string().as_str()), (Framing::Length(octets), digits));
        }
        ([], [encoding]) => {
            assert!(encoding.eq_ignore_ascii_case(b"chunked"));
            assert_eq!((head.framing, head.version), (Framing::Chunked, Version::Http11));
        }
        _ => panic!("framed twice: {lengths:?} {encodings:?}"),
    }
    assert!(hosts.len() == 1 || (hosts.is_empty() && head.version == Version::Http10));
    let connect = method == "CONNECT";
    assert_eq!(head.may_switch, connect || !of("upgrade").is_empty());
    assert!(!connect || head.framing == Framing::Length(0));
    let path = match target.split_once("://") {
        _ if target.starts_with('/') => Some(target),
        Some((_, rest)) if !connect => rest.find('/').map(|slash| &rest[slash..]),
        _ => None,
    };
    assert!(path.is_none_or(|path| normalize(path).is_ok()) && (path.is_some() || connect || target == "*"));

    // Written out again from what was read, it says the same.
    let mut again = line.into_bytes();
    for field in fields.iter() {
        again.extend_from_slice(field.name.as_bytes());
        again.extend_from_slice(b": ");
        again.extend_from_slice(field.value);
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"\r\n");
    let limits = Limits { head_octets: again.len().max(Limits::default().head_octets), ..Limits::default() };
    assert_eq!(Scanner::new(limits).step(&again), Step::Head { octets: again.len(), head });
}
