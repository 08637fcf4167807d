//! One side of a connection: its peer's settings and windows, its compression, what is to be written to
//! it, and the frames that it sends.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use l7_parsers::http2::{
    frame::{
        ErrorCode, FrameHeader, HEADER, Kind, Setting, Settings, flag, put_header_block, put_settings,
        put_settings_ack, put_window_update,
    },
    hpack::{Decoded, Decoder, Encoder, Field},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{
    CONNECTION_WINDOW, STREAM_WINDOW, fault::Fault, fields::Fields, lane::Lane, meter::Meter, out::Out,
    ticks::now,
};
use crate::worker::{Share, Wanted};

/// What RFC 9113 gives to whoever says nothing else (§6.5.2, §6.9.2).
const USUAL_WINDOW: u32 = 65_535;
pub(super) const USUAL_FRAME: usize = 16 << 10;
const USUAL_TABLE: usize = 4096;

/// Octets of one peer that wait in lanes, from which on it sends no more until some of them have gone.
const MOST_WAITING: usize = 2 << 20;

pub(super) struct Half {
    pub(super) out: Out,
    pub(super) meter: Meter,
    encoder: Encoder,
    decoder: Decoder,
    /// The beginning of a frame.
    held: Vec<u8>,
    /// Since when the beginning of a frame is all that there is.
    pub(super) part_since: Option<Duration>,
    /// A header block that has not come to its end.
    pub(super) block: Option<Block>,
    /// Octets of a frame that the peer takes.
    pub(super) most_frame: usize,
    /// Streams that the peer takes.
    pub(super) most_streams: usize,
    /// What the peer takes on a new stream.
    pub(super) stream_room: i64,
    /// What it takes on the connection.
    pub(super) room: i64,
    /// What it may still send on the connection.
    window: i64,
    /// What it has sent, and was not told yet that it may send again.
    owed: u32,
    /// Of these, what waits in the lanes.
    pub(super) waiting: usize,
    /// Streams with octets that wait for room on this connection.
    pub(super) blocked: VecDeque<u32>,
    /// Its first frame, which must be SETTINGS, has come.
    has_begun: bool,
    /// What it says there has been noted.
    pub(super) is_settled: bool,
}

/// A header block in several frames.
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) ended: bool,
    pub(super) octets: Vec<u8>,
    pub(super) since: Duration,
}

impl Half {
    pub(super) fn new(most_streams: usize) -> Self {
        Self {
            out: Out::default(),
            meter: Meter::new(now()),
            encoder: Encoder::new(),
            decoder: Decoder::new(USUAL_TABLE),
            held: Vec::new(),
            part_since: None,
            block: None,
            most_frame: USUAL_FRAME,
            most_streams,
            stream_room: i64::from(USUAL_WINDOW),
            room: i64::from(USUAL_WINDOW),
            window: i64::from(CONNECTION_WINDOW),
            owed: 0,
            waiting: 0,
            blocked: VecDeque::new(),
            has_begun: false,
            is_settled: false,
        }
    }

    /// Tells the peer what it may do.
    pub(super) fn greet(&mut self, first: (Setting, u32), head_octets: usize) {
        let list = u32::try_from(head_octets).unwrap_or(u32::MAX);
        let settings =
            [first, (Setting::InitialWindowSize, STREAM_WINDOW), (Setting::MaxHeaderListSize, list)];
        put_settings(self.out.octets(), &settings);
        put_window_update(self.out.octets(), 0, CONNECTION_WINDOW - USUAL_WINDOW);
    }

