//! The connection to the server, in the client's name.

mod http1;
mod http2;
mod socket;

use std::{io, time::Duration};

use http::StatusCode;

pub(crate) use http1::Http1Upstream;
pub(crate) use http2::Http2Upstream;
pub use socket::{SourceAddress, UpstreamSockets};

use crate::verdict::Permit;

/// Why an allowed request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("no connection within {0:?}")]
    ConnectTime(Duration),
    #[error("no response within {0:?}")]
    ResponseTime(Duration),
    #[error("{}", sources(.0))]
    Http(#[from] hyper::Error),
    #[error("response switches to a protocol that the request did not ask for")]
    UnaskedSwitch,
}

/// How sending failed.
pub(crate) enum SendError {
    /// The server had closed the connection before the first octet: another one may carry the request.
    NotBegun(Box<Permit>, UpstreamError),
    Failed(UpstreamError),
}

impl UpstreamError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::ConnectTime(_) | Self::ResponseTime(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_) | Self::Http(_) | Self::UnaskedSwitch => StatusCode::BAD_GATEWAY,
        }
    }
}

/// hyper's own text says little; its sources say what happened.
fn sources(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
