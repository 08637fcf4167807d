//! A complete request head.

use super::{Limits, Refusal, Target, fields};
use crate::authority;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Octets; 0 also where the head says nothing.
    Length(u64),
    Chunked,
}

/// What a head says about the octets that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub version: Version,
    pub framing: Framing,
    /// CONNECT, or an Upgrade field: after the body the stream may stop being HTTP.
    pub may_switch: bool,
}

impl Head {
    /// Reads a head, from the request line to the empty line.
    pub(super) fn parse(head: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let mut lines = fields::lines(head);
        let line = lines.next().unwrap_or_default();
        let (method, target, version) = request_line(line)?;
        let target = Target::parse(method, target)?;

        let mut seen = Seen::default();
        let mut count = 0;
        for line in lines {
            count += 1;
            if count > limits.fields {
                return Err(Refusal::TooManyFields);
            }
            let (name, value) = fields::split(line)?;
            seen.field(name, value)?;
        }
        seen.check_host(version, &target)?;
        let framing = seen.framing(version)?;
        let connect = method == b"CONNECT";
        if connect && framing != Framing::Length(0) {
            return Err(Refusal::ConnectBody);
        }
        Ok(Self { version, framing, may_switch: connect || seen.upgrade })
    }
}

/// A head that the scanner has accepted, read again for its parts.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    pub method: &'a str,
    pub target: Target<'a>,
    head: &'a [u8],
}

impl<'a> RequestParts<'a> {
    /// `None`: no scanner has accepted these octets.
    #[must_use]
    pub fn read(head: &'a [u8]) -> Option<Self> {
        let (method, target, _) = request_line(fields::lines(head).next()?).ok()?;
        let target = Target::parse(method, target).ok()?;
        Some(Self { method: std::str::from_utf8(method).ok()?, target, head })
    }

    /// In the order in which they came.
    pub fn fields(&self) -> impl Iterator<Item = fields::Field<'a>> + use<'a> {
        fields::of_head(self.head)
    }
}

fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], Version), Refusal> {
    let mut parts = line.split(|octet| *octet == b' ');
    let method = parts.next().unwrap_or_default();
    // PRI is the first word of HTTP/2's preface and no method of HTTP/1.
    if !fields::is_token(method) || method == b"PRI" {
        return Err(Refusal::InvalidMethod);
    }
    let target = parts.next().ok_or(Refusal::InvalidRequestLine)?;
    if target.is_empty() {
        return Err(Refusal::InvalidRequestLine);
    }
    let version = match parts.next() {
        None => return Err(Refusal::Http09),
        Some(b"HTTP/1.1") => Version::Http11,
        Some(b"HTTP/1.0") => Version::Http10,
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::UnsupportedVersion);
        }
        Some(_) => return Err(Refusal::InvalidRequestLine),
    };
    if parts.next().is_some() {
        return Err(Refusal::InvalidRequestLine);
    }
    Ok((method, target, version))
}

#[derive(Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl<'a> Seen<'a> {
    fn field(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        // Most names differ in length already.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                once(&mut self.host, value, Refusal::SeveralHosts)?;
                authority::check(value)?;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                once(&mut self.length, length(value)?, Refusal::SeveralLengths)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Refusal::SeveralEncodings);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::UnsupportedEncoding);
                }
                self.chunked = true;
            }
            // Where names become variables, `_` and `-` are one.
            14 if name.eq_ignore_ascii_case(b"content_length") => return Err(Refusal::FramingAlias),
            17 if name.eq_ignore_ascii_case(b"transfer_encoding") => return Err(Refusal::FramingAlias),
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            6 if name.eq_ignore_ascii_case(b"expect") && !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::UnsupportedExpectation);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => connection(value)?,
            _ => {}
        }
        Ok(())
    }

    fn check_host(&self, version: Version, target: &Target<'_>) -> Result<(), Refusal> {
        let Some(host) = self.host else {
            return if version == Version::Http10 { Ok(()) } else { Err(Refusal::NoHost) };
        };
        match target {
            Target::Absolute { authority, .. } | Target::Authority(authority) => {
                // For CONNECT clients write Host with and without the port.
                let without_port = authority.rsplit_once(':').map_or(*authority, |(host, _)| host);
                let connect = matches!(target, Target::Authority(_));
                if authority::same(host, authority.as_bytes())
                    || connect && host.eq_ignore_ascii_case(without_port.as_bytes())
                {
                    Ok(())
                } else {
                    Err(Refusal::HostMismatch)
                }
            }
            Target::Origin(_) | Target::Asterisk => Ok(()),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::LengthAndEncoding),
            (true, None) if version == Version::Http10 => Err(Refusal::EncodingInHttp10),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T, several: Refusal) -> Result<(), Refusal> {
    if slot.replace(value).is_some() { Err(several) } else { Ok(()) }
}

/// A single number, in the one way to write it: no list, sign, space or leading zero.
pub(super) fn length(value: &[u8]) -> Result<u64, Refusal> {
    let canonical =
        !value.is_empty() && value.iter().all(u8::is_ascii_digit) && (value == b"0" || value[0] != b'0');
    if !canonical {
        return Err(Refusal::InvalidLength);
    }
    let length: u64 =
        std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Refusal::InvalidLength)?;
    // Room for parsers that count in signed numbers or keep the largest ones for themselves.
    if length > i64::MAX as u64 { Err(Refusal::InvalidLength) } else { Ok(length) }
}

/// A field named in Connection is taken out by each hop: that must not befall what frames or routes.
fn connection(value: &[u8]) -> Result<(), Refusal> {
    let kept: [&[u8]; 6] = [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"authorization",
    ];
    for option in value.split(|octet| *octet == b',').map(fields::trim) {
        if !option.is_empty() && !fields::is_token(option) {
            return Err(Refusal::ConnectionNames);
        }
        if kept.iter().any(|name| name.eq_ignore_ascii_case(option)) {
            return Err(Refusal::ConnectionNames);
        }
    }
    Ok(())
}
