//! Counting gRPC messages: however the octets are cut the same, and what a plain reading of all says.
//! The first octet of an input chooses the form.

use l7_parsers::grpc::{Form, Messages};

use crate::cut::Cut;

pub fn run(data: &[u8]) {
    let Some((form, octets)) = data.split_first() else { return };
    let form = [Form::Grpc, Form::Web, Form::WebText][usize::from(form % 3)];
    let whole = said(form, octets, |left| left);
    let mut cut = Cut::of(data, 3);
    assert_eq!(whole, said(form, octets, |left| cut.segment(left)), "cut otherwise");
    assert_eq!(whole, said(form, octets, |_| 1), "octet by octet");
    if form != Form::WebText {
        assert_eq!((whole.0, whole.2), counted(form, octets));
    }
}

/// Messages, status, and whether the octets end with a frame.
fn said(form: Form, mut octets: &[u8], mut segment: impl FnMut(usize) -> usize) -> (u64, Option<u32>, bool) {
    let mut messages = Messages::new(form);
    while !octets.is_empty() {
        let (next, rest) = octets.split_at(segment(octets.len()).min(octets.len()));
        messages.read(next);
        octets = rest;
    }
    (messages.whole(), messages.status(), messages.at_boundary())
}

fn counted(form: Form, mut octets: &[u8]) -> (u64, bool) {
    let mut messages = 0;
    while let Some(([flags, length @ ..], rest)) = octets.split_first_chunk::<5>() {
        let Some((_, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        messages += u64::from(form == Form::Grpc || flags & 0x80 == 0);
        octets = rest;
    }
    (messages, octets.is_empty())
}
