//! A chunked body: it ends where a reading line by line says it ends, or nowhere.

use l7_parsers::http1::Limits;

use crate::{
    cut::Cut,
    http1::{Passage, scan},
};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

pub fn run(data: &[u8]) {
    let stream = [HEAD, data].concat();
    let whole = scan(&stream, Limits::default(), |left| left);
    let mut cut = Cut::of(data, 2);
    assert_eq!(whole, scan(&stream, Limits::default(), |left| cut.segment(left)), "cut otherwise");
    assert_eq!(whole, scan(&stream, Limits::default(), |_| 1), "octet by octet");
    match end_of_body(data) {
        Some(end) => {
            let end = HEAD.len() + end;
            assert!(whole.passed + whole.skipped >= end, "{whole:?}");
            let alone = scan(&stream[..end], Limits::default(), |left| left);
            assert_eq!((alone.passed, alone.between_requests, alone.refused), (end, true, None));
        }
        // The scan agrees that this is no end: there is one head, and the stream is in its body.
        None => {
            let Passage { heads, between_requests, .. } = &whole;
            assert_eq!((heads.len(), *between_requests), (1, false), "{whole:?}");
        }
    }
}

/// Octets of the body up to the end of its trailers; `None`: malformed, or not complete.
fn end_of_body(data: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line(&data[at..])?;
        at += line.len() + 2;
        match size(line)? {
            0 => break,
            size => {
                at = at.checked_add(usize::try_from(size).ok()?)?;
                if data.get(at..at + 2)? != b"\r\n" {
                    return None;
                }
                at += 2;
            }
        }
    }
    let mut fields = 0;
    let trailers = at;
    loop {
        let line = line(&data[at..])?;
        at += line.len() + 2;
        if at - trailers > Limits::default().head_octets {
            return None;
        }
        if line.is_empty() {
            return Some(at);
        }
        fields += 1;
        if fields > Limits::default().fields + 1 || !is_trailer(line) {
            return None;
        }
    }
}

/// A line without its CRLF; neither octet stands alone in it.
fn line(data: &[u8]) -> Option<&[u8]> {
    let line = &data[..data.windows(2).position(|pair| pair == b"\r\n")?];
    (!line.iter().any(|octet| b"\r\n".contains(octet))).then_some(line)
}

/// `size[;extensions]`, the size of at most 15 digits.
fn size(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let (digits, extensions) = match line.split_once(';') {
        Some((digits, extensions)) => (digits, Some(extensions)),
        None => (line, None),
    };
    let is_size = (1..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    // The CR counts, too.
    if extensions.is_some() && line.len() >= Limits::default().chunk_line_octets {
        return None;
    }
    if !is_size || !extensions.is_none_or(is_extension) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Words, `;`, `=` and quoted strings that are closed.
fn is_extension(mut text: &str) -> bool {
    while let Some(first) = text.chars().next() {
        if first != '"' {
            if !(first.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~;=".contains(first)) {
                return false;
            }
            text = &text[1..];
            continue;
        }
        let mut escaped = true;
        let Some(close) = text.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        }) else {
            return false;
        };
        if !text[..close].chars().all(|c| c == '\t' || (' '..='~').contains(&c)) {
            return false;
        }
        text = &text[close + 1..];
    }
    true
}

fn is_trailer(line: &[u8]) -> bool {
    const NEVER: &str = "content-length transfer-encoding host connection upgrade te trailer \
                         authorization content-encoding content-type content-range expect";
    if line.iter().any(|octet| *octet != b'\t' && (*octet < b' ' || *octet == 0x7f)) {
        return false;
    }
    let Some(colon) = line.iter().position(|octet| *octet == b':') else { return false };
    let Ok(name) = std::str::from_utf8(&line[..colon]) else { return false };
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
        && !NEVER.split_whitespace().any(|never| never.eq_ignore_ascii_case(name))
}
