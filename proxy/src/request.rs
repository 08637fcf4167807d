//! What is wrong with requests of either version of HTTP, beyond their framing.

mod switch;

use l7_parsers::path::PathError;

pub(crate) use switch::is_http;

/// Why a request that parses is refused all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("invalid request target: {0}")]
    Path(#[from] PathError),
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
