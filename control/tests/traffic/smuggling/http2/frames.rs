//! Frames (RFC 9113 §4.1), written and read with no opinion of them.

use std::collections::BTreeMap;

use super::hpack::Decoder;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn octets(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a short payload").to_be_bytes();
        let mut out = length[1..].to_vec();
        out.extend([self.kind, self.flags]);
        out.extend(self.stream.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }

    /// Takes the first frame off `octets`; `None`: it is not whole yet.
    pub fn take(octets: &mut Vec<u8>) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g] = *octets.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        if octets.len() < end {
            return None;
        }
        let frame: Vec<u8> = octets.drain(..end).collect();
        let stream = u32::from_be_bytes([d & 127, e, f, g]);
        Some(Self { kind, flags, stream, payload: frame[9..].to_vec() })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority.
    pub fn content(&self) -> &[u8] {
        let mut content = &self.payload[..];
        if matches!(self.kind, DATA | HEADERS) && self.has(PADDED) {
            let padding = usize::from(content.first().copied().unwrap_or_default());
            content = content.get(1..content.len().saturating_sub(padding)).unwrap_or_default();
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            content = content.get(5..).unwrap_or_default();
        }
        content
    }
}

/// What came on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `name: value`, in order; trailers behind them.
    pub fields: Vec<String>,
    pub body: Vec<u8>,
    pub ended: bool,
    /// The error code of its reset.
    pub reset: Option<u32>,
}

/// One direction of a connection, frame by frame.
#[derive(Default)]
pub struct Messages {
    decoder: Decoder,
    block: Vec<u8>,
    /// By stream.
    pub streams: BTreeMap<u32, Message>,
    /// The error code of a GOAWAY.
    pub goaway: Option<u32>,
}

impl Messages {
    pub fn add(&mut self, frame: &Frame) {
        let code = |at: usize| {
            let octets = frame.payload.get(at..at + 4).and_then(|four| four.try_into().ok());
            u32::from_be_bytes(octets.unwrap_or_default())
        };
        match frame.kind {
            HEADERS | CONTINUATION => {
                self.block.extend_from_slice(frame.content());
                let message = self.streams.entry(frame.stream).or_default();
                message.ended |= frame.kind == HEADERS && frame.has(END_STREAM);
                if frame.has(END_HEADERS) {
                    let block = std::mem::take(&mut self.block);
                    let fields = self.decoder.decode(&block).expect("a header block");
                    let text =
                        |octets: &[u8]| octets.iter().map(|octet| char::from(*octet)).collect::<String>();
                    message.fields.extend(
                        fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))),
                    );
                }
            }
            DATA => {
                let message = self.streams.entry(frame.stream).or_default();
                message.body.extend_from_slice(frame.content());
                message.ended |= frame.has(END_STREAM);
            }
            RST_STREAM => self.streams.entry(frame.stream).or_default().reset = Some(code(0)),
            GOAWAY => self.goaway = Some(code(4)),
            _ => {}
        }
    }

    /// Everything that a client sent on a connection, from its preface on.
    pub fn of_client(octets: &[u8]) -> Self {
        let mut messages = Self::default();
        let mut rest = octets.strip_prefix(PREFACE).expect("the preface").to_vec();
        while let Some(frame) = Frame::take(&mut rest) {
            messages.add(&frame);
        }
        messages
    }
}
