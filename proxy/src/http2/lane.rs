//! One direction of a stream: what its source sent and its sink has not taken yet, and how much more
//! either may send.

use std::time::Duration;

use l7_parsers::http2::frame::{FrameHeader, Kind, flag};

use super::{STREAM_WINDOW, fields::Fields, half::Half, ticks::now};

pub(super) struct Lane {
    /// What the source may still send on this stream.
    window: i64,
    /// What it has sent, and was not told yet that it may send again.
    owed: u32,
    /// What the sink takes on this stream.
    pub(super) room: i64,
    waiting: Vec<u8>,
    /// Of these, what has gone already.
    gone: usize,
    trailers: Option<Box<Fields>>,
    /// The source sends no more.
    pub(super) ended: bool,
    /// The sink knows that there is no more, or wants no more: what comes is thrown away.
    pub(super) done: bool,
    /// Among those that wait for the sink.
    pub(super) listed: bool,
    /// Octets that are to come by content-length.
    length: Option<u64>,
    /// When the source sent something last, by [`now`].
    pub(super) last: Duration,
}

/// What a source did wrong with its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    OverWindow,
    Length,
}

impl Lane {
    /// `room`: what the sink takes on a new stream.
    pub(super) fn new(room: i64) -> Self {
        Self {
            window: i64::from(STREAM_WINDOW),
            owed: 0,
            room,
            waiting: Vec::new(),
            gone: 0,
            trailers: None,
            ended: false,
            done: false,
            listed: false,
            length: None,
            last: now(),
        }
    }

    pub(super) fn expect(&mut self, length: Option<u64>) {
        self.length = length;
    }

    /// Notes a DATA frame: `flow` octets of it count for the window, `data` for the body.
    pub(super) fn came(&mut self, flow: u32, data: usize) -> Result<(), BodyFault> {
        self.last = now();
        self.window -= i64::from(flow);
        if self.window < 0 {
            return Err(BodyFault::OverWindow);
        }
        // Padding takes no room.
        self.owed += flow - u32::try_from(data).unwrap_or(flow);
        if let Some(left) = &mut self.length {
            *left = left.checked_sub(data as u64).ok_or(BodyFault::Length)?;
        }
        Ok(())
    }

    /// The source sends no more.
    pub(super) fn end(&mut self, trailers: Option<Box<Fields>>) -> Result<(), BodyFault> {
        self.last = now();
        if self.length.is_some_and(|left| left > 0) {
            return Err(BodyFault::Length);
        }
        self.ended = true;
        self.trailers = trailers;
        Ok(())
    }

    /// Octets that wait for the sink.
    pub(super) fn waits(&self) -> usize {
        self.waiting.len() - self.gone
    }

    /// Passes on what has just come, behind what waits. What does not fit waits, and `kept` is told how much.
    pub(super) fn pass(
        &mut self,
        stream: u32,
        data: &[u8],
        to: &mut Half,
        mut passed: impl FnMut(&[u8]),
    ) -> usize {
        let went = if self.waits() == 0 { self.send(stream, data, to, &mut passed) } else { 0 };
        let kept = &data[went..];
        if kept.is_empty() {
            if !data.is_empty() {
                to.meter.piece();
            }
            self.finish(stream, to);
            return 0;
        }
        self.waiting.extend_from_slice(kept);
        self.list(stream, to);
        kept.len()
    }

    /// Keeps what has just come: there is no sink yet.
    pub(super) fn keep(&mut self, data: &[u8]) {
        self.waiting.extend_from_slice(data);
    }

    /// Puts itself among those that wait for the sink's connection; those without room on their own stream
    /// would only be in the way there.
    pub(super) fn list(&mut self, stream: u32, to: &mut Half) {
        if self.waits() > 0 && self.room > 0 && !self.listed {
            self.listed = true;
            to.blocked.push_back(stream);
        }
    }

    /// Sends of what waits what fits into one frame. Returns how much that was.
    pub(super) fn drain(&mut self, stream: u32, to: &mut Half, mut passed: impl FnMut(&[u8])) -> usize {
        let mut waiting = std::mem::take(&mut self.waiting);
        let one = waiting[self.gone..].len().min(to.most_frame);
        // The last one may end the stream only if it is all that waits.
        let whole = one == waiting.len() - self.gone;
        let ended = self.ended;
        self.ended = ended && whole;
        let went = self.send(stream, &waiting[self.gone..][..one], to, &mut passed);
        self.ended = ended;
        self.gone += went;
        if self.gone == waiting.len() {
            self.gone = 0;
            waiting = Vec::new();
        } else if self.gone >= waiting.len() / 2 {
            waiting.drain(..self.gone);
            self.gone = 0;
        }
        self.waiting = waiting;
        if self.waits() == 0 {
            to.meter.piece();
            self.finish(stream, to);
        }
        went
    }

    /// Throws away what waits. Returns how many octets of the body that were.
    pub(super) fn discard(&mut self) -> usize {
        let waits = self.waits();
        self.trailers = None;
        self.waiting = Vec::new();
        self.gone = 0;
        waits
    }

    /// Writes as much of `data` as goes; the end of the stream with it, where that is all.
    fn send(&mut self, stream: u32, data: &[u8], to: &mut Half, passed: &mut impl FnMut(&[u8])) -> usize {
        let mut went = 0;
        while went < data.len() {
            let most = self.room.min(to.room).min(to.out.free());
            let octets = usize::try_from(most).unwrap_or(0).min(to.most_frame).min(data.len() - went);
            if octets == 0 {
                break;
            }
            let piece = &data[went..][..octets];
            went += octets;
            let is_last = went == data.len() && self.ended && self.trailers.is_none();
            let sent = i64::try_from(octets).unwrap_or(i64::MAX);
            self.room -= sent;
            to.room -= sent;
            put_data(to.out.octets(), stream, piece, is_last);
            self.done |= is_last;
            passed(piece);
        }
        went
    }

    /// Tells the sink that there is no more, where all has gone.
    fn finish(&mut self, stream: u32, to: &mut Half) {
        if !self.ended || self.done || self.waits() > 0 {
            return;
        }
        self.done = true;
        match self.trailers.take() {
            Some(trailers) => to.put_block(stream, trailers.iter(), true),
            None => put_data(to.out.octets(), stream, &[], true),
        }
    }

    /// What the source may send again, once that is worth a frame. Octets that wait are not given back.
    pub(super) fn give_back(&mut self, moved: usize) -> Option<u32> {
        self.owed += u32::try_from(moved).unwrap_or(u32::MAX);
        if self.owed < STREAM_WINDOW / 2 || self.ended {
            return None;
        }
        self.window += i64::from(self.owed);
        Some(std::mem::take(&mut self.owed))
    }
}

fn put_data(out: &mut Vec<u8>, stream: u32, data: &[u8], is_last: bool) {
    let flags = if is_last { flag::END_STREAM } else { 0 };
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&FrameHeader { length, kind: Kind::Data, flags, stream }.encode());
    out.extend_from_slice(data);
}
