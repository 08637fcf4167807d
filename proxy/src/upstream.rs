//! The connection to the server, in the client's name.

mod http1;
mod http2;
mod kept;
mod places;
mod socket;

use std::{io, time::Duration};

use http::StatusCode;
use l7_parsers::http1::Refusal;

use crate::body::reset_of;

pub(crate) use http1::Http1Upstream;
pub(crate) use http2::{Http2Upstream, SendError};
pub(crate) use kept::Kept;
pub(crate) use places::Places;
pub use socket::{SourceAddress, UpstreamSockets};
pub(crate) use socket::{UpstreamSocket, Upstreams};

/// Why an allowed request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no connection within {0:?}")]
    ConnectTime(Duration),
    #[error("no room for another connection to a server within {0:?}")]
    NoRoom(Duration),
    #[error("no response within {0:?}")]
    ResponseTime(Duration),
    #[error("the server closed the connection without an answer")]
    Closed,
    #[error("connection to the server broken: {0}")]
    Broken(#[source] io::Error),
    #[error("malformed response: {0}")]
    Malformed(#[from] Refusal),
    #[error("http2 error: {0}")]
    Http2(#[from] h2::Error),
    #[error("response switches to a protocol that the request did not ask for")]
    UnaskedSwitch,
}

impl UpstreamError {
    /// With what reason the server reset the stream; `None`: it did not.
    pub(crate) fn reset(&self) -> Option<h2::Reason> {
        match self {
            Self::Http2(error) => reset_of(error),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTime(_) | Self::ResponseTime(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect(_)
            | Self::Closed
            | Self::Broken(_)
            | Self::Malformed(_)
            | Self::Http2(_)
            | Self::UnaskedSwitch => StatusCode::BAD_GATEWAY,
        }
    }
}

/// hyper's own text says little; its sources say what happened.
pub(crate) fn sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
