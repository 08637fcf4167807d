//! Error codes of RFC 9113 §7, and what can be wrong with one frame.

use super::Kind;
use std::fmt;

/// The codes that RFC 9113 §7 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ErrorCode {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    Connect = 10,
    EnhanceYourCalm = 11,
    InadequateSecurity = 12,
    Http11Required = 13,
}

/// A code as a peer sent it: one that the RFC does not name is kept, so that it can be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

/// What a broken rule costs (RFC 9113 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Scope {
    /// RST_STREAM on this stream; the connection goes on.
    Stream(u32),
    /// GOAWAY, and the connection ends.
    Connection,
}

/// A frame that breaks a rule by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("{0:?} frame of {1} octets")]
    Length(Kind, u32),
    #[error("PRIORITY frame of {length} octets on stream {stream}")]
    PriorityLength { stream: u32, length: u32 },
    #[error("{0:?} frame whose payload is not all there")]
    Incomplete(Kind),
    #[error("{0:?} frame with more padding than payload")]
    Padding(Kind),
    #[error("{0:?} frame on stream 0")]
    StreamZero(Kind),
    #[error("{0:?} frame on stream {1}, but it is the connection's")]
    OnStream(Kind, u32),
    #[error("stream {0} depends on itself")]
    DependsOnItself(u32),
    #[error("WINDOW_UPDATE of 0 on stream {0}")]
    NoIncrement(u32),
    #[error("SETTINGS_ENABLE_PUSH is {0}")]
    EnablePush(u32),
    #[error("SETTINGS_INITIAL_WINDOW_SIZE is {0}")]
    InitialWindow(u32),
    #[error("SETTINGS_MAX_FRAME_SIZE is {0}")]
    MaxFrame(u32),
}

impl FrameError {
    /// The code to answer with.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Length(..) | Self::PriorityLength { .. } => ErrorCode::FrameSize,
            Self::Incomplete(_) => ErrorCode::Internal,
            Self::InitialWindow(_) => ErrorCode::FlowControl,
            Self::Padding(_)
            | Self::StreamZero(_)
            | Self::OnStream(..)
            | Self::DependsOnItself(_)
            | Self::NoIncrement(_)
            | Self::EnablePush(_)
            | Self::MaxFrame(_) => ErrorCode::Protocol,
        }
    }

    /// What the answer ends.
    ///
    /// A HEADERS frame with an error always ends the connection, also where a stream would do: its block
    /// is not decoded, so the table would no longer be the peer's. PRIORITY may name an idle stream, which
    /// cannot be reset: to the caller, that is an error of the connection too.
    pub fn scope(&self) -> Scope {
        match *self {
            Self::PriorityLength { stream, .. } => Scope::Stream(stream),
            Self::NoIncrement(stream) if stream != 0 => Scope::Stream(stream),
            _ => Scope::Connection,
        }
    }
}

impl ErrorCode {
    /// None for a code that RFC 9113 does not name.
    #[must_use]
    pub fn from_u32(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::NoError,
            1 => Self::Protocol,
            2 => Self::Internal,
            3 => Self::FlowControl,
            4 => Self::SettingsTimeout,
            5 => Self::StreamClosed,
            6 => Self::FrameSize,
            7 => Self::RefusedStream,
            8 => Self::Cancel,
            9 => Self::Compression,
            10 => Self::Connect,
            11 => Self::EnhanceYourCalm,
            12 => Self::InadequateSecurity,
            13 => Self::Http11Required,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::NoError => "NO_ERROR",
            Self::Protocol => "PROTOCOL_ERROR",
            Self::Internal => "INTERNAL_ERROR",
            Self::FlowControl => "FLOW_CONTROL_ERROR",
            Self::SettingsTimeout => "SETTINGS_TIMEOUT",
            Self::StreamClosed => "STREAM_CLOSED",
            Self::FrameSize => "FRAME_SIZE_ERROR",
            Self::RefusedStream => "REFUSED_STREAM",
            Self::Cancel => "CANCEL",
            Self::Compression => "COMPRESSION_ERROR",
            Self::Connect => "CONNECT_ERROR",
            Self::EnhanceYourCalm => "ENHANCE_YOUR_CALM",
            Self::InadequateSecurity => "INADEQUATE_SECURITY",
            Self::Http11Required => "HTTP_1_1_REQUIRED",
        }
    }
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        Self(code as u32)
    }
}

impl From<u32> for Code {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ErrorCode::from_u32(self.0) {
            Some(code) => code.fmt(f),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}
