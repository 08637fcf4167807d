//! The server's side of HTTP/2: each request gets 200 once it is complete.

use std::collections::BTreeSet;

use crate::smuggling::http2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE, SETTINGS,
};

#[derive(Default)]
pub(super) struct Session {
    pending: Vec<u8>,
    begun: bool,
    /// Streams whose header block goes on and that end with it.
    ending: BTreeSet<u32>,
}

impl Session {
    /// Takes octets from the client, the preface first; returns what to send.
    pub(super) fn answer(&mut self, octets: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(octets);
        let mut out = Vec::new();
        if !self.begun {
            if !self.pending.starts_with(PREFACE) {
                return out;
            }
            self.pending.drain(..PREFACE.len());
            self.begun = true;
            out.extend(frame(SETTINGS, 0, 0, &[]));
        }
        while let Some(read) = Frame::take(&mut self.pending) {
            match read.kind {
                SETTINGS if !read.has(ACK) => out.extend(frame(SETTINGS, ACK, 0, &[])),
                PING if !read.has(ACK) => out.extend(frame(PING, ACK, 0, &read.payload)),
                HEADERS if read.has(END_STREAM) && !read.has(END_HEADERS) => {
                    self.ending.insert(read.stream);
                }
                HEADERS | DATA if read.has(END_STREAM) => out.extend(ok(read.stream)),
                CONTINUATION if read.has(END_HEADERS) && self.ending.remove(&read.stream) => {
                    out.extend(ok(read.stream));
                }
                _ => {}
            }
        }
        out
    }
}

/// `:status: 200`, by its index.
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88])
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    Frame { kind, flags, stream, payload: payload.to_vec() }.octets()
}
