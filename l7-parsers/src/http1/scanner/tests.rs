use proptest::prelude::*;

use super::*;
use crate::path::PathError;

/// What passed, which heads were seen, how it ended; the stream is shown in the given pieces.
fn run(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Head>, Option<Refusal>) {
    let mut scanner = Scanner::new(Limits { head_octets: 512, fields: 8, chunk_line_octets: 32 });
    let (mut passed, mut heads, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let octets = match scanner.step(&held) {
                Step::More => break,
                Step::Skip { octets } => {
                    held.drain(..octets);
                    continue;
                }
                Step::Head { octets, head } => {
                    heads.push(head);
                    octets
                }
                Step::Body { octets }
                | Step::Framing { octets }
                | Step::Trailers { octets }
                | Step::Opaque { octets } => octets,
                Step::Undecided => {
                    scanner.go_on();
                    continue;
                }
                Step::Refused(refusal) => return (passed, heads, Some(refusal)),
            };
            passed.extend(held.drain(..octets));
        }
    }
    (passed, heads, None)
}

fn refusal_of(stream: &[u8]) -> Option<Refusal> {
    run(&[stream]).2
}

#[test]
fn good_streams_pass_whole() {
    let streams: [&[u8]; 11] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://A/x HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA;x=\"a;\\\"b\"\r\n0123456789\r\n0;y\r\nT: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x-y\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9\t \r\nEmpty:\r\n\r\n",
    ];
    for stream in streams {
        let (passed, _, refusal) = run(&[stream]);
        assert_eq!(refusal, None, "{}", String::from_utf8_lossy(stream));
        assert_eq!(passed, stream);
    }
}

