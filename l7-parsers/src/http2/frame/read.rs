//! Readers of payloads. Each wants the payload as a whole, `header.length` octets of it.

use super::{FrameError, FrameHeader, MAX_31, flag};
use std::ops::Range;

/// What a HEADERS frame carries, beside its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersPayload {
    /// Where the fragment of the field block stands in the payload.
    pub fragment: Range<usize>,
    /// The stream that the deprecated priority names (RFC 9113 §5.3.2), if there is one.
    pub depends_on: Option<u32>,
}

/// RFC 9113 §6.8
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoAway {
    /// The last stream that the sender may have worked on.
    pub last_stream: u32,
    /// See [`super::Code`].
    pub code: u32,
    /// Where the debug data stands in the payload.
    pub debug: Range<usize>,
}

/// Settings of RFC 9113 §6.5.2; those of other documents are ignored, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Setting {
    /// Octets of the sender's HPACK decoder's table.
    HeaderTableSize = 1,
    /// 0 or 1. That a server may not say 1 is for the client to check.
    EnablePush = 2,
    MaxConcurrentStreams = 3,
    /// At most 2^31-1.
    InitialWindowSize = 4,
    /// 2^14 to 2^24-1.
    MaxFrameSize = 5,
    /// Octets of names and values, and 32 a field.
    MaxHeaderListSize = 6,
}

/// The settings of one frame in their order, which counts: the last one of a kind is in force. All of
/// them have been checked.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    left: &'a [u8],
}

/// DATA: where the data stands in the payload, without padding.
///
/// The whole payload counts towards the windows (RFC 9113 §6.9.1), that is `header.length`.
#[inline]
pub fn data(header: &FrameHeader, payload: &[u8]) -> Result<Range<usize>, FrameError> {
    complete(header, payload)?;
    on_stream(header)?;
    unpadded(header, payload)
}

/// HEADERS: padding and priority taken off.
#[inline]
pub fn headers(header: &FrameHeader, payload: &[u8]) -> Result<HeadersPayload, FrameError> {
    complete(header, payload)?;
    on_stream(header)?;
    let mut fragment = unpadded(header, payload)?;
    let mut depends_on = None;
    if header.has(flag::PRIORITY) {
        let Some((priority, _)) = payload[fragment.clone()].split_first_chunk::<5>() else {
            return Err(FrameError::Length(header.kind, header.length));
        };
        fragment.start += priority.len();
        depends_on = Some(dependency(header, priority)?);
    }
    Ok(HeadersPayload { fragment, depends_on })
}

/// PRIORITY: checked, and otherwise ignored.
pub fn priority(header: &FrameHeader, payload: &[u8]) -> Result<(), FrameError> {
    complete(header, payload)?;
    on_stream(header)?;
    let Ok(priority) = <&[u8; 5]>::try_from(payload) else {
        return Err(FrameError::PriorityLength { stream: header.stream, length: header.length });
    };
    dependency(header, priority).map(|_| ())
}

/// RST_STREAM: its code, see [`super::Code`].
pub fn reset(header: &FrameHeader, payload: &[u8]) -> Result<u32, FrameError> {
    complete(header, payload)?;
    on_stream(header)?;
    exactly(header, payload).map(u32::from_be_bytes)
}

/// SETTINGS. An acknowledgement has none; look for [`flag::ACK`] in the header.
pub fn settings<'a>(header: &FrameHeader, payload: &'a [u8]) -> Result<Settings<'a>, FrameError> {
    complete(header, payload)?;
    on_connection(header)?;
    if !payload.len().is_multiple_of(6) || (header.has(flag::ACK) && !payload.is_empty()) {
        return Err(FrameError::Length(header.kind, header.length));
    }
    let settings = Settings { left: payload };
    for (setting, value) in settings.clone() {
        match setting {
            Setting::EnablePush if value > 1 => return Err(FrameError::EnablePush(value)),
            Setting::InitialWindowSize if value > MAX_31 => return Err(FrameError::InitialWindow(value)),
            Setting::MaxFrameSize if !(1 << 14..1 << 24).contains(&value) => {
                return Err(FrameError::MaxFrame(value));
            }
            _ => {}
        }
    }
    Ok(settings)
}

