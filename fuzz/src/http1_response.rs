//! What a server answers: however it is cut its head is the same, another parser reads the same, and
//! its body ends where one plain reading says.

use l7_parsers::http1::{
    Body, Framing, Limits, Part, Refusal, ResponseFraming, ResponseHead, ResponseScan, Version,
};

use crate::cut::Cut;

pub fn run(data: &[u8]) {
    let whole = head(data, |left| left);
    let mut cut = Cut::of(data, 3);
    assert_eq!(whole, head(data, |left| cut.segment(left)), "cut otherwise");
    assert_eq!(whole, head(data, |_| 1), "octet by octet");
    let Ok(Some((octets, head))) = whole else { return };
    read_again(&data[..octets], head);

    for to_head in [false, true] {
        let new = || match head.framing(to_head) {
            ResponseFraming::Framed(framing) => Body::new(framing),
            ResponseFraming::UntilClose => Body::until_close(),
        };
        let rest = &data[octets..];
        let read = body(new(), rest, |left| left);
        assert_eq!(read, body(new(), rest, |left| cut.segment(left)), "body cut otherwise");
        match head.framing(to_head) {
            ResponseFraming::UntilClose => assert_eq!(read.content, rest),
            ResponseFraming::Framed(Framing::Length(length)) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
                assert_eq!((read.content.as_slice(), read.refused), (&rest[..length], None));
            }
            ResponseFraming::Framed(Framing::Chunked) => {}
        }
    }
}

type Scanned = Result<Option<(usize, ResponseHead)>, Refusal>;

fn head(data: &[u8], mut next: impl FnMut(usize) -> usize) -> Scanned {
    let (mut scan, mut shown) = (ResponseScan::new(), 0);
    while shown < data.len() {
        shown += next(data.len() - shown).clamp(1, data.len() - shown);
        if let Some(found) = scan.advance(&data[..shown], &Limits::default())? {
            return Ok(Some(found));
        }
        assert!(shown <= Limits::default().head_octets);
    }
    Ok(None)
}

#[derive(Debug, PartialEq)]
struct Read {
    content: Vec<u8>,
    consumed: usize,
    complete: bool,
    refused: Option<Refusal>,
}

fn body(mut body: Body, data: &[u8], mut next: impl FnMut(usize) -> usize) -> Read {
    let mut read = Read { content: Vec::new(), consumed: 0, complete: false, refused: None };
    let mut shown = 0;
    while !body.is_complete() {
        let octets = match body.advance(&data[read.consumed..shown], &Limits::default()) {
            Err(refusal) => {
                read.refused = Some(refusal);
                return read;
            }
            Ok(Part::More) if shown == data.len() => return read,
            Ok(Part::More) => {
                shown += next(data.len() - shown).clamp(1, data.len() - shown);
                continue;
            }
            Ok(Part::Content { octets }) => {
                read.content.extend_from_slice(&data[read.consumed..read.consumed + octets]);
                octets
            }
            Ok(Part::Framing { octets } | Part::Trailers { octets }) => octets,
        };
        assert!(octets > 0 && read.consumed + octets <= shown);
        read.consumed += octets;
    }
    read.complete = true;
    read
}

fn read_again(bytes: &[u8], head: ResponseHead) {
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut slots);
    assert_eq!(response.parse(bytes), Ok(httparse::Status::Complete(bytes.len())), "a head for everybody");
    assert_eq!(response.code, Some(head.status));
    assert_eq!(response.version, Some(u8::from(head.version == Version::Http11)));
    let fields: Vec<(&str, &[u8])> = response.headers.iter().map(|field| (field.name, field.value)).collect();
    let (_, read) = ResponseHead::parts(bytes);
    assert_eq!(read.map(|field| (field.name, field.value)).collect::<Vec<_>>(), fields);
    let of = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| *value).collect()
    };
    let (lengths, encodings) = (of("content-length"), of("transfer-encoding"));
    let length = head.length.map(|length| length.to_string());
    assert!(lengths.iter().all(|value| Some(*value) == length.as_deref().map(str::as_bytes)));
    assert_eq!((lengths.is_empty(), encodings.len()), (length.is_none(), usize::from(head.chunked)));
    assert!(encodings.iter().all(|value| value.eq_ignore_ascii_case(b"chunked")));
}
