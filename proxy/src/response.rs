//! Answers of the proxy's own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{body::ResponseBody, request::Closing};

/// What the client of a denied request is told: the same whoever denied it and why.
const DENIED: &str = "Access denied";

/// `PERMISSION_DENIED` of gRPC's status codes.
const GRPC_PERMISSION_DENIED: &str = "7";

/// 403; to a gRPC client the same in its own words.
pub(crate) fn denied(grpc: bool) -> Response<ResponseBody> {
    if !grpc {
        return text(StatusCode::FORBIDDEN, DENIED, Closing::No);
    }
    // A header block without a body is what gRPC calls trailers-only.
    let mut response = Response::new(ResponseBody::Own(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(GRPC_PERMISSION_DENIED));
    headers.insert("grpc-message", HeaderValue::from_static(DENIED));
    response
}

/// A line of plain text.
pub(crate) fn text(status: StatusCode, line: &str, closing: Closing) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Bytes::from(format!("{line}\r\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if closing == Closing::Yes {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
