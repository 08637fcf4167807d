//! One stream: one request and its answer.

use std::time::Duration;

use super::{call::Call, fields::Fields, lane::Lane, request::Request, ticks::now, upstream::Upstream};
use crate::{grpc::Side, record::Recording, response::Tongue};

pub(super) struct Stream {
    pub(super) log: Log,
    /// What the client understands.
    pub(super) tongue: Tongue,
    pub(super) asking: Asking,
    /// What its head takes while it is parked, or its trailers while they wait; counted for its source.
    pub(super) kept: usize,
    /// From the client to the server.
    pub(super) upload: Lane,
    /// From the server to the client.
    pub(super) answer: Lane,
    /// The head of the answer has gone to the client.
    pub(super) answered: bool,
    /// The answer has no body, whatever its length.
    pub(super) is_head: bool,
    /// When the request was sent to the server, or began to wait for that.
    pub(super) since: Duration,
}

/// How far a request is.
pub(super) enum Asking {
    /// It waits until it can be sent; it is judged once more when it is.
    Parked(Box<Request>),
    /// To the upstream of this number, whose stream is open.
    Sent(u32),
    /// No server has a stream for it (any more).
    Nobody,
}

/// Where the record of a stream is.
pub(super) enum Log {
    /// Written when the answer begins.
    Request(Option<Box<Recording>>),
    /// Written when it ends.
    Call(Box<Call>),
}

impl Stream {
    /// `rooms`: what server and client take on a new stream.
    pub(super) fn new(log: Log, tongue: Tongue, rooms: [i64; 2]) -> Self {
        Self {
            log,
            tongue,
            asking: Asking::Nobody,
            kept: 0,
            upload: Lane::new(rooms[0]),
            answer: Lane::new(rooms[1]),
            answered: false,
            is_head: false,
            since: now(),
        }
    }

    /// Where its server's stream is.
    pub(super) fn upstream<'a>(&self, upstreams: &'a mut [Upstream]) -> Option<&'a mut Upstream> {
        match self.asking {
            Asking::Sent(number) => upstreams.iter_mut().find(|upstream| upstream.number == number),
            Asking::Parked(_) | Asking::Nobody => None,
        }
    }

    pub(super) fn is_at(&self, upstream: u32) -> bool {
        matches!(self.asking, Asking::Sent(number) if number == upstream)
    }

    /// Whether the server has nothing to send or to take any more.
    pub(super) fn is_over_at_server(&self) -> bool {
        self.upload.done && self.answer.ended
    }
}

impl Log {
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Recording)) {
        match self {
            Self::Request(Some(recording)) => note(recording),
            Self::Request(None) => {}
            Self::Call(call) => note(call.recording()),
        }
    }

    /// Whether its record is still to be written.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Request(recording) => recording.is_some(),
            Self::Call(call) => call.is_open(),
        }
    }

    pub(super) fn call(&mut self) -> Option<&mut Call> {
        match self {
            Self::Request(_) => None,
            Self::Call(call) => Some(call),
        }
    }

    /// The head of the answer goes to the client: with that the record is complete, but for a call's.
    pub(super) fn begins(&mut self, fields: Option<&Fields>) {
        match (self, fields) {
            (Self::Request(recording), _) => *recording = None,
            (Self::Call(call), Some(fields)) => call.is_answered(fields),
            (Self::Call(_), None) => {}
        }
    }

    pub(super) fn passes(&self, side: Side, octets: &[u8]) {
        if let Self::Call(call) = self {
            call.passes(side, octets);
        }
    }

    /// The answer has come to its end.
    pub(super) fn ends(&mut self) {
        match self {
            Self::Request(recording) => *recording = None,
            Self::Call(call) => call.end(),
        }
    }
}
