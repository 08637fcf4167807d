//! HTTP/2 frames: what the readers tell of a frame is what stands in it by a plainer reading, and what
//! they let through they read again as the same from what the writers make of it.

use l7_parsers::http2::frame::{self, FrameHeader, HEADER, Kind, MAX_31, Scope, flag};

pub fn run(mut data: &[u8]) {
    while let Some((head, behind)) = data.split_first_chunk::<HEADER>() {
        let mut header = FrameHeader::parse(head);
        check_header(head, &header);
        let (payload, rest) = behind.split_at(behind.len().min(header.length as usize));
        data = rest;
        if payload.len() < header.length as usize {
            // Part of a payload is nobody's to read.
            assert!(read(&header, payload).is_none());
            header.length = u32::try_from(payload.len()).unwrap_or(0);
        }
        let _ = read(&header, payload);
    }
}

fn check_header(head: &[u8; HEADER], header: &FrameHeader) {
    assert_eq!(header.length, u32::from_be_bytes([0, head[0], head[1], head[2]]));
    let mut again = header.encode();
    again[5] |= head[5] & 0x80;
    assert_eq!(again, *head, "all but the reserved bit is written as it was read");
}

/// `None`: refused.
fn read(header: &FrameHeader, payload: &[u8]) -> Option<()> {
    let whole = payload.len() == header.length as usize;
    let mut out = Vec::new();
    match header.kind {
        Kind::Data => {
            let range = checked(header, frame::data(header, payload))?;
            assert!(whole && header.stream > 0);
            assert_eq!(range, unpadded(header, payload)?);
        }
        Kind::Headers => {
            let parts = checked(header, frame::headers(header, payload))?;
            let mut range = unpadded(header, payload)?;
            let priority = header.has(flag::PRIORITY);
            assert_eq!(parts.depends_on.is_some(), priority);
            range.start += if priority { 5 } else { 0 };
            assert!(whole && header.stream > 0 && parts.depends_on != Some(header.stream));
            assert_eq!(parts.fragment, range);
        }
        Kind::Priority => {
            checked(header, frame::priority(header, payload))?;
            assert!(whole && payload.len() == 5 && header.stream > 0);
        }
        Kind::RstStream => {
            let code = checked(header, frame::reset(header, payload))?;
            frame::put_reset(&mut out, header.stream, code);
            same(&out, header, payload, 0);
        }
        Kind::Settings => {
            let settings = checked(header, frame::settings(header, payload))?;
            let list: Vec<_> = settings.collect();
            if header.has(flag::ACK) {
                assert!(list.is_empty());
                return Some(());
            }
            frame::put_settings(&mut out, &list);
            let known = |setting: &&[u8]| (1..=6).contains(&u16::from_be_bytes([setting[0], setting[1]]));
            let plain: Vec<u8> = payload.chunks(6).filter(known).flatten().copied().collect();
            assert_eq!(out[HEADER..], plain);
        }
        Kind::Ping => {
            let octets = checked(header, frame::ping(header, payload))?;
            match header.has(flag::ACK) {
                true => frame::put_ping_ack(&mut out, octets),
                false => frame::put_ping(&mut out, octets),
            }
            same(&out, header, payload, flag::ACK);
        }
        Kind::GoAway => {
            let told = checked(header, frame::goaway(header, payload))?;
            frame::put_goaway(&mut out, told.last_stream, told.code, &payload[told.debug]);
            let mut plain = payload.to_vec();
            plain[0] &= 0x7f;
            // What is longer than any frame may be is cut.
            assert_eq!(out[HEADER..], plain[..plain.len().min(1 << 14)]);
        }
        Kind::WindowUpdate => {
            let octets = checked(header, frame::window_update(header, payload))?;
            assert!((1..=MAX_31).contains(&octets));
            frame::put_window_update(&mut out, header.stream, octets);
            let mut plain = payload.to_vec();
            plain[0] &= 0x7f;
            same(&out, header, &plain, 0);
        }
        Kind::PushPromise | Kind::Continuation | Kind::Unknown(_) => return None,
    }
    Some(())
}

/// An error says what it ends: this stream or the connection, and never the connection as a stream.
fn checked<T>(header: &FrameHeader, result: Result<T, frame::FrameError>) -> Option<T> {
    result
        .map_err(|error| match error.scope() {
            Scope::Stream(stream) => assert!(stream == header.stream && stream > 0, "{error}"),
            Scope::Connection => assert!(!error.to_string().is_empty()),
        })
        .ok()
}

/// RFC 9113 §6.1, once more.
fn unpadded(header: &FrameHeader, payload: &[u8]) -> Option<std::ops::Range<usize>> {
    if header.flags & 8 == 0 {
        return Some(0..payload.len());
    }
    let padding = usize::from(*payload.first()?);
    (padding < payload.len()).then(|| 1..payload.len() - padding)
}

/// The same frame, but for flags that it does not have.
fn same(out: &[u8], header: &FrameHeader, payload: &[u8], flags: u8) {
    let plain = FrameHeader { flags: header.flags & flags, ..*header };
    assert_eq!(out[..HEADER], plain.encode());
    assert_eq!(out[HEADER..], *payload);
}
