//! One client connection and its broker connection. The caller reads octets into the buffers of
//! [`Engine::ends`], calls [`Engine::advance`], and writes the outboxes.
//!
//! A broker answers in the order of the requests, so what is answered here waits for its turn in the
//! same queue.

mod client;
mod in_flight;
mod outbox;
mod upstream;

use std::{collections::VecDeque, time::Instant};

use bytes::BytesMut;

pub use outbox::Outbox;

use self::{client::Request, in_flight::InFlight};
use super::{Closing, Limits, Policy, Record, sessions::ShareSessions, topics::TopicIds};

/// The version from which Metadata can be asked by id alone.
const METADATA_BY_ID: i16 = 12;

#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    client: BytesMut,
    broker: BytesMut,
    to_broker: Outbox,
    to_client: Outbox,
    records: VecDeque<Record>,
    in_flight: VecDeque<InFlight>,
    /// A request that waits for names of topic ids.
    held: Option<Request>,
    /// Octets that wait here for an answer of the broker: answers made here, and requests of which
    /// entries are put into the answer.
    kept: usize,
    /// Octets of the answer that is passing, not come yet.
    passing: usize,
    topics: TopicIds,
    /// The broker's newest version of Metadata that is understood here.
    metadata: i16,
    shares: ShareSessions,
    intake: Intake,
    closed: Option<Closing>,
}

/// The four ends of an [`Engine`].
pub struct Ends<'a> {
    /// Octets of the client are appended here while [`Engine::wants_client`] says so.
    pub from_client: &'a mut BytesMut,
    /// Octets of the broker are appended here while [`Engine::wants_broker`] says so.
    pub from_broker: &'a mut BytesMut,
    pub to_client: &'a mut Outbox,
    pub to_broker: &'a mut Outbox,
}

/// Whether requests are still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    /// A request was refused: what was asked before it is still answered, then the connection ends.
    Ended,
}

/// Whether a step was made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Made,
    Waits,
}

impl Engine {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            client: BytesMut::new(),
            broker: BytesMut::new(),
            to_broker: Outbox::default(),
            to_client: Outbox::default(),
            records: VecDeque::new(),
            in_flight: VecDeque::new(),
            held: None,
            kept: 0,
            passing: 0,
            topics: TopicIds::default(),
            metadata: METADATA_BY_ID,
            shares: ShareSessions::new(limits.session_topics),
            intake: Intake::Open,
            closed: None,
        }
    }

    /// Where to read into and what to write, all at once, so that one loop can wait for all of them.
    pub fn ends(&mut self) -> Ends<'_> {
        Ends {
            from_client: &mut self.client,
            from_broker: &mut self.broker,
            to_client: &mut self.to_client,
            to_broker: &mut self.to_broker,
        }
    }

    /// The next record of a request that has ended.
    pub fn record(&mut self) -> Option<Record> {
        self.records.pop_front()
    }

    /// Whether more octets of the client would be looked at: the bound of its buffer.
    #[must_use]
    pub fn wants_client(&self) -> bool {
        self.may_ask()
    }

    /// Whether more octets of the broker would be looked at.
    #[must_use]
    pub fn wants_broker(&self) -> bool {
        self.closed.is_none() && self.to_client.octets() < self.limits.outbox_octets
    }

    /// Why the connection is to be closed, once both outboxes are written.
    pub fn closed(&self) -> Option<Closing> {
        self.closed
    }

    /// Requests that have no answer yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Judges and passes on what there is. `now` is for latencies.
    pub fn advance(&mut self, policy: &dyn Policy, now: Instant) {
        while self.closed.is_none() {
            let upstream = self.upstream_step(policy, now);
            let client = self.client_step(policy, now);
            if upstream == Step::Waits && client == Step::Waits {
                break;
            }
        }
    }

    fn await_turn(&mut self, due: InFlight) {
        self.kept += due.kept;
        self.in_flight.push_back(due);
    }

    fn next_due(&mut self) -> Option<InFlight> {
        let due = self.in_flight.pop_front()?;
        self.kept -= due.kept;
        Some(due)
    }

    fn may_ask(&self) -> bool {
        self.closed.is_none()
            && self.intake == Intake::Open
            && self.held.is_none()
            && self.in_flight.len() < self.limits.in_flight
            && self.kept < self.limits.kept_octets
            && self.to_broker.octets() < self.limits.outbox_octets
            && self.to_client.octets() < self.limits.outbox_octets
    }
}

/// Room for what is still missing of a frame: as much again as there is, so that a length that is only
/// claimed costs nothing.
fn make_room(buffer: &mut BytesMut, frame: usize) {
    const LEAST: usize = 16 << 10;
    let missing = frame.saturating_sub(buffer.len());
    buffer.reserve(missing.min(buffer.len().max(LEAST)));
}

/// The length in front of a frame, without its own 4 octets.
fn frame_length(buffer: &BytesMut) -> Option<Result<usize, std::num::TryFromIntError>> {
    let octets = buffer.first_chunk::<4>()?;
    Some(usize::try_from(i32::from_be_bytes(*octets)))
}
