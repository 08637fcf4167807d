//! A request of HTTP/2 as policy judges it and as the server gets it: one and the same form.

use std::borrow::Cow;

use l7_parsers::{authority, http2::hpack::Field, path};
use policy_engine::http::{HeaderAction, HttpRequest};

use super::fields::{Fields, Text, fault_of, is_token, is_value};
use crate::{request::RequestError, verdict::Judged};

/// A request head in normal form.
#[derive(Clone)]
pub(crate) struct Request {
    /// Without pseudo-headers and Host.
    fields: Fields,
    method: Text,
    scheme: Scheme,
    authority: Text,
    /// In normal form.
    path: Text,
    /// Octets of its body, where it says how many.
    pub(super) length: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Why a header block is no request that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// RFC 9113 §8.1.1: the stream is reset.
    Malformed(&'static str),
    /// Well formed, and answered with 400.
    Refused(RequestError),
}

impl From<RequestError> for Unreadable {
    fn from(error: RequestError) -> Self {
        Self::Refused(error)
    }
}

use Unreadable::Malformed;

/// The pseudo-headers of a request, by their place among the fields.
#[derive(Default)]
struct Pseudo {
    method: Option<usize>,
    scheme: Option<usize>,
    authority: Option<usize>,
    path: Option<usize>,
    number: usize,
}

impl Pseudo {
    fn read(block: &Fields) -> Result<Self, Unreadable> {
        let mut pseudo = Self::default();
        let mut is_over = false;
        for (number, field) in block.iter().enumerate() {
            if !field.name.starts_with(b":") {
                is_over = true;
                if let Some(fault) = fault_of(&field) {
                    return Err(Malformed(fault));
                }
                continue;
            }
            if is_over {
                return Err(Malformed("pseudo-header behind a header"));
            }
            let place = match field.name {
                b":method" => &mut pseudo.method,
                b":scheme" => &mut pseudo.scheme,
                b":authority" => &mut pseudo.authority,
                b":path" => &mut pseudo.path,
                _ => return Err(Malformed("pseudo-header that requests do not have")),
            };
            if place.replace(number).is_some() {
                return Err(Malformed("pseudo-header given twice"));
            }
            if !is_value(field.value) {
                return Err(Malformed("character that a pseudo-header cannot have"));
            }
            pseudo.number += 1;
        }
        Ok(pseudo)
    }
}

impl Request {
    /// From the fields of a HEADERS frame that opens a stream.
    pub(super) fn read(mut block: Fields, most_fields: usize) -> Result<Self, Unreadable> {
        let pseudo = Pseudo::read(&block)?;
        let method = block.value_of(pseudo.method.ok_or(Malformed("no :method"))?);
        match block.text(method) {
            Some("CONNECT") => return Err(RequestError::Http2Connect.into()),
            Some(name) if !name.is_empty() && name.bytes().all(is_token) => {}
            _ => return Err(Malformed("invalid :method")),
        }
        let scheme = pseudo.scheme.ok_or(Malformed("no :scheme"))?;
        let scheme = match block.text(block.value_of(scheme)) {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(RequestError::Scheme.into()),
        };
        let target = block.value_of(pseudo.path.ok_or(Malformed("no :path"))?);
        let path = match block.text(target) {
            None => return Err(Malformed("invalid :path")),
            Some("") => return Err(Malformed("empty :path")),
            Some("*") if block.text(method) == Some("OPTIONS") => target,
            Some(text) => match path::normalize(text).map_err(RequestError::Path)? {
                Cow::Borrowed(normal) if normal.len() == text.len() => target,
                normal => {
                    let normal = normal.into_owned();
                    block.keep(&normal, target)
                }
            },
        };
        let authority = pseudo.authority.map(|number| block.value_of(number));
        block.forget_first(pseudo.number);
        if block.len() > most_fields {
            return Err(RequestError::TooManyFields.into());
        }
        let length = length(&block)?;
        block.iter().try_for_each(|field| check(field.name, field.value))?;
        let authority = host(&mut block, authority)?;
        // RFC 9113 §8.2.3: rules see what every server makes of its parts.
        block.join("cookie", b"; ");
        Ok(Self { fields: block, method, scheme, authority, path, length })
    }

    /// As the server gets them: with :authority alone, which was judged, and without a Host beside it.
    pub(super) fn pseudo(&self) -> [Field<'_>; 4] {
        let scheme = match self.scheme {
            Scheme::Http => b"http".as_slice(),
            Scheme::Https => b"https",
        };
        let field = |name: &'static str, value: Text| Field {
            name: name.as_bytes(),
            value: self.text(value).as_bytes(),
            never_indexed: value.never_indexed,
        };
        [
            field(":method", self.method),
            Field { name: b":scheme", value: scheme, never_indexed: false },
            field(":authority", self.authority),
            field(":path", self.path),
        ]
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn is_head(&self) -> bool {
        self.text(self.method) == "HEAD"
    }

    fn text(&self, text: Text) -> &str {
        // It was checked when the request was read.
        self.fields.text(text).unwrap_or_default()
    }

    pub(super) fn facts(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.text(self.method),
            path: self.text(self.path),
            host: self.text(self.authority),
            headers: &self.fields,
        }
    }
}

impl Judged for Request {
    fn facts(&self) -> HttpRequest<'_> {
        self.facts()
    }

    fn apply(&mut self, action: &HeaderAction) {
        self.fields.apply(action);
    }
}

/// What :authority and Host say together. Takes the Host out.
fn host(block: &mut Fields, authority: Option<Text>) -> Result<Text, RequestError> {
    let mut hosts = (0..block.len()).filter(|number| block.iter().nth(*number).is_some_and(is_host));
    let host = hosts.next().map(|number| block.value_of(number));
    if hosts.next().is_some() {
        return Err(RequestError::SeveralHosts);
    }
    let text = |at: Text| block.text(at).map(str::as_bytes).ok_or(RequestError::InvalidHost);
    let said = match (authority, host) {
        (Some(authority), Some(host)) if !authority::same(text(authority)?, text(host)?) => {
            return Err(RequestError::HostMismatch);
        }
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        (None, None) => return Err(RequestError::NoHost),
    };
    authority::check(text(said)?).map_err(|_| RequestError::InvalidHost)?;
    if host.is_some() {
        block.remove("host");
    }
    Ok(said)
}

fn is_host(field: Field<'_>) -> bool {
    field.name == b"host"
}

/// One canonical number at most.
fn length(block: &Fields) -> Result<Option<u64>, RequestError> {
    let mut lengths = block.iter().filter(|field| field.name == b"content-length");
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(RequestError::InvalidLength);
    }
    canonical(length.value).map(Some).ok_or(RequestError::InvalidLength)
}

/// A number without a sign, spaces or leading zeros.
pub(super) fn canonical(text: &[u8]) -> Option<u64> {
    let is_canonical = text.iter().all(u8::is_ascii_digit)
        && (1..19).contains(&text.len())
        && (text == b"0" || text[0] != b'0');
    std::str::from_utf8(text).ok().filter(|_| is_canonical)?.parse().ok()
}

/// What the strict scan refuses in HTTP/1, too.
fn check(name: &[u8], value: &[u8]) -> Result<(), RequestError> {
    if matches!(name, b"content_length" | b"transfer_encoding") {
        return Err(RequestError::FramingAlias);
    }
    // RFC 9113 §8.2.1. Who writes the request as HTTP/1 loses the spaces that a rule has seen.
    match value {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err(RequestError::SpaceAroundValue),
        _ => Ok(()),
    }
}
