//! A request as policy judges it and as the upstream gets it: one and the same form.

mod fields;
mod hop;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts, uri};
use hyper::body::{Body, Incoming};
use l7_parsers::{
    authority,
    http1::{Framing, Head},
    path::{self, PathError},
};
use policy_engine::http::HttpRequest;

pub(crate) use fields::Fields;
pub(crate) use hop::{Closing, clean_response, is_http};

/// A request in normal form.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Origin form, `*`, or the authority of a CONNECT; HTTP/2: with scheme and authority.
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    pub(crate) body: Incoming,
    pub(crate) switch: Switch,
}

/// Whether the stream may stop being HTTP after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    No,
    Connect,
    Upgrade,
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
    /// The strict scan and the HTTP library do not agree on a head that both accept.
    #[error("request head with two readings")]
    TwoReadings,
}

impl Request {
    /// From a request that the strict scan has let through as `head`.
    pub(crate) fn from_http1(request: http::Request<Incoming>, head: Head) -> Result<Self, RequestError> {
        let (parts, body) = request.into_parts();
        let agrees = match head.framing {
            Framing::Length(length) => body.size_hint().exact() == Some(length),
            Framing::Chunked => body.size_hint().exact().is_none(),
        };
        if !agrees {
            return Err(RequestError::TwoReadings);
        }
        let Parts { method, uri, version, mut headers, .. } = parts;
        let connect = method == Method::CONNECT;
        let mut switch = hop::clean_request(&mut headers, version);
        if connect {
            switch = Switch::Connect;
        }
        if (switch != Switch::No || connect) && !head.may_switch {
            return Err(RequestError::TwoReadings);
        }
        let uri = if connect {
            uri
        } else {
            if let (None, Some(authority)) = (headers.get(header::HOST), uri.authority()) {
                let host = authority.as_str().parse().map_err(|_| RequestError::InvalidHost)?;
                headers.insert(header::HOST, host);
            }
            origin_form(&method, uri)?
        };
        // An HTTP/1.0 request that names its host is as good as an HTTP/1.1 one, and the upstream
        // connection can be kept.
        let version = if headers.contains_key(header::HOST) { Version::HTTP_11 } else { version };
        Ok(Self { method, uri, version, fields: Fields(headers), body, switch })
    }

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
        Ok(Self { method, uri, version, fields: Fields(headers), body, switch: Switch::No })
    }

    /// The path with its query, as judged; empty for CONNECT.
    pub(crate) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("", uri::PathAndQuery::as_str)
    }

    /// Host and port as the client wrote them; empty where it did not.
    pub(crate) fn host(&self) -> &str {
        match (self.uri.authority(), self.fields.0.get(header::HOST)) {
            (Some(authority), _) => authority.as_str(),
            (None, Some(host)) => host.to_str().unwrap_or_default(),
            (None, None) => "",
        }
    }

    /// What rules look at.
    pub(crate) fn facts(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method.as_str(),
            path: self.path(),
            host: self.host(),
            headers: &self.fields,
        }
    }

    /// Whether the client waits for a word before it sends the body.
    pub(crate) fn expects_continue(&self) -> bool {
        self.fields.0.contains_key(header::EXPECT)
    }

    pub(crate) fn is_grpc(&self) -> bool {
        let content_type = self.fields.0.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        content_type.is_some_and(|value| value.to_ascii_lowercase().starts_with(b"application/grpc"))
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
