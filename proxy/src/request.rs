//! A request of HTTP/2 as policy judges it and as the upstream gets it: one and the same form.

mod fields;
mod hop;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts, uri};
use hyper::body::Incoming;
use l7_parsers::{
    authority,
    path::{self, PathError},
};
use policy_engine::http::{HeaderAction, HttpRequest};

use fields::Fields;
pub(crate) use fields::FieldsOf;
pub(crate) use hop::{clean_response, is_http};

use crate::{
    body::{Gate, RequestBody},
    verdict::Judged,
};

/// A request in normal form.
pub(crate) struct Request {
    head: Head,
    version: Version,
    body: Incoming,
}

/// What is judged of it.
#[derive(Clone)]
pub(crate) struct Head {
    method: Method,
    /// With scheme and authority; its path in normal form.
    uri: Uri,
    fields: Fields,
}

/// Why a request that parses is refused all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("invalid request target: {0}")]
    Path(#[from] PathError),
    #[error("request target of a form that its method does not have")]
    TargetForm,
    #[error("invalid Host or :authority")]
    InvalidHost,
    #[error("no Host and no :authority")]
    NoHost,
    #[error("several Host headers")]
    SeveralHosts,
    #[error("request target and Host differ")]
    HostMismatch,
    #[error("invalid Content-Length")]
    InvalidLength,
    #[error("too many headers")]
    TooManyFields,
    #[error("header name that some servers take for one of framing")]
    FramingAlias,
    #[error("space around the value of a header")]
    SpaceAroundValue,
    #[error("CONNECT over HTTP/2 is not supported")]
    Http2Connect,
    #[error("scheme other than http and https")]
    Scheme,
    /// Two readings of one head differ.
    #[error("request head with two readings")]
    TwoReadings,
}

impl Request {
    /// From a request of an HTTP/2 stream, whose framing the HTTP library has checked.
    pub(crate) fn from_http2(
        request: http::Request<Incoming>,
        most_fields: usize,
    ) -> Result<Self, RequestError> {
        let (parts, body) = request.into_parts();
        let Parts { method, uri, version, mut headers, .. } = parts;
        if method == Method::CONNECT {
            return Err(RequestError::Http2Connect);
        }
        if headers.len() > most_fields {
            return Err(RequestError::TooManyFields);
        }
        check_length(&headers)?;
        headers.iter().try_for_each(|(name, value)| check_field(name, value))?;
        let host = {
            let mut hosts = headers.get_all(header::HOST).iter();
            let host = hosts.next().cloned();
            if hosts.next().is_some() {
                return Err(RequestError::SeveralHosts);
            }
            host
        };
        let authority = match (uri.authority(), &host) {
            (Some(authority), Some(host))
                if !authority::same(authority.as_str().as_bytes(), host.as_bytes()) =>
            {
                return Err(RequestError::HostMismatch);
            }
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, Some(host)) => host.as_bytes(),
            (None, None) => return Err(RequestError::NoHost),
        };
        authority::check(authority).map_err(|_| RequestError::InvalidHost)?;
        let scheme = match uri.scheme_str() {
            Some("https") => uri::Scheme::HTTPS,
            Some("http") | None => uri::Scheme::HTTP,
            Some(_) => return Err(RequestError::Scheme),
        };
        let mut parts = uri::Parts::default();
        parts.authority = Some(authority.try_into().map_err(|_| RequestError::InvalidHost)?);
        parts.scheme = Some(scheme);
        parts.path_and_query = origin_form(&method, uri)?.into_parts().path_and_query;
        let uri = Uri::from_parts(parts).map_err(|_| RequestError::TargetForm)?;
        // The upstream's library writes :authority; a Host beside it would be a second opinion.
        headers.remove(header::HOST);
        Ok(Self { head: Head { method, uri, fields: Fields(headers) }, version, body })
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }
}

impl Head {
    /// The path with its query, as judged; empty for CONNECT.
    fn path(&self) -> &str {
        self.uri.path_and_query().map_or("", uri::PathAndQuery::as_str)
    }

    /// Host and port as the client wrote them; empty where it did not.
    fn host(&self) -> &str {
        match (self.uri.authority(), self.fields.0.get(header::HOST)) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
            (None, None) => "",
        }
    }

    pub(crate) fn facts(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method.as_str(),
            path: self.path(),
            host: self.host(),
            headers: &self.fields,
        }
    }
}

impl Judged for Request {
    fn facts(&self) -> HttpRequest<'_> {
        self.head.facts()
    }

    fn apply(&mut self, action: &HeaderAction) {
        self.head.fields.apply(action);
    }
}

/// A request as the HTTP library sends it.
pub(crate) struct Outbound {
    pub(crate) request: http::Request<RequestBody>,
    /// Opens when the client may send its body; `None`: it does not wait.
    pub(crate) gate: Option<Arc<Gate>>,
}

impl From<Request> for Outbound {
    fn from(request: Request) -> Self {
        let Request { head: Head { method, uri, fields }, version, body } = request;
        let gate = fields.0.contains_key(header::EXPECT).then(|| Arc::new(Gate::default()));
        let mut request = http::Request::new(RequestBody::new(body, gate.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = fields.0;
        Self { request, gate }
    }
}

/// The target without scheme and authority, its path in normal form.
fn origin_form(method: &Method, uri: Uri) -> Result<Uri, RequestError> {
    let Some(target) = uri.path_and_query().map(uri::PathAndQuery::as_str) else {
        return Err(RequestError::TargetForm);
    };
    if target == "*" && *method == Method::OPTIONS {
        return Ok(Uri::from_static("*"));
    }
    let normal = path::normalize(target)?;
    if uri.authority().is_none() && *normal == *target {
        return Ok(uri);
    }
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(normal.as_ref().try_into().map_err(|_| RequestError::TargetForm)?);
    Uri::from_parts(parts).map_err(|_| RequestError::TargetForm)
}

/// One canonical number at most: the library checks the body against it, but not its spelling.
fn check_length(headers: &HeaderMap) -> Result<(), RequestError> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter().map(|value| value.as_bytes());
    let Some(length) = lengths.next() else { return Ok(()) };
    let canonical = length.iter().all(u8::is_ascii_digit)
        && (1..19).contains(&length.len())
        && (length == b"0" || length[0] != b'0');
    if canonical && lengths.next().is_none() { Ok(()) } else { Err(RequestError::InvalidLength) }
}

/// What the strict scan refuses in HTTP/1, and the HTTP/2 library lets through.
fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), RequestError> {
    if matches!(name.as_str(), "content_length" | "transfer_encoding") {
        return Err(RequestError::FramingAlias);
    }
    // RFC 9113 §8.2.1. Who writes the request as HTTP/1 loses the spaces that a rule has seen.
    match value.as_bytes() {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => Err(RequestError::SpaceAroundValue),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the strict scan lets through the library must take as it is: a request that only the
    /// library refuses has no reason of ours in its record.
    #[test]
    fn the_library_reads_every_accepted_target_the_same_way() {
        let mut accepted = 0;
        for octet in 0..=0x7f_u8 {
            for target in [format!("/a{}b", char::from(octet)), format!("/a?b{}c", char::from(octet))] {
                let Ok(normal) = path::normalize(&target) else { continue };
                let uri: Uri = normal.parse().unwrap_or_else(|error| panic!("{normal:?}: {error}"));
                assert_eq!(uri.path_and_query().map(uri::PathAndQuery::as_str), Some(&*normal));
                assert!(uri.authority().is_none());
                accepted += 1;
            }
        }
        assert!(accepted > 150, "{accepted}");
    }
}
