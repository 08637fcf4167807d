use super::*;
use proptest::{collection::vec, prelude::*};

fn header(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> FrameHeader {
    FrameHeader { length: payload.len() as u32, kind, flags, stream }
}

#[test]
fn headers_of_frames_come_back() {
    for kind in 0..=255u8 {
        let octets = [0x12, 0x34, 0x56, kind, 0xa5, 0x7f, 0xff, 0xff, 0xfe];
        let header = FrameHeader::parse(&octets);
        assert_eq!((header.length, header.flags, header.stream), (0x12_3456, 0xa5, 0x7fff_fffe));
        assert_eq!(header.encode(), octets);
    }
    let reserved = FrameHeader::parse(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]);
    assert_eq!((reserved.stream, reserved.encode()[5]), (1, 0), "the reserved bit is dropped");
    assert!(header(Kind::Data, 9, 1, &[]).has(flag::PADDED));
    assert!(!header(Kind::Data, 1, 1, &[]).has(flag::PADDED));
}

#[test]
fn padding_is_taken_off() {
    let read = |flags, payload: &[u8]| data(&header(Kind::Data, flags, 1, payload), payload);
    assert_eq!(read(0, b"abc"), Ok(0..3));
    assert_eq!(read(flag::PADDED, b"\x02abcPP"), Ok(1..4));
    assert_eq!(read(flag::PADDED, b"\x00"), Ok(1..1));
    assert_eq!(read(flag::PADDED, b"\x02PP"), Ok(1..1));
    assert_eq!(read(flag::PADDED, b"\x03PP"), Err(FrameError::Padding(Kind::Data)));
    assert_eq!(read(flag::PADDED, b""), Err(FrameError::Length(Kind::Data, 0)));
    assert_eq!(data(&header(Kind::Data, 0, 0, b""), b""), Err(FrameError::StreamZero(Kind::Data)));
    assert_eq!(data(&header(Kind::Data, 0, 1, b"a"), b""), Err(FrameError::Incomplete(Kind::Data)));
}

#[test]
fn priority_is_taken_off() {
    let read = |flags, payload: &[u8]| headers(&header(Kind::Headers, flags, 3, payload), payload);
    let whole = |fragment, depends_on| Ok(HeadersPayload { fragment, depends_on });
    assert_eq!(read(0, b"abc"), whole(0..3, None));
    assert_eq!(read(flag::PRIORITY, b"\x80\0\0\x01\xffabc"), whole(5..8, Some(1)));
    assert_eq!(read(flag::PRIORITY | flag::PADDED, b"\x02\0\0\0\x01\xffabcPP"), whole(6..9, Some(1)));
    assert_eq!(read(flag::PRIORITY | flag::PADDED, b"\x00\0\0\0\x01\xff"), whole(6..6, Some(1)));
    assert_eq!(read(flag::PRIORITY, b"\0\0\0\x03\xff"), Err(FrameError::DependsOnItself(3)));
    assert_eq!(read(flag::PRIORITY, b"\0\0\0\x01"), Err(FrameError::Length(Kind::Headers, 4)));
    // The padding may not reach into the priority.
    let short = b"\x02\0\0\0\x01\xffP";
    assert_eq!(read(flag::PRIORITY | flag::PADDED, short), Err(FrameError::Length(Kind::Headers, 7)));

    let read = |payload: &[u8]| priority(&header(Kind::Priority, 0, 3, payload), payload);
    assert_eq!(read(b"\0\0\0\x01\0"), Ok(()));
    let error = read(b"\0\0\0\x01").unwrap_err();
    assert_eq!((error.code(), error.scope()), (ErrorCode::FrameSize, Scope::Stream(3)));
    assert_eq!(read(b"\0\0\0\x03\0"), Err(FrameError::DependsOnItself(3)));
}

#[test]
fn frames_of_one_length_have_it() {
    let reset = |stream, payload: &[u8]| reset(&header(Kind::RstStream, 0, stream, payload), payload);
    assert_eq!(reset(1, &[0, 0, 1, 0]), Ok(256));
    assert_eq!(reset(0, &[0, 0, 1, 0]), Err(FrameError::StreamZero(Kind::RstStream)));
    assert_eq!(reset(1, &[0, 0, 1]), Err(FrameError::Length(Kind::RstStream, 3)));
    let ping = |stream, payload: &[u8]| ping(&header(Kind::Ping, 0, stream, payload), payload);
    assert_eq!(ping(0, b"12345678"), Ok(*b"12345678"));
    assert_eq!(ping(1, b"12345678"), Err(FrameError::OnStream(Kind::Ping, 1)));
    assert_eq!(ping(0, b"123456789"), Err(FrameError::Length(Kind::Ping, 9)));
    let goaway = |payload: &[u8]| goaway(&header(Kind::GoAway, 0, 0, payload), payload);
    let whole = GoAway { last_stream: 5, code: 0xff, debug: 8..11 };
    assert_eq!(goaway(b"\x80\0\0\x05\0\0\0\xffbye"), Ok(whole));
    assert_eq!(goaway(b"\0\0\0\x05\0\0\0"), Err(FrameError::Length(Kind::GoAway, 7)));
}