    /// Reads what is there into `scratch`, behind the beginning of a frame that is there already. Ready with
    /// the octets in all; 0: the peer sends no more.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut TcpStream,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let held = self.held.len();
        if self.holds_frame() {
            scratch[..held].copy_from_slice(&self.held);
            self.held.clear();
            return Poll::Ready(Ok(held));
        }
        let mut buffer = ReadBuf::new(&mut scratch[held..]);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        scratch[..held].copy_from_slice(&self.held);
        self.held.clear();
        Poll::Ready(Ok(held + read))
    }

    /// Whether there is a frame that nobody had room for when it came.
    fn holds_frame(&self) -> bool {
        self.part().is_some_and(|header| {
            let length = header.length as usize;
            length > USUAL_FRAME || self.held.len() - HEADER >= length
        })
    }

    /// Keeps the beginning of a frame, or what is to be read later; `behind`: so much has been read.
    pub(super) fn hold(&mut self, octets: &[u8], behind: usize) {
        if behind > 0 {
            // It is another frame than the one that was held before.
            self.part_since = None;
        }
        if octets.is_empty() {
            self.part_since = None;
            // Connections that wait need no memory for this.
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(octets);
            self.part_since.get_or_insert_with(now);
        }
    }

    /// The frame of which only a part is there.
    pub(super) fn part(&self) -> Option<FrameHeader> {
        self.held.first_chunk::<HEADER>().map(FrameHeader::parse)
    }

    /// The first frame of some octets, and how many it takes. `None`: it is not there as a whole.
    pub(super) fn frame<'a>(&mut self, octets: &'a [u8]) -> Result<Option<(FrameHeader, &'a [u8])>, Fault> {
        let Some((header, behind)) = octets.split_first_chunk::<HEADER>() else { return Ok(None) };
        let header = FrameHeader::parse(header);
        if header.length as usize > USUAL_FRAME {
            return Err(Fault::connection(ErrorCode::FrameSize, "frame of more octets than allowed"));
        }
        if !self.has_begun && header.kind != Kind::Settings {
            return Err(Fault::connection(ErrorCode::Protocol, "first frame that is not SETTINGS"));
        }
        if let Some(block) = &self.block
            && (header.kind, header.stream) != (Kind::Continuation, block.stream)
        {
            return Err(Fault::connection(ErrorCode::Protocol, "frame inside a header block"));
        }
        self.has_begun = true;
        Ok(behind.get(..header.length as usize).map(|payload| (header, payload)))
    }

    /// Puts a part of a header block behind those that came before. `Some`: it is there as a whole.
    pub(super) fn continues(
        &mut self,
        header: &FrameHeader,
        part: &[u8],
        most: usize,
    ) -> Result<Option<Block>, Fault> {
        let Some(block) = &mut self.block else {
            return Err(Fault::connection(ErrorCode::Protocol, "CONTINUATION without a header block"));
        };
        if block.octets.len() + part.len() > most {
            return Err(Fault::connection(ErrorCode::EnhanceYourCalm, HEAD_TOO_LARGE));
        }
        block.octets.extend_from_slice(part);
        Ok(if header.has(flag::END_HEADERS) { self.block.take() } else { None })
    }

    /// Decodes a whole header block, whatever becomes of it: what comes later depends on it.
    pub(super) fn decode(&mut self, block: &[u8], most: usize, into: &mut Fields) -> Result<Decoded, Fault> {
        into.clear();
        let result = self.decoder.decode(block, most, |field| into.push(&field));
        result.map_err(|error| Fault::connection(ErrorCode::Compression, error))
    }

    /// What the peer's settings change for streams that are there: their room by so much.
    pub(super) fn settle(&mut self, settings: Settings<'_>) -> i64 {
        let before = self.stream_room;
        if !std::mem::replace(&mut self.is_settled, true) {
            // Whoever names no limit has none.
            self.most_streams = usize::MAX;
        }
        for (setting, value) in settings {
            match setting {
                Setting::HeaderTableSize => self.encoder.set_max_table(value as usize),
                Setting::MaxConcurrentStreams => self.most_streams = value as usize,
                Setting::InitialWindowSize => self.stream_room = i64::from(value),
                Setting::MaxFrameSize => self.most_frame = value as usize,
                Setting::EnablePush | Setting::MaxHeaderListSize => {}
            }
        }
        put_settings_ack(self.out.octets());
        self.stream_room - before
    }

    /// Writes a header block.
    pub(super) fn put_block<'a>(
        &mut self,
        stream: u32,
        fields: impl Iterator<Item = Field<'a>>,
        is_last: bool,
    ) {
        let most = self.most_frame;
        let out = self.out.octets();
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        self.encoder.start(out);
        for field in fields {
            self.encoder.field(field.name, field.value, field.never_indexed, out);
        }
        let length = out.len() - start - HEADER;
        if length > most {
            let block = out.split_off(start + HEADER);
            out.truncate(start);
            return put_header_block(out, stream, &block, is_last, most);
        }
        let flags = flag::END_HEADERS | if is_last { flag::END_STREAM } else { 0 };
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let header = FrameHeader { length, kind: Kind::Headers, flags, stream };
        out[start..start + HEADER].copy_from_slice(&header.encode());
    }

    /// The peer gives so much more room on the connection.
    pub(super) fn widen(&mut self, octets: u32) -> Result<(), Fault> {
        widened(&mut self.room, octets)
            .then_some(())
            .ok_or(Fault::connection(ErrorCode::FlowControl, "window of the connection too large"))
    }

    /// Notes octets that count for the connection's window.
    pub(super) fn came(&mut self, octets: u32) -> Result<(), Fault> {
        self.window -= i64::from(octets);
        self.owed += octets;
        if self.window < 0 {
            return Err(Fault::connection(ErrorCode::FlowControl, "more DATA than the connection's window"));
        }
        Ok(())
    }

    /// Lets the peer send again what has moved on from a lane of its own.
    pub(super) fn give_back_stream(&mut self, stream: u32, lane: &mut Lane, moved: usize) {
        if let Some(octets) = lane.give_back(moved) {
            put_window_update(self.out.octets(), stream, octets);
        }
    }

    /// Lets the peer send again what it has sent; what waits only where its source may hold more. False:
    /// something is kept back until it may.
    pub(super) fn give_back(&mut self, share: &Share) -> bool {
        const WORTH_A_FRAME: u32 = CONNECTION_WINDOW / 2;
        if self.owed < WORTH_A_FRAME {
            return true;
        }
        let may_hold = self.waiting < MOST_WAITING && share.has_room(Wanted::More);
        let kept = if may_hold { 0 } else { u32::try_from(self.waiting).unwrap_or(u32::MAX) };
        let octets = self.owed.saturating_sub(kept);
        if octets < WORTH_A_FRAME {
            return false;
        }
        self.owed -= octets;
        self.window += i64::from(octets);
        put_window_update(self.out.octets(), 0, octets);
        true
    }
}

pub(super) const HEAD_TOO_LARGE: &str = "request head far too large";

/// Adds to a window; false: it would be larger than a window can be (RFC 9113 §6.9.1).
pub(super) fn widened(window: &mut i64, octets: u32) -> bool {
    *window += i64::from(octets);
    *window < 1 << 31
}
