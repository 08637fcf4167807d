//! Frames of RFC 9113 §4 and §6: read from a payload that is there as a whole, written into a `Vec<u8>`.
//!
//! Readers check all that can be told from one frame alone, its length, padding, stream and values, and
//! copy nothing. Whether the frame may come now, and on this stream, is for who keeps the streams.

mod error;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use error::{Code, ErrorCode, FrameError, Scope};
pub use read::{
    GoAway, HeadersPayload, Setting, Settings, data, goaway, headers, ping, priority, reset, settings,
    window_update,
};
pub use write::{
    put_goaway, put_header_block, put_ping, put_ping_ack, put_reset, put_settings, put_settings_ack,
    put_window_update,
};

/// Octets of a frame header.
pub const HEADER: usize = 9;

/// What a client sends before its first frame (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest number of a stream, and the largest window: 31 bits.
pub const MAX_31: u32 = (1 << 31) - 1;

/// Type of a frame (RFC 9113 §6). Unknown ones are to be ignored (§4.1), but not within a field block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown(u8),
}

/// Flags by their bit. Which of them a frame has depends on its [`Kind`].
pub mod flag {
    /// DATA and HEADERS.
    pub const END_STREAM: u8 = 1;
    /// SETTINGS and PING.
    pub const ACK: u8 = 1;
    /// HEADERS, PUSH_PROMISE and CONTINUATION.
    pub const END_HEADERS: u8 = 4;
    /// DATA, HEADERS and PUSH_PROMISE.
    pub const PADDED: u8 = 8;
    /// HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// The nine octets before each payload (RFC 9113 §4.1). The reserved bit is dropped when read, and
/// written as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Octets of the payload, 24 bits.
    pub length: u32,
    pub kind: Kind,
    pub flags: u8,
    /// 31 bits; 0 is the connection.
    pub stream: u32,
}

impl Kind {
    #[inline]
    fn from_octet(octet: u8) -> Self {
        match octet {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            other => Self::Unknown(other),
        }
    }

    #[inline]
    fn octet(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::RstStream => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown(octet) => octet,
        }
    }
}

impl FrameHeader {
    #[inline]
    #[must_use]
    pub fn parse(octets: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *octets;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind::from_octet(kind),
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31,
        }
    }

    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        debug_assert!(self.length < 1 << 24, "a frame's length has 24 bits");
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = (self.stream & MAX_31).to_be_bytes();
        [l0, l1, l2, self.kind.octet(), self.flags, s0, s1, s2, s3]
    }

    /// Whether all bits of `flag` are set.
    #[inline]
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }
}
