//! Answers of the proxy's own, in the words of the client's protocol.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use l7_parsers::http2::frame::{Code, ErrorCode};
use policy_engine::http::{Headers, HttpRequest};

/// What the client of a denied request is told: the same whoever denied it and why.
const DENIED: &str = "Access denied";
pub(crate) const POLICY_CHANGED: &str = "Access denied: the policy has changed";
pub(crate) const FAILED: &str = "Upstream failure";

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// An answer that no server gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

/// What a client understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    Http,
    /// gRPC or gRPC-Web, with messages of this content type.
    Grpc(HeaderValue),
}

impl Tongue {
    pub(crate) fn of(request: &HttpRequest<'_>) -> Self {
        let content_type = request.grpc().and_then(|_| request.header(header::CONTENT_TYPE.as_str()));
        content_type.and_then(|octets| HeaderValue::from_bytes(&octets).ok()).map_or(Self::Http, Self::Grpc)
    }

    /// Of a request that is none which could be judged.
    pub(crate) fn of_fields(headers: &dyn Headers) -> Self {
        Self::of(&HttpRequest { method: "", path: "", host: "", headers })
    }
}

/// 403; to a gRPC client the same in its own words.
pub(crate) fn denied(tongue: Tongue) -> Answer {
    match tongue {
        Tongue::Http => text(Tongue::Http, StatusCode::FORBIDDEN, DENIED),
        Tongue::Grpc(content_type) => trailers_only(content_type, GrpcStatus::PermissionDenied, DENIED),
    }
}

/// A line of plain text; to a gRPC client the status that stands for the same, with that text.
pub(crate) fn text(tongue: Tongue, status: StatusCode, line: &str) -> Answer {
    match tongue {
        Tongue::Http => Answer {
            status,
            fields: vec![(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))],
            body: Bytes::from(format!("{line}\r\n")),
        },
        Tongue::Grpc(content_type) => trailers_only(content_type, GrpcStatus::from(status), line),
    }
}

/// A header block without a body: what gRPC calls trailers-only, and its clients for the web take as
/// well, whether the body that is not there would have been base64 or not.
fn trailers_only(content_type: HeaderValue, status: GrpcStatus, message: &str) -> Answer {
    let fields = vec![
        (header::CONTENT_TYPE, content_type),
        (GRPC_STATUS, HeaderValue::from(status as u16)),
        (GRPC_MESSAGE, encoded(message)),
    ];
    Answer { status: StatusCode::OK, fields, body: Bytes::new() }
}

/// A denied call that the client is in the middle of.
pub(crate) fn denied_now(tongue: Tongue) -> Answer {
    match tongue {
        Tongue::Http => denied(tongue),
        Tongue::Grpc(content_type) => {
            trailers_only(content_type, GrpcStatus::PermissionDenied, POLICY_CHANGED)
        }
    }
}

/// What ends a call whose server is gone in the middle of it, or reset it.
pub(crate) fn failed(tongue: Tongue, status: StatusCode, reset: Option<Code>) -> Answer {
    match (tongue, reset) {
        (Tongue::Grpc(content_type), Some(reason)) => {
            trailers_only(content_type, GrpcStatus::from(reason), FAILED)
        }
        (tongue, _) => text(tongue, status, FAILED),
    }
}

/// The trailers that end an answer which has begun.
pub(crate) fn trailers(status: GrpcStatus, message: &str) -> Vec<(HeaderName, HeaderValue)> {
    vec![(GRPC_STATUS, HeaderValue::from(status as u16)), (GRPC_MESSAGE, encoded(message))]
}

/// The same as the last frame of a body of gRPC-Web.
pub(crate) fn trailers_in_body(status: GrpcStatus, message: &str) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in trailers(status, message) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    [&[0x80][..], &length.to_be_bytes(), &lines].concat()
}

/// In the alphabet of RFC 4648 §4, padded.
pub(crate) fn base64(octets: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for place in 0..4 {
            let value = (bits >> (18 - 6 * place)) & 63;
            text.push(if place <= group.len() { ALPHABET[value as usize] } else { b'=' });
        }
    }
    text
}

/// Of gRPC's status codes those that a proxy has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcStatus {
    Cancelled = 1,
    Unknown = 2,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Internal = 13,
    Unavailable = 14,
}

/// As clients read such an HTTP status themselves (http-grpc-status-mapping.md of the gRPC project);
/// 431 is what gRPC calls an exhausted resource.
impl From<StatusCode> for GrpcStatus {
    fn from(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::Internal,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::ResourceExhausted,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Self::Unavailable
            }
            _ => Self::Unknown,
        }
    }
}

/// As PROTOCOL-HTTP2.md of the gRPC project maps a stream's reset.
impl From<Code> for GrpcStatus {
    fn from(code: Code) -> Self {
        match ErrorCode::from_u32(code.0) {
            Some(ErrorCode::Cancel) => Self::Cancelled,
            Some(ErrorCode::RefusedStream) => Self::Unavailable,
            Some(ErrorCode::EnhanceYourCalm) => Self::ResourceExhausted,
            Some(ErrorCode::InadequateSecurity) => Self::PermissionDenied,
            Some(ErrorCode::StreamClosed) => Self::Unknown,
            _ => Self::Internal,
        }
    }
}

/// A message in the form of its header: visible ASCII and spaces as they are, all else and `%` as
/// percent-encoded UTF-8.
fn encoded(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for octet in message.bytes() {
        match octet {
            b' '..=b'~' if octet != b'%' => text.push(char::from(octet)),
            _ => text.push_str(&format!("%{octet:02X}")),
        }
    }
    // Only what a header may hold is left.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(DENIED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
        let found = answer.fields.iter().find(|(own, _)| own == name);
        found.and_then(|(_, value)| value.to_str().ok()).unwrap_or_default()
    }

    #[test]
    fn each_client_in_its_own_words() {
        for (content_type, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web+json", true),
            ("application/grpc-web-text", true),
            ("application/grpcish", false),
            ("application/json", false),
        ] {
            let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
            let answer = denied(Tongue::of_fields(&headers));
            let (status, code) = if grpc { (200, "7") } else { (403, "") };
            assert_eq!((answer.status.as_u16(), field(&answer, "grpc-status")), (status, code));
            assert_eq!(answer.body.is_empty(), grpc);
            assert_eq!(field(&answer, "content-type"), if grpc { content_type } else { "text/plain" });
        }
    }

    #[test]
    fn the_end_of_a_web_answer() {
        let frame = trailers_in_body(GrpcStatus::PermissionDenied, "no");
        assert_eq!(frame, *b"\x80\0\0\0\x22grpc-status: 7\r\ngrpc-message: no\r\n");
        for (octets, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(octets.as_bytes()), text.as_bytes());
        }
        let mut messages = l7_parsers::grpc::Messages::new(l7_parsers::grpc::Form::WebText);
        messages.read(&base64(&frame));
        assert_eq!(messages.status(), Some(7));
    }

    #[test]
    fn statuses_and_messages() {
        let grpc = || Tongue::Grpc(HeaderValue::from_static("application/grpc"));
        for (status, code) in
            [(400, "13"), (403, "7"), (408, "2"), (431, "8"), (502, "14"), (503, "14"), (504, "14")]
        {
            let answer = text(grpc(), StatusCode::from_u16(status).unwrap(), "100 % süß\n");
            assert_eq!((answer.status.as_u16(), field(&answer, "grpc-status")), (200, code));
            assert_eq!(field(&answer, "grpc-message"), "100 %25 s%C3%BC%C3%9F%0A");
        }
    }
}
