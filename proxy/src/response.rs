//! Answers of the proxy's own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

use crate::body::ResponseBody;

/// What the client of a denied request is told: the same whoever denied it and why.
const DENIED: &str = "Access denied";

/// `PERMISSION_DENIED` of gRPC's status codes.
const GRPC_PERMISSION_DENIED: &str = "7";

/// An answer that no server gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: &'static [(&'static str, &'static str)],
    pub(crate) body: Bytes,
}

/// 403; to a gRPC client the same in its own words.
pub(crate) fn denied(grpc: bool) -> Answer {
    if !grpc {
        return text(StatusCode::FORBIDDEN, DENIED);
    }
    // A header block without a body is what gRPC calls trailers-only.
    let fields = &[
        ("content-type", "application/grpc"),
        ("grpc-status", GRPC_PERMISSION_DENIED),
        ("grpc-message", DENIED),
    ];
    Answer { status: StatusCode::OK, fields, body: Bytes::new() }
}

/// A line of plain text.
pub(crate) fn text(status: StatusCode, line: &str) -> Answer {
    Answer { status, fields: &[("content-type", "text/plain")], body: Bytes::from(format!("{line}\r\n")) }
}

impl From<Answer> for Response<ResponseBody> {
    fn from(answer: Answer) -> Self {
        let mut response = Response::new(ResponseBody::Own(answer.body));
        *response.status_mut() = answer.status;
        for (name, value) in answer.fields {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    }
}
