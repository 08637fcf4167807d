//! Counts the messages of a gRPC call as their octets pass, in one direction, however these are cut.
//!
//! A message has a prefix of five octets: flags, and its length in network order (PROTOCOL-HTTP2.md of
//! the gRPC project). gRPC-Web ends a response with one more such frame, flagged `0x80`, which holds the
//! trailers as HTTP/1 lines; its text form is all of that in base64, in pieces padded on their own
//! (PROTOCOL-WEB.md). Messages themselves are neither read nor kept, and nothing is allocated.

mod base64;
mod trailers;

use base64::Decoder;
use trailers::Lines;

const PREFIX: usize = 5;
const TRAILERS: u8 = 0x80;

/// How messages are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/grpc`: trailers are HTTP's.
    Grpc,
    /// `application/grpc-web`.
    Web,
    /// `application/grpc-web-text`.
    WebText,
}

/// One direction of a call.
#[derive(Clone, Debug)]
pub struct Messages {
    form: Form,
    frames: Frames,
    base64: Decoder,
}

#[derive(Clone, Debug, Default)]
struct Frames {
    prefix: [u8; PREFIX],
    /// Octets of the prefix that have come.
    have: usize,
    /// Octets of the frame that are still to come.
    left: u32,
    whole: u64,
    in_trailers: bool,
    lines: Lines,
}

impl Messages {
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, frames: Frames::default(), base64: Decoder::default() }
    }

    /// Takes what comes next.
    pub fn read(&mut self, octets: &[u8]) {
        match self.form {
            Form::Grpc => self.frames.read(octets, false),
            Form::Web => self.frames.read(octets, true),
            Form::WebText => {
                let frames = &mut self.frames;
                self.base64.read(octets, |decoded| frames.read(decoded, true));
            }
        }
    }

    /// Messages that have come to their last octet.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.frames.whole
    }

    /// Whether a frame of the proxy's own may follow here.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.frames.have == 0 && self.frames.left == 0 && self.base64.at_boundary()
    }

    /// `grpc-status` of the trailers that the body of gRPC-Web ends with.
    #[must_use]
    pub fn status(&self) -> Option<u32> {
        self.frames.lines.status()
    }
}

impl Frames {
    fn read(&mut self, mut octets: &[u8], has_trailers: bool) {
        while !octets.is_empty() {
            if self.left > 0 {
                let part = octets.len().min(self.left as usize);
                if self.in_trailers {
                    self.lines.read(&octets[..part]);
                }
                octets = &octets[part..];
                // No more than `left`.
                self.left -= part as u32;
                if self.left == 0 {
                    self.end();
                }
                continue;
            }
            let part = octets.len().min(PREFIX - self.have);
            self.prefix[self.have..self.have + part].copy_from_slice(&octets[..part]);
            self.have += part;
            octets = &octets[part..];
            if self.have == PREFIX {
                let [flags, length @ ..] = self.prefix;
                self.have = 0;
                self.left = u32::from_be_bytes(length);
                self.in_trailers = has_trailers && flags & TRAILERS != 0;
                if self.left == 0 {
                    self.end();
                }
            }
        }
    }

    fn end(&mut self) {
        if self.in_trailers {
            self.lines.end();
        } else {
            self.whole += 1;
        }
        self.in_trailers = false;
    }
}

#[cfg(test)]
mod tests;
