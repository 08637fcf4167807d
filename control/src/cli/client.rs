//! HTTP over the agent's unix socket.

use std::{io, path::PathBuf};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::error::CliError;
use crate::api::ApiError;

/// Everything but RFC 3986 "unreserved".
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let response = self.send(Method::GET, path, None::<&()>).await?;
        self.json(response).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        self.json(response).await
    }

    /// A DELETE that gives an answer.
    pub async fn delete_with_answer<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let response = self.send(Method::DELETE, path, None::<&()>).await?;
        self.json(response).await
    }

    /// A DELETE without an answer.
    pub async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.send(Method::DELETE, path, None::<&()>).await.map(drop)
    }

    /// A POST whose answer is JSON lines, perhaps without end.
    pub async fn post_for_lines(&self, path: &str, body: &impl Serialize) -> Result<Lines, CliError> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        Ok(Lines { socket: self.socket.clone(), body: response.into_body(), buffer: BytesMut::new() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<http::Response<Incoming>, CliError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| {
            let socket = self.socket.clone();
            match source.kind() {
                io::ErrorKind::PermissionDenied => CliError::NotAllowed { socket, source },
                _ => CliError::NoAgent { socket, source },
            }
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broke_off(&e))?;
        // Its errors come out of the request and of the body, too.
        tokio::spawn(connection);
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| CliError::Failed(error.to_string()))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "tektin")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| CliError::Failed(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| self.broke_off(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.collect(response).await?;
        Err(CliError::Refused(refusal(status, &body)))
    }

    async fn json<T: DeserializeOwned>(&self, response: http::Response<Incoming>) -> Result<T, CliError> {
        let body = self.collect(response).await?;
        serde_json::from_slice(&body).map_err(|error| {
            CliError::Failed(format!(
                "the agent's answer is not understood (is it of another version?): {error}"
            ))
        })
    }

    async fn collect(&self, response: http::Response<Incoming>) -> Result<Bytes, CliError> {
        let body = response.into_body().collect().await.map_err(|error| self.broke_off(&error))?;
        Ok(body.to_bytes())
    }

    fn broke_off(&self, error: &hyper::Error) -> CliError {
        CliError::BrokeOff { socket: self.socket.clone(), reason: error.to_string() }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
        error: format!("the agent answered {status}: {}", String::from_utf8_lossy(body)),
        details: Vec::new(),
    })
}

/// The lines of an answer.
#[derive(Debug)]
pub struct Lines {
    socket: PathBuf,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line; `None`: that was the last one.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CliError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return parse(&line).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    let reason = error.to_string();
                    return Err(CliError::BrokeOff { socket: self.socket.clone(), reason });
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    let reason = "in the middle of a line".to_owned();
                    return Err(CliError::BrokeOff { socket: self.socket.clone(), reason });
                }
            }
        }
    }
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(line)
        .map_err(|error| CliError::Failed(format!("a line is not understood: {error}")))
}

/// A route with its one `{…}` filled in.
#[must_use]
pub fn filled(route: &str, segment: &str) -> String {
    let encoded = utf8_percent_encode(segment, SEGMENT).to_string();
    match (route.find('{'), route.find('}')) {
        (Some(start), Some(end)) => format!("{}{encoded}{}", &route[..start], &route[end + 1..]),
        _ => route.to_owned(),
    }
}

/// A route with a query string of the pairs that have a value.
#[must_use]
pub fn with_query(route: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let query: Vec<_> = pairs
        .iter()
        .filter_map(|(name, value)| {
            value.map(|value| format!("{name}={}", utf8_percent_encode(value, SEGMENT)))
        })
        .collect();
    if query.is_empty() { route.to_owned() } else { format!("{route}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_queries_are_encoded() {
        assert_eq!(filled("/v1/endpoints/{name}", "a/b?c"), "/v1/endpoints/a%2Fb%3Fc");
        assert_eq!(with_query("/v1/p", &[("a", None)]), "/v1/p");
        assert_eq!(
            with_query("/v1/p", &[("a", Some("x&y")), ("b", None), ("c", Some("z"))]),
            "/v1/p?a=x%26y&c=z"
        );
    }

    #[test]
    fn an_answer_that_is_no_api_error_is_still_shown() {
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, b"oops").to_string(),
            "the agent answered 502 Bad Gateway: oops"
        );
        let body = br#"{"error":"no","details":["because"]}"#;
        assert_eq!(refusal(StatusCode::CONFLICT, body).to_string(), "no\n  because");
    }
}