#[test]
fn windows_grow_by_something() {
    let read =
        |stream, payload: &[u8]| window_update(&header(Kind::WindowUpdate, 0, stream, payload), payload);
    assert_eq!(read(1, &[0xff, 0xff, 0xff, 0xff]), Ok(MAX_31));
    let error = read(1, &[0x80, 0, 0, 0]).unwrap_err();
    assert_eq!((error.code(), error.scope()), (ErrorCode::Protocol, Scope::Stream(1)));
    assert_eq!(read(0, &[0, 0, 0, 0]).unwrap_err().scope(), Scope::Connection);
    assert_eq!(read(1, &[0, 0, 1]).unwrap_err().scope(), Scope::Connection);
}

#[test]
fn settings_are_checked_before_any_is_used() {
    let read = |flags, stream, payload: &[u8]| {
        settings(&header(Kind::Settings, flags, stream, payload), payload).map(Iterator::collect::<Vec<_>>)
    };
    let mut frame = Vec::new();
    let all = [
        (Setting::HeaderTableSize, u32::MAX),
        (Setting::EnablePush, 1),
        (Setting::MaxConcurrentStreams, 0),
        (Setting::InitialWindowSize, MAX_31),
        (Setting::MaxFrameSize, (1 << 24) - 1),
        (Setting::MaxFrameSize, 1 << 14),
        (Setting::MaxHeaderListSize, 7),
    ];
    put_settings(&mut frame, &all);
    let mut payload = frame[HEADER..].to_vec();
    payload.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 1]);
    assert_eq!(read(0, 0, &payload), Ok(all.to_vec()), "unknown ones are ignored");
    assert_eq!(read(flag::ACK, 0, b""), Ok(vec![]));
    assert_eq!(read(flag::ACK, 0, &[0; 6]), Err(FrameError::Length(Kind::Settings, 6)));
    assert_eq!(read(0, 0, &[0; 7]), Err(FrameError::Length(Kind::Settings, 7)));
    assert_eq!(read(0, 1, b""), Err(FrameError::OnStream(Kind::Settings, 1)));
    for (setting, value, code) in [
        (Setting::EnablePush, 2, ErrorCode::Protocol),
        (Setting::InitialWindowSize, MAX_31 + 1, ErrorCode::FlowControl),
        (Setting::MaxFrameSize, (1 << 14) - 1, ErrorCode::Protocol),
        (Setting::MaxFrameSize, 1 << 24, ErrorCode::Protocol),
    ] {
        let mut frame = Vec::new();
        put_settings(&mut frame, &[(Setting::HeaderTableSize, 0), (setting, value)]);
        let error = read(0, 0, &frame[HEADER..]).unwrap_err();
        assert_eq!((error.code(), error.scope()), (code, Scope::Connection));
    }
}

/// Cuts `out` into its frames.
fn frames(mut out: &[u8]) -> Vec<(FrameHeader, &[u8])> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = out.split_first_chunk::<HEADER>() {
        let header = FrameHeader::parse(head);
        let (payload, rest) = rest.split_at(header.length as usize);
        frames.push((header, payload));
        out = rest;
    }
    assert_eq!(out, b"");
    frames
}

#[test]
fn what_is_written_is_read() {
    let mut out = Vec::new();
    put_settings_ack(&mut out);
    put_ping(&mut out, *b"12345678");
    put_ping_ack(&mut out, *b"abcdefgh");
    put_reset(&mut out, 7, ErrorCode::Cancel);
    put_reset(&mut out, 9, 0xfeed);
    put_goaway(&mut out, 11, ErrorCode::NoError, b"so long");
    put_window_update(&mut out, 13, 17);
    let frames = frames(&out);
    let [ack, ping_frame, pong, cancel, other, away, window] = frames.as_slice() else { panic!() };
    assert!(ack.0.kind == Kind::Settings && ack.0.has(flag::ACK) && settings(&ack.0, ack.1).is_ok());
    assert_eq!((ping(&ping_frame.0, ping_frame.1), ping_frame.0.has(flag::ACK)), (Ok(*b"12345678"), false));
    assert_eq!((ping(&pong.0, pong.1), pong.0.has(flag::ACK)), (Ok(*b"abcdefgh"), true));
    assert_eq!((cancel.0.stream, reset(&cancel.0, cancel.1)), (7, Ok(8)));
    assert_eq!((other.0.stream, reset(&other.0, other.1)), (9, Ok(0xfeed)));
    let goaway = goaway(&away.0, away.1).unwrap();
    assert_eq!((goaway.last_stream, goaway.code, &away.1[goaway.debug]), (11, 0, &b"so long"[..]));
    assert_eq!((window.0.stream, window_update(&window.0, window.1)), (13, Ok(17)));
}