/// PING, or its acknowledgement: the octets that the answer must repeat.
pub fn ping(header: &FrameHeader, payload: &[u8]) -> Result<[u8; 8], FrameError> {
    complete(header, payload)?;
    on_connection(header)?;
    exactly(header, payload)
}

/// GOAWAY.
pub fn goaway(header: &FrameHeader, payload: &[u8]) -> Result<GoAway, FrameError> {
    complete(header, payload)?;
    on_connection(header)?;
    let Some((&[s0, s1, s2, s3, c0, c1, c2, c3], debug)) = payload.split_first_chunk::<8>() else {
        return Err(FrameError::Length(header.kind, header.length));
    };
    Ok(GoAway {
        last_stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_31,
        code: u32::from_be_bytes([c0, c1, c2, c3]),
        debug: payload.len() - debug.len()..payload.len(),
    })
}

/// WINDOW_UPDATE: octets more, 1 to 2^31-1, for the stream or (on stream 0) the connection.
#[inline]
pub fn window_update(header: &FrameHeader, payload: &[u8]) -> Result<u32, FrameError> {
    complete(header, payload)?;
    match exactly(header, payload).map(u32::from_be_bytes)? & MAX_31 {
        0 => Err(FrameError::NoIncrement(header.stream)),
        increment => Ok(increment),
    }
}

impl Setting {
    fn from_u16(id: u16) -> Option<Self> {
        Some(match id {
            1 => Self::HeaderTableSize,
            2 => Self::EnablePush,
            3 => Self::MaxConcurrentStreams,
            4 => Self::InitialWindowSize,
            5 => Self::MaxFrameSize,
            6 => Self::MaxHeaderListSize,
            _ => return None,
        })
    }
}

impl Iterator for Settings<'_> {
    type Item = (Setting, u32);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&[i0, i1, v0, v1, v2, v3], left) = self.left.split_first_chunk::<6>()?;
            self.left = left;
            if let Some(setting) = Setting::from_u16(u16::from_be_bytes([i0, i1])) {
                return Some((setting, u32::from_be_bytes([v0, v1, v2, v3])));
            }
        }
    }
}

/// A caller that hands over less than the payload would have it read wrongly.
#[inline]
fn complete(header: &FrameHeader, payload: &[u8]) -> Result<(), FrameError> {
    if payload.len() == header.length as usize { Ok(()) } else { Err(FrameError::Incomplete(header.kind)) }
}

#[inline]
fn on_stream(header: &FrameHeader) -> Result<(), FrameError> {
    if header.stream == 0 { Err(FrameError::StreamZero(header.kind)) } else { Ok(()) }
}

#[inline]
fn on_connection(header: &FrameHeader) -> Result<(), FrameError> {
    if header.stream == 0 { Ok(()) } else { Err(FrameError::OnStream(header.kind, header.stream)) }
}

fn exactly<const N: usize>(header: &FrameHeader, payload: &[u8]) -> Result<[u8; N], FrameError> {
    payload.try_into().map_err(|_| FrameError::Length(header.kind, header.length))
}

/// What padding leaves. That it is zeros need not be checked (RFC 9113 §6.1).
#[inline]
fn unpadded(header: &FrameHeader, payload: &[u8]) -> Result<Range<usize>, FrameError> {
    if !header.has(flag::PADDED) {
        return Ok(0..payload.len());
    }
    let Some((&padding, rest)) = payload.split_first() else {
        return Err(FrameError::Length(header.kind, header.length));
    };
    match rest.len().checked_sub(usize::from(padding)) {
        Some(left) => Ok(1..1 + left),
        None => Err(FrameError::Padding(header.kind)),
    }
}

fn dependency(header: &FrameHeader, &[d0, d1, d2, d3, _weight]: &[u8; 5]) -> Result<u32, FrameError> {
    let on = u32::from_be_bytes([d0, d1, d2, d3]) & MAX_31;
    if on == header.stream { Err(FrameError::DependsOnItself(on)) } else { Ok(on) }
}
