use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&[flags][..], &length, payload].concat()
}

fn base64(octets: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in octets.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let value = bits >> (18 - 6 * place) & 63;
            text.push(if place <= group.len() { ALPHABET[value as usize] } else { b'=' });
        }
    }
    text
}

/// What is to be said after all of the octets.
fn said(messages: &Messages) -> (u64, Option<u32>, bool) {
    (messages.whole(), messages.status(), messages.at_boundary())
}

#[test]
fn messages_and_trailers() {
    let trailers = b"x: y\r\nGRPC-Status: 7\r\ngrpc-message: no\r\n";
    let body = [frame(0, b"one"), frame(1, b""), frame(0, &[9; 70_000]), frame(0x80, trailers)].concat();
    let mut web = Messages::new(Form::Web);
    web.read(&body);
    assert_eq!(said(&web), (3, Some(7), true));
    // Trailers in the body are gRPC-Web's alone.
    let mut grpc = Messages::new(Form::Grpc);
    grpc.read(&body);
    assert_eq!(said(&grpc), (4, None, true));
    let mut text = Messages::new(Form::WebText);
    // Each piece is padded on its own.
    let (first, second) = body.split_at(10);
    text.read(&base64(first));
    assert_eq!(said(&text), (1, None, false));
    text.read(&base64(second));
    assert_eq!(said(&text), (3, Some(7), true));
}

#[test]
fn a_status_that_ends_with_its_frame_or_is_none() {
    for (trailers, status) in [
        ("grpc-status:0", Some(0)),
        ("grpc-status: 16\r\n", Some(16)),
        ("grpc-status: 5\r\ngrpc-status: 6\r\n", Some(5)),
        ("grpc-status: x\r\n", None),
        ("grpc-status-details-bin: 7\r\n", None),
        ("grpc-status:                                        7\r\n", None),
        ("", None),
    ] {
        let mut messages = Messages::new(Form::Web);
        messages.read(&frame(0x80, trailers.as_bytes()));
        assert_eq!(said(&messages), (0, status, true), "{trailers:?}");
    }
}

#[test]
fn a_message_counts_when_it_is_whole() {
    let mut messages = Messages::new(Form::Grpc);
    let octets = frame(0, b"abc");
    for octet in &octets[..7] {
        messages.read(&[*octet]);
        assert_eq!((messages.whole(), messages.at_boundary()), (0, false));
    }
    messages.read(&octets[7..]);
    assert_eq!(said(&messages), (1, None, true));
}

fn forms() -> impl Strategy<Value = Form> {
    prop_oneof![Just(Form::Grpc), Just(Form::Web), Just(Form::WebText)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_says_the_same(
        form in forms(),
        frames in vec((prop_oneof![Just(0_u8), Just(1), Just(0x80)], vec(any::<u8>(), 0..40)), 0..8),
        cuts in vec(any::<Index>(), 0..12),
        end in any::<Index>(),
    ) {
        let plain: Vec<u8> = frames.iter().flat_map(|(flags, payload)| frame(*flags, payload)).collect();
        let octets = if form == Form::WebText { base64(&plain) } else { plain };
        let octets = &octets[..end.index(octets.len() + 1)];
        let mut whole = Messages::new(form);
        whole.read(octets);
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(octets.len() + 1)).collect();
        places.extend([0, octets.len()]);
        places.sort_unstable();
        let mut pieces = Messages::new(form);
        for pair in places.windows(2) {
            pieces.read(&octets[pair[0]..pair[1]]);
        }
        prop_assert_eq!(said(&whole), said(&pieces));
    }

    #[test]
    fn whole_frames_are_counted(
        web in any::<bool>(),
        frames in vec((any::<bool>(), vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let octets: Vec<u8> =
            frames.iter().flat_map(|(last, payload)| frame(if *last { 0x80 } else { 0 }, payload)).collect();
        let mut messages = Messages::new(if web { Form::Web } else { Form::Grpc });
        messages.read(&octets);
        let wanted = frames.iter().filter(|(last, _)| !web || !last).count() as u64;
        prop_assert_eq!(messages.whole(), wanted);
        prop_assert!(messages.at_boundary());
    }

    #[test]
    fn no_octets_do_harm(form in forms(), octets in vec(any::<u8>(), 0..300)) {
        let mut messages = Messages::new(form);
        messages.read(&octets);
        prop_assert!(messages.whole() <= octets.len() as u64);
    }
}