#[test]
fn a_block_is_cut_into_frames() {
    for (length, expected) in [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
        let block: Vec<u8> = (0..length).collect();
        for end in [false, true] {
            let mut out = Vec::new();
            put_header_block(&mut out, 5, &block, end, 10);
            let frames = frames(&out);
            assert_eq!(frames.len(), expected);
            let mut joined = Vec::new();
            for (at, (header, payload)) in frames.iter().enumerate() {
                assert_eq!(header.kind, if at == 0 { Kind::Headers } else { Kind::Continuation });
                assert_eq!(header.has(flag::END_HEADERS), at + 1 == expected);
                assert_eq!(header.has(flag::END_STREAM), end && at == 0);
                assert_eq!(header.stream, 5);
                joined.extend_from_slice(payload);
            }
            assert_eq!(joined, block);
        }
    }
}

#[test]
fn codes_have_the_rfcs_names() {
    assert_eq!(Code::from(ErrorCode::EnhanceYourCalm).to_string(), "ENHANCE_YOUR_CALM");
    assert_eq!(Code(13).to_string(), "HTTP_1_1_REQUIRED");
    assert_eq!(Code(14).to_string(), "error code 0xe");
    for code in 0..14 {
        assert_eq!(ErrorCode::from_u32(code).map(|code| code as u32), Some(code));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is taken off and what is left are the payload, whatever that is.
    #[test]
    fn no_payload_is_read_beyond_its_end(flags: u8, stream in 0..3_u32, payload in vec(any::<u8>(), 0..40)) {
        let header = |kind| header(kind, flags, stream, &payload);
        let padding = if flags & flag::PADDED == 0 { 0 } else { 1 + payload.first().map_or(0, |&pad| usize::from(pad)) };
        match data(&header(Kind::Data), &payload) {
            Ok(data) => prop_assert!(stream != 0 && data.len() + padding == payload.len() && data.end <= payload.len()),
            Err(_) => prop_assert!(stream == 0 || padding > payload.len()),
        }
        let priority = if flags & flag::PRIORITY == 0 { 0 } else { 5 };
        match headers(&header(Kind::Headers), &payload) {
            Ok(HeadersPayload { fragment, depends_on }) => {
                prop_assert_eq!(fragment.len() + padding + priority, payload.len());
                prop_assert_eq!(fragment.start, padding.min(1) + priority);
                prop_assert_eq!(depends_on.is_some(), priority > 0);
            }
            Err(FrameError::DependsOnItself(on)) => prop_assert!(priority > 0 && on == stream),
            Err(_) => prop_assert!(stream == 0 || padding + priority > payload.len()),
        }
        let fits = |length: usize, of_stream: bool| payload.len() == length && (stream != 0) == of_stream;
        prop_assert_eq!(reset(&header(Kind::RstStream), &payload).is_ok(), fits(4, true));
        prop_assert_eq!(ping(&header(Kind::Ping), &payload).is_ok(), fits(8, false));
        prop_assert_eq!(goaway(&header(Kind::GoAway), &payload).is_ok(), stream == 0 && payload.len() >= 8);
        if let Ok(increment) = window_update(&header(Kind::WindowUpdate), &payload) {
            prop_assert!((1..=MAX_31).contains(&increment) && payload.len() == 4);
        }
        if let Ok(settings) = settings(&header(Kind::Settings), &payload) {
            prop_assert!(stream == 0 && settings.count() <= payload.len() / 6);
        }
    }

    #[test]
    fn a_block_is_put_together_again(block in vec(any::<u8>(), 0..300), max_frame in 1..100_usize, end: bool) {
        let mut out = Vec::new();
        put_header_block(&mut out, 9, &block, end, max_frame);
        let frames = frames(&out);
        let (first, last) = (frames[0].0, frames[frames.len() - 1].0);
        prop_assert!(first.kind == Kind::Headers && first.has(flag::END_STREAM) == end && last.has(flag::END_HEADERS));
        prop_assert_eq!(frames.iter().filter(|(header, _)| header.has(flag::END_HEADERS)).count(), 1);
        prop_assert!(frames.iter().all(|(header, _)| header.length as usize <= max_frame && header.stream == 9));
        let mut joined = frames[0].1[headers(&first, frames[0].1).unwrap().fragment].to_vec();
        frames[1..].iter().for_each(|(_, payload)| joined.extend_from_slice(payload));
        prop_assert_eq!(joined, block);
    }
}
