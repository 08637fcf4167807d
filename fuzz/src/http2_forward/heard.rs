//! What stands in the octets of one side of a connection, by a plainer reading than the proxy's.

use std::collections::{BTreeMap, BTreeSet};

use l7_parsers::http2::hpack::{Decoded, Decoder};

pub(super) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// One side's part of a stream.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) heads: Vec<Lines>,
    pub(super) data: Vec<u8>,
    /// It has said all that it wanted.
    pub(super) ended: bool,
    pub(super) reset: bool,
}

impl Told {
    /// It has a head.
    pub(super) fn has_begun(&self) -> bool {
        !self.heads.is_empty()
    }

    pub(super) fn value(&self, head: usize, name: &str) -> Option<&[u8]> {
        let lines = self.heads.get(head)?;
        lines.iter().find(|(own, _)| own == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// The head that is no information, with its status.
    pub(super) fn answer(&self) -> Option<(&Lines, &[u8])> {
        let is_final =
            |head: &usize| self.value(*head, ":status").is_some_and(|status| !status.starts_with(b"1"));
        let head = (0..self.heads.len()).find(is_final)?;
        Some((&self.heads[head], self.value(head, ":status")?))
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) streams: BTreeMap<u32, Told>,
    /// In which order streams were begun.
    pub(super) order: Vec<u32>,
    /// The most that it lets the other side send: on any stream at first, in a frame, in a table.
    window: u64,
    frame: usize,
    table: usize,
    /// By stream, what it has added. 0: the connection.
    added: BTreeMap<u32, u64>,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// The first frame, if it is there as a whole, and what is behind it.
fn frame(octets: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let [a, b, c, kind, flags, d, e, f, g, rest @ ..] = octets else { return None };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let payload = rest.get(..length)?;
    let stream = u32::from_be_bytes([*d, *e, *f, *g]) & 0x7fff_ffff;
    Some((Frame { kind: *kind, flags: *flags, stream, payload }, &rest[length..]))
}

impl Heard {
    /// Of hostile octets: as far as they can be read.
    pub(super) fn from_peer(octets: &[u8]) -> Self {
        Self::read(octets, None)
    }

    /// What the proxy has told to somebody who has said this: everything must be right.
    pub(super) fn from_proxy(octets: &[u8], to: &Self) -> Self {
        Self::read(octets, Some(to))
    }

    fn read(mut octets: &[u8], to: Option<&Self>) -> Self {
        let mut heard = Self { window: 65_535, frame: 1 << 14, table: 4096, ..Self::default() };
        let mut decoder = Decoder::new(to.map_or(4096, |to| to.table));
        let mut is_first = true;
        let mut ended = BTreeSet::new();
        while let Some((mut frame, rest)) = frame(octets) {
            octets = rest;
            if let Some(to) = to {
                assert!(frame.payload.len() <= to.frame, "a frame that is too large");
                assert_eq!(is_first, frame.kind == 4 && frame.flags & 1 == 0, "one SETTINGS, first of all");
                assert!(!matches!(frame.kind, 2 | 5 | 9..), "kind {} behind no head", frame.kind);
                if matches!(frame.kind, 0 | 1) {
                    assert!(frame.stream % 2 == 1 && !ended.contains(&frame.stream), "{}", frame.stream);
                }
            }
            is_first = false;
            let mut block = Vec::new();
            if frame.kind == 1 {
                let Some(parts) = block_of(&mut frame, &mut octets) else { break };
                block = parts;
            }
            let done = heard.take(&frame, &block, &mut decoder);
            if done.is_none() {
                assert!(to.is_none(), "the proxy's frame cannot be read: kind {}", frame.kind);
                break;
            }
            let over = matches!(frame.kind, 0 | 1) && frame.flags & 1 == 1;
            if over || frame.kind == 3 {
                ended.insert(frame.stream);
            }
        }
        if let Some(to) = to {
            heard.keeps_to(to);
        }
        heard
    }

    /// `None`: it cannot be read.
    fn take(&mut self, frame: &Frame<'_>, block: &[u8], decoder: &mut Decoder) -> Option<()> {
        let number = |octets: &[u8]| Some(u32::from_be_bytes(octets.get(..4)?.try_into().ok()?));
        match frame.kind {
            0 => {
                let data = unpadded(frame)?;
                let told = self.streams.entry(frame.stream).or_default();
                // What a peer says behind its own end belongs to nothing.
                if !told.ended {
                    told.data.extend_from_slice(data);
                    told.ended = frame.flags & 1 == 1;
                }
            }
            1 => {
                let mut lines = Lines::new();
                let field = |field: l7_parsers::http2::hpack::Field<'_>| {
                    lines.push((field.name.to_vec(), field.value.to_vec()));
                };
                let Decoded::Whole = decoder.decode(block, usize::MAX, field).ok()? else { return None };
                let told = self.streams.entry(frame.stream).or_default();
                if told.heads.is_empty() {
                    self.order.push(frame.stream);
                }
                if !told.ended {
                    told.heads.push(lines);
                    told.ended = frame.flags & 1 == 1;
                }
            }
            3 => self.streams.entry(frame.stream).or_default().reset = true,
            4 if frame.flags & 1 == 0 => {
                for setting in frame.payload.chunks_exact(6) {
                    let value = number(&setting[2..])?;
                    match setting[1] {
                        1 => self.table = self.table.max(value as usize),
                        4 => self.window = self.window.max(value.into()),
                        5 => self.frame = self.frame.max(value as usize),
                        _ => {}
                    }
                }
            }
            8 => {
                *self.added.entry(frame.stream).or_default() +=
                    u64::from(number(frame.payload)? & 0x7fff_ffff)
            }
            _ => {}
        }
        Some(())
    }

    /// No more was sent than the other side has ever given room for.
    fn keeps_to(&self, to: &Self) {
        let room = |stream| to.added.get(&stream).copied().unwrap_or(0);
        let mut all = 0;
        for (stream, told) in &self.streams {
            all += told.data.len() as u64;
            assert!(told.data.len() as u64 <= to.window + room(*stream), "beyond the window of {stream}");
        }
        assert!(all <= 65_535 + room(0), "beyond the window of the connection");
    }
}

/// The header block that begins in this frame.
fn block_of(begun: &mut Frame<'_>, octets: &mut &[u8]) -> Option<Vec<u8>> {
    let mut block = unpadded(begun)?;
    if begun.flags & 0x20 != 0 {
        block = block.get(5..)?;
    }
    let mut block = block.to_vec();
    let mut flags = begun.flags;
    while flags & 4 == 0 {
        let (next, rest) = frame(octets)?;
        if next.kind != 9 || next.stream != begun.stream {
            return None;
        }
        block.extend_from_slice(next.payload);
        (flags, *octets) = (next.flags, rest);
    }
    Some(block)
}

fn unpadded<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    if frame.flags & 8 == 0 {
        return Some(frame.payload);
    }
    let (padding, rest) = frame.payload.split_first()?;
    rest.get(..rest.len().checked_sub((*padding).into())?)
}
