//! A strict reading of HTTP/1 requests (RFC 9112), over the raw octets and before any other parser
//! sees them: general parsers repair or normalise away exactly what request smuggling lives on.
//!
//! [`Scanner`] follows a connection's byte stream from request to request. It reads heads, chunk
//! framing and trailers; counted bodies it only counts. [`ResponseScan`] and [`Body`] do the same for
//! what a server answers.

mod body;
mod chunked;
mod fields;
mod head;
mod response;
mod scanner;
mod target;

pub use body::{Body, Part};
pub use fields::{Field, trailers};
pub use head::{Framing, Head, RequestParts, Version};
pub use response::{ResponseFraming, ResponseHead, ResponseScan};
pub use scanner::{Scanner, Step};
pub use target::Target;

use crate::{authority::InvalidAuthority, path::PathError};

/// Upper bounds for what a client may make the proxy hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of a request head, or of a trailer section.
    pub head_octets: usize,
    /// Fields of a head or of a trailer section.
    pub fields: usize,
    /// Octets of one chunk-size line, extensions included.
    pub chunk_line_octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_octets: 64 << 10, fields: 100, chunk_line_octets: 256 }
    }
}

/// Why a request is refused. The text goes into its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("line feed without carriage return")]
    BareLf,
    #[error("carriage return without line feed")]
    BareCr,
    #[error("control character or NUL in the head")]
    ControlCharacter,
    #[error("invalid method")]
    InvalidMethod,
    #[error("malformed request line")]
    InvalidRequestLine,
    #[error("no HTTP version (HTTP/0.9)")]
    Http09,
    #[error("unsupported HTTP version")]
    UnsupportedVersion,
    #[error("invalid request target: {0}")]
    InvalidTarget(PathError),
    #[error("request target of a form that its method does not have")]
    TargetForm,
    #[error("absolute-form target of another scheme than http")]
    TargetScheme,
    #[error("folded header line")]
    ObsFold,
    #[error("invalid header name")]
    InvalidFieldName,
    #[error("header name that some servers take for one of framing")]
    FramingAlias,
    #[error("space before the colon of a header")]
    SpaceBeforeColon,
    #[error("header line without a colon")]
    NoColon,
    #[error("no Host header")]
    NoHost,
    #[error("several Host headers")]
    SeveralHosts,
    #[error("invalid Host")]
    InvalidHost,
    #[error("request target and Host differ")]
    HostMismatch,
    #[error("several Content-Length headers")]
    SeveralLengths,
    #[error("invalid Content-Length")]
    InvalidLength,
    #[error("Content-Length with Transfer-Encoding")]
    LengthAndEncoding,
    #[error("several Transfer-Encoding headers")]
    SeveralEncodings,
    #[error("Transfer-Encoding other than chunked")]
    UnsupportedEncoding,
    #[error("Transfer-Encoding in HTTP/1.0")]
    EncodingInHttp10,
    #[error("body of a CONNECT request")]
    ConnectBody,
    #[error("Expect other than 100-continue")]
    UnsupportedExpectation,
    #[error("Connection header that names an end-to-end header")]
    ConnectionNames,
    #[error("invalid chunk size")]
    InvalidChunkSize,
    #[error("invalid chunk extension")]
    InvalidChunkExtension,
    #[error("chunk longer than its size")]
    ChunkOverrun,
    #[error("trailer that a trailer section cannot have")]
    ForbiddenTrailer,
    #[error("request head too large")]
    HeadTooLarge,
    #[error("too many headers")]
    TooManyFields,
    #[error("chunk size line too long")]
    ChunkLineTooLong,
    #[error("invalid status line")]
    InvalidStatusLine,
}

impl Refusal {
    /// The HTTP status to answer with.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Refusal::HeadTooLarge | Refusal::TooManyFields => 431,
            Refusal::UnsupportedExpectation => 417,
            _ => 400,
        }
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Refusal::InvalidTarget(error)
    }
}

impl From<InvalidAuthority> for Refusal {
    fn from(InvalidAuthority: InvalidAuthority) -> Self {
        Refusal::InvalidHost
    }
}
