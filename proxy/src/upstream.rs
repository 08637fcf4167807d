//! The connection to the server, in the client's name.

mod http1;
mod kept;
mod places;
mod socket;
mod spare;

use std::{io, time::Duration};

use http::StatusCode;
use l7_parsers::{http1::Refusal, http2::frame::Code};

pub(crate) use http1::{Begun, Http1Upstream};
pub(crate) use kept::Kept;
pub(crate) use places::{Place, Places};
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
    #[error("the server reset the stream: {0}")]
    Reset(Code),
    #[error("malformed response: {0}")]
    MalformedHttp2(String),
    #[error("the server breaks HTTP/2: {0}")]
    Protocol(String),
    #[error("the server sends nothing any more")]
    Silent,
    #[error("response switches to a protocol that the request did not ask for")]
    UnaskedSwitch,
}

impl UpstreamError {
    /// With what reason the server reset the stream; `None`: it did not.
    pub(crate) fn reset(&self) -> Option<Code> {
        match self {
            Self::Reset(code) => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTime(_) | Self::ResponseTime(_) | Self::Silent => StatusCode::GATEWAY_TIMEOUT,
            Self::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Connect(_)
            | Self::Closed
            | Self::Broken(_)
            | Self::Malformed(_)
            | Self::Reset(_)
            | Self::MalformedHttp2(_)
            | Self::Protocol(_)
            | Self::UnaskedSwitch => StatusCode::BAD_GATEWAY,
        }
    }
}