#[test]
fn an_empty_line_before_a_request_is_dropped_once() {
    let (passed, heads, refusal) = run(&[b"\r\nGET / HTTP/1.0\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n"]);
    assert_eq!((heads.len(), refusal), (2, None));
    assert_eq!(passed, b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(refusal_of(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"), Some(Refusal::InvalidRequestLine));
}

#[test]
fn refused_heads() {
    use Refusal::*;
    // A line each, put between a good request line and the end of the head.
    let lines: [(&str, Refusal); 39] = [
        ("Host: a\nX: y", BareLf),
        ("Host: a\rX: y", BareCr),
        ("Host: a\r\r", BareCr),
        ("X: \0", ControlCharacter),
        ("X: \u{7f}", ControlCharacter),
        ("X: a\r\n b", ObsFold),
        ("X: a\r\n\tb", ObsFold),
        ("Host : a", SpaceBeforeColon),
        ("Host\t: a", SpaceBeforeColon),
        ("X", NoColon),
        (": x", InvalidFieldName),
        ("X(: x", InvalidFieldName),
        ("X y: x", InvalidFieldName),
        ("\u{e9}: x", InvalidFieldName),
        ("X: y", NoHost),
        ("Host: a\r\nhost: a", SeveralHosts),
        ("Host: a b", InvalidHost),
        ("Host: a,b", InvalidHost),
        ("Host: u@a", InvalidHost),
        ("Host:", InvalidHost),
        ("Content-Length: 1\r\nContent-Length: 1", SeveralLengths),
        ("Content-Length: 1, 1", InvalidLength),
        ("Content-Length: +1", InvalidLength),
        ("Content-Length: -1", InvalidLength),
        ("Content-Length: 0x1", InvalidLength),
        ("Content-Length: 01", InvalidLength),
        ("Content-Length: 1 1", InvalidLength),
        ("Content-Length:", InvalidLength),
        ("Content-Length: 9223372036854775808", InvalidLength),
        ("Content_Length: 1", FramingAlias),
        ("Host: a\r\nContent-Length: 1\r\ntransfer_encoding: chunked", FramingAlias),
        ("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", LengthAndEncoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", SeveralEncodings),
        ("Transfer-Encoding: gzip, chunked", UnsupportedEncoding),
        ("Transfer-Encoding: chunked, identity", UnsupportedEncoding),
        ("Transfer-Encoding: xchunked", UnsupportedEncoding),
        ("Transfer-Encoding:", UnsupportedEncoding),
        ("Connection: close, Host", ConnectionNames),
        ("Expect: 200-ok", UnsupportedExpectation),
    ];
    for (line, refusal) in lines {
        let stream = format!("POST / HTTP/1.1\r\n{line}\r\n\r\n");
        let (passed, _, found) = run(&[stream.as_bytes()]);
        assert_eq!(found, Some(refusal), "{line:?}");
        assert!(passed.is_empty(), "{line:?}");
    }
}

#[test]
fn refused_request_lines() {
    use Refusal::*;
    for (line, refusal) in [
        ("GET /", Http09),
        ("GET", InvalidRequestLine),
        ("GET  / HTTP/1.1", InvalidRequestLine),
        ("GET / HTTP/1.1 ", InvalidRequestLine),
        ("GET / x HTTP/1.1", InvalidRequestLine),
        ("GET / http/1.1", InvalidRequestLine),
        ("GET / HTTP/1.10", InvalidRequestLine),
        ("GET / HTTP/2.0", UnsupportedVersion),
        ("GET / HTTP/1.2", UnsupportedVersion),
        (" GET / HTTP/1.1", InvalidMethod),
        ("G(T / HTTP/1.1", InvalidMethod),
        ("PRI * HTTP/2.0", InvalidMethod),
        ("GET a HTTP/1.1", TargetForm),
        ("GET * HTTP/1.1", TargetForm),
        ("GET a:80 HTTP/1.1", TargetForm),
        ("CONNECT /a HTTP/1.1", TargetForm),
        ("CONNECT a HTTP/1.1", TargetForm),
        ("CONNECT [::1] HTTP/1.1", TargetForm),
        ("GET https://a/ HTTP/1.1", TargetScheme),
        ("GET http://a HTTP/1.1", TargetForm),
        ("GET http://a?b/ HTTP/1.1", InvalidHost),
        ("GET http://u@a/ HTTP/1.1", InvalidHost),
        ("GET http://b/ HTTP/1.1", HostMismatch),
        ("CONNECT b:80 HTTP/1.1", HostMismatch),
        ("GET /a#b HTTP/1.1", InvalidTarget(PathError::Fragment)),
        ("GET /a%2fb HTTP/1.1", InvalidTarget(PathError::EncodedSlash)),
        ("GET /\u{e9} HTTP/1.1", InvalidTarget(PathError::InvalidCharacter)),
        ("GET http://a/\\ HTTP/1.1", InvalidTarget(PathError::Backslash)),
    ] {
        assert_eq!(refusal_of(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()), Some(refusal), "{line:?}");
    }
}

#[test]
fn refused_chunks() {
    use Refusal::*;
    for (body, refusal) in [
        ("\r\n", InvalidChunkSize),
        ("x\r\n", InvalidChunkSize),
        ("0x3\r\n", InvalidChunkSize),
        ("+3\r\n", InvalidChunkSize),
        (" 3\r\n", InvalidChunkSize),
        ("3 \r\n", InvalidChunkSize),
        ("1234567890123456\r\n", InvalidChunkSize),
        ("3\nabc\r\n", BareLf),
        ("3\rabc\r\n", BareCr),
        ("3\r\nabc\n", BareLf),
        ("3\r\nabcd\r\n", ChunkOverrun),
        ("3\r\nabc\rx", BareCr),
        ("3;a\nb\r\n", BareLf),
        ("3; a\r\n", InvalidChunkExtension),
        ("3;a=\"\u{1}\"\r\n", InvalidChunkExtension),
        ("3;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n", ChunkLineTooLong),
        ("0\r\nHost: a\r\n\r\n", ForbiddenTrailer),
        ("0\r\nContent-Length: 1\r\n\r\n", ForbiddenTrailer),
        ("0\r\nX : a\r\n\r\n", SpaceBeforeColon),
        ("0\r\nX: a\n\r\n", BareLf),
    ] {
        let stream = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(refusal_of(stream.as_bytes()), Some(refusal), "{body:?}");
    }
    assert_eq!(refusal_of(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(EncodingInHttp10));
    assert_eq!(
        refusal_of(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"),
        Some(ConnectBody)
    );
}

#[test]
fn limits_hold_while_the_head_is_still_coming() {
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 600]].concat();
    assert_eq!(refusal_of(&endless), Some(Refusal::HeadTooLarge));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(8));
    assert_eq!(refusal_of(many.as_bytes()), Some(Refusal::TooManyFields));
}

#[test]
fn nothing_passes_after_a_possible_switch() {
    let mut scanner = Scanner::new(Limits::default());
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert!(matches!(scanner.step(head), Step::Head { octets, .. } if octets == head.len()));
    assert_eq!(scanner.step(b"\x81\x00"), Step::Undecided);
    scanner.switch();
    assert_eq!(scanner.step(b"\x81\x00"), Step::Opaque { octets: 2 });
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "3\r\nabc\r\n",
        "0\r\n",
        "T: 1\r\n",
        "\r\n",
        "0\r\n\r\n",
        "a;b=c\r\n0123456789\r\n",
        "\n",
        "\r",
        " ",
        "Host: b\r\n",
        "Content-Length: 3\r\n",
        "\0",
        "x",
        "Upgrade: h2c\r\n",
        "PUT / HTTP/1.1\r\n",
    ]);
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn cuts_make_no_difference(stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let whole = run(&[&stream]);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&run(&pieces), &whole);
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&run(&octets), &whole);
    }

    #[test]
    fn arbitrary_octets_never_panic(stream in prop::collection::vec(any::<u8>(), 0..200)) {
        let octets: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(run(&octets), run(&[&stream]));
    }
}
