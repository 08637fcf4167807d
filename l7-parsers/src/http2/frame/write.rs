//! Writers of frames: each appends to `out`, and allocates only where that has to grow.

use super::{Code, FrameHeader, HEADER, Kind, MAX_31, Setting, flag};

/// SETTINGS.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(Setting, u32)]) {
    put(out, Kind::Settings, 0, 0, settings.len() * 6);
    for &(setting, value) in settings {
        out.extend_from_slice(&(setting as u16).to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The acknowledgement of a peer's SETTINGS.
pub fn put_settings_ack(out: &mut Vec<u8>) {
    put(out, Kind::Settings, flag::ACK, 0, 0);
}

/// PING.
pub fn put_ping(out: &mut Vec<u8>, octets: [u8; 8]) {
    put(out, Kind::Ping, 0, 0, octets.len());
    out.extend_from_slice(&octets);
}

/// The acknowledgement of a peer's PING, with that one's octets.
pub fn put_ping_ack(out: &mut Vec<u8>, octets: [u8; 8]) {
    put(out, Kind::Ping, flag::ACK, 0, octets.len());
    out.extend_from_slice(&octets);
}

/// RST_STREAM.
pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: impl Into<Code>) {
    put(out, Kind::RstStream, 0, stream, 4);
    out.extend_from_slice(&code.into().0.to_be_bytes());
}

/// GOAWAY. `debug` is cut to what the smallest frame size that a peer may have has room for.
pub fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: impl Into<Code>, debug: &[u8]) {
    let debug = &debug[..debug.len().min((1 << 14) - 8)];
    put(out, Kind::GoAway, 0, 0, 8 + debug.len());
    out.extend_from_slice(&(last_stream & MAX_31).to_be_bytes());
    out.extend_from_slice(&code.into().0.to_be_bytes());
    out.extend_from_slice(debug);
}

/// WINDOW_UPDATE: `increment` octets more, 1 to 2^31-1.
pub fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    debug_assert!((1..=MAX_31).contains(&increment), "an increment has 31 bits and is not 0");
    put(out, Kind::WindowUpdate, 0, stream, 4);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// A whole field block: HEADERS, and as many CONTINUATIONs as payloads of `max_frame` octets need.
pub fn put_header_block(out: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool, max_frame: usize) {
    let (mut fragment, mut rest) = block.split_at(block.len().min(max_frame.max(1)));
    let mut kind = Kind::Headers;
    let mut flags = if end_stream { flag::END_STREAM } else { 0 };
    out.reserve(HEADER + block.len());
    loop {
        if rest.is_empty() {
            flags |= flag::END_HEADERS;
        }
        put(out, kind, flags, stream, fragment.len());
        out.extend_from_slice(fragment);
        if rest.is_empty() {
            return;
        }
        (fragment, rest) = rest.split_at(rest.len().min(max_frame.max(1)));
        kind = Kind::Continuation;
        flags = 0;
    }
}

fn put(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend_from_slice(&FrameHeader { length, kind, flags, stream }.encode());
}
