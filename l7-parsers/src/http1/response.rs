//! A complete response head.

use super::{
    Framing, Limits, Refusal, Version,
    fields::{self, Field, SectionScan},
    head,
};

/// What a response head says about itself and the octets that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// Of one Content-Length, or of several that are equal.
    pub length: Option<u64>,
    pub chunked: bool,
}

/// How the end of a response's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    Framed(Framing),
    UntilClose,
}

/// Looks for the end of a response head, each octet once.
#[derive(Debug)]
pub struct ResponseScan(SectionScan);

impl ResponseScan {
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a scan that begins, not a default one")]
    pub fn new() -> Self {
        Self(SectionScan::new())
    }

    /// `input`: all octets since the head's first. `None`: its last has not come yet; else how many
    /// octets it has.
    ///
    /// # Errors
    /// [`Refusal`] where it is malformed, or can be read in several ways.
    pub fn advance(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<(usize, ResponseHead)>, Refusal> {
        let Some(octets) = self.0.advance(input, limits)? else { return Ok(None) };
        ResponseHead::parse(&input[..octets], limits).map(|head| Some((octets, head)))
    }
}

impl ResponseHead {
    fn parse(head: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut lines = fields::lines(head);
        let (version, status, _) = status_line(lines.next().unwrap_or_default())?;
        let mut parsed = Self { version, status, length: None, chunked: false };
        for (count, line) in (1..).zip(lines) {
            if count > limits.fields {
                return Err(Refusal::TooManyFields);
            }
            let (name, value) = fields::split(line)?;
            parsed.field(name, value)?;
        }
        if parsed.chunked && version == Version::Http10 {
            return Err(Refusal::EncodingInHttp10);
        }
        Ok(parsed)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = head::length(value)?;
            if self.length.replace(length).is_some_and(|other| other != length) {
                return Err(Refusal::SeveralLengths);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked {
                return Err(Refusal::SeveralEncodings);
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::UnsupportedEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// RFC 9112 §6.3, for the response to a request that is no CONNECT; `head`: to a HEAD.
    #[must_use]
    pub fn framing(&self, head: bool) -> ResponseFraming {
        ResponseFraming::Framed(match (self.status, self.chunked, self.length) {
            _ if head => Framing::Length(0),
            (100..=199 | 204 | 304, ..) => Framing::Length(0),
            (_, true, _) => Framing::Chunked,
            (_, false, Some(length)) => Framing::Length(length),
            (_, false, None) => return ResponseFraming::UntilClose,
        })
    }

    /// The words behind the status of a head that a scan has accepted, and its fields in order.
    pub fn parts(head: &[u8]) -> (&[u8], impl Iterator<Item = Field<'_>>) {
        let line = fields::lines(head).next().unwrap_or_default();
        let reason = status_line(line).map_or(&[][..], |(_, _, reason)| reason);
        (reason, fields::of_head(head))
    }
}

fn status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), Refusal> {
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::Http11,
        Some(b"HTTP/1.0 ") => Version::Http10,
        _ => return Err(Refusal::InvalidStatusLine),
    };
    let (digits, reason) = match &line[9..] {
        [a, b, c] => ([*a, *b, *c], &[][..]),
        [a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
        _ => return Err(Refusal::InvalidStatusLine),
    };
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return Err(Refusal::InvalidStatusLine);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    Ok((version, status, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(octets: &str) -> Result<ResponseHead, Refusal> {
        let mut scan = ResponseScan::new();
        let whole = scan.advance(octets.as_bytes(), &Limits::default()).map(|head| head.unwrap().1);
        // However the stream is cut.
        let mut scan = ResponseScan::new();
        let cut = (1..=octets.len())
            .find_map(|end| scan.advance(&octets.as_bytes()[..end], &Limits::default()).transpose());
        assert_eq!(cut.unwrap().map(|head| head.1), whole, "{octets:?}");
        whole
    }

    #[test]
    fn framing_of_good_heads() {
        use ResponseFraming::{Framed, UntilClose};
        for (octets, is_head, framing) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framed(Framing::Length(3))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, Framed(Framing::Length(0))),
            (
                "HTTP/1.1 200\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\n",
                false,
                Framed(Framing::Length(3)),
            ),
            ("HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\n\r\n", false, Framed(Framing::Chunked)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
                false,
                Framed(Framing::Chunked),
            ),
            ("HTTP/1.0 200 OK\r\n\r\n", false, UntilClose),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", false, Framed(Framing::Length(0))),
            (
                "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
                false,
                Framed(Framing::Length(0)),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", false, Framed(Framing::Length(0))),
        ] {
            assert_eq!(head(octets).unwrap().framing(is_head), framing, "{octets:?}");
        }
    }

    #[test]
    fn refused_heads() {
        use Refusal::*;
        for (octets, refusal) in [
            ("HTTP/1.1 200 OK\nX: y\n\n", BareLf),
            ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", ControlCharacter),
            ("HTTP/2 200 OK\r\n\r\n", InvalidStatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", InvalidStatusLine),
            ("HTTP/1.1 20 OK\r\n\r\n", InvalidStatusLine),
            ("HTTP/1.1 099 OK\r\n\r\n", InvalidStatusLine),
            ("HTTP/1.1 2000\r\n\r\n", InvalidStatusLine),
            ("\r\n\r\n", InvalidStatusLine),
            ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", ObsFold),
            ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", SpaceBeforeColon),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", SeveralLengths),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n", InvalidLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", InvalidLength),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", UnsupportedEncoding),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                SeveralEncodings,
            ),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", EncodingInHttp10),
        ] {
            assert_eq!(head(octets), Err(refusal), "{octets:?}");
        }
    }

    #[test]
    fn parts_of_an_accepted_head() {
        let octets = b"HTTP/1.1 404 Gone Fishing\r\nX: y \r\nEmpty:\r\n\r\n";
        let (reason, fields) = ResponseHead::parts(octets);
        assert_eq!(reason, b"Gone Fishing");
        let fields: Vec<_> = fields.map(|field| (field.name, field.value)).collect();
        assert_eq!(fields, [("X", &b"y"[..]), ("Empty", b"")]);
    }
}
