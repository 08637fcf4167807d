//! Answers of the proxy's own, in the words of the client's protocol.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use policy_engine::http::{Headers, HttpRequest};

use crate::body::ResponseBody;

/// What the client of a denied request is told: the same whoever denied it and why.
const DENIED: &str = "Access denied";

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
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

/// Of gRPC's status codes those that a proxy has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrpcStatus {
    Unknown = 2,
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

impl From<Answer> for Response<ResponseBody> {
    fn from(answer: Answer) -> Self {
        let mut response = Response::new(ResponseBody::Own(answer.body));
        *response.status_mut() = answer.status;
        response.headers_mut().extend(answer.fields);
        response
    }
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
