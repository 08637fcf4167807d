//! What a peer does against the protocol, and what that ends.

use l7_parsers::http2::frame::{ErrorCode, FrameError, Scope};

use super::meter::Excess;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends the connection, with GOAWAY.
    Connection(ErrorCode, String),
    /// It ends one stream, with RST_STREAM.
    Stream(u32, ErrorCode, String),
}

impl Fault {
    pub(super) fn connection(code: ErrorCode, what: impl ToString) -> Self {
        Self::Connection(code, what.to_string())
    }

    pub(super) fn stream(stream: u32, code: ErrorCode, what: impl ToString) -> Self {
        Self::Stream(stream, code, what.to_string())
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        match error.scope() {
            Scope::Stream(stream) => Self::stream(stream, error.code(), error),
            Scope::Connection => Self::connection(error.code(), error),
        }
    }
}

impl From<Excess> for Fault {
    fn from(Excess(frames): Excess) -> Self {
        Self::connection(ErrorCode::EnhanceYourCalm, format!("too many {frames} frames"))
    }
}

/// Why a connection with a client ends. The text goes into its record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// Nothing is left to do for either end: no record says so.
    #[error("ended")]
    Over,
    /// Both ends knew that nothing would follow, and nothing is left to do: no record says so.
    #[error("left")]
    Left,
    #[error(transparent)]
    Excess(#[from] Excess),
    #[error("HTTP/2: {}: {what}", named(*.code))]
    Fault { code: ErrorCode, what: String },
    #[error("HTTP/2: request head not complete in time")]
    HeadTime,
    #[error("HTTP/2: client does not read")]
    NotRead,
    #[error("HTTP/2: too many requests given up before their answer")]
    GivenUp,
    #[error("HTTP/2: too many stream errors")]
    StreamErrors,
    #[error("HTTP/2: client answers no PING: keep-alive timed out")]
    NoPong,
    #[error("idle for too long")]
    Idle,
}

impl Ended {
    /// With what the client is told; `None`: it is not.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Fault { code, .. } => Some(*code),
            Self::StreamErrors | Self::GivenUp | Self::Excess(_) => Some(ErrorCode::EnhanceYourCalm),
            Self::Over | Self::Left | Self::Idle => Some(ErrorCode::NoError),
            Self::HeadTime | Self::NotRead | Self::NoPong => None,
        }
    }
}

fn named(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::FlowControl => "flow-control error",
        ErrorCode::FrameSize => "frame of a wrong size",
        ErrorCode::StreamClosed => "frame on a closed stream",
        ErrorCode::Compression => "malformed header block",
        ErrorCode::EnhanceYourCalm => "too much",
        _ => "protocol error",
    }
}
