//! One client connection and its broker connection. The caller reads octets into the buffers of
//! [`Engine::ends`], calls [`Engine::advance`], and writes the outboxes.
//!
//! A broker answers in the order of the requests, so what is answered here waits for its turn in the
//! same queue.

mod client;
mod in_flight;
mod inbox;
mod names;
mod outbox;
mod upstream;

use std::{collections::VecDeque, time::Instant};

use bytes::BytesMut;

pub use outbox::Outbox;

use self::{
    client::{Request, Streaming},
    in_flight::InFlight,
    inbox::{Admission, Inbox, Way},
    names::{Behind, METADATA_BY_ID},
};
use super::{
    Closing, Cut, Limits, Outcome, Policy, Record, members::Members, sessions::ShareSessions,
    topics::TopicIds,
};

#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    client: Inbox,
    broker: Inbox,
    to_broker: Outbox,
    to_client: Outbox,
    records: VecDeque<Record>,
    in_flight: VecDeque<InFlight>,
    /// A request that waits for names of topic ids.
    held: Option<Request>,
    /// A request whose records are passing.
    streaming: Option<Streaming>,
    /// Octets that wait here for an answer of the broker: answers made here, entries that are
    /// put into the answer, and names for records.
    kept: usize,
    /// An answer that waits for names of topic ids, and what comes after it.
    behind: VecDeque<Behind>,
    behind_octets: usize,
    /// Octets of the answer that is passing, not come yet.
    passing: usize,
    topics: TopicIds,
    /// The broker's newest version of Metadata that is understood here.
    metadata: i16,
    shares: ShareSessions,
    members: Members,
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

/// Octets of a message that nobody here needs to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    pub octets: usize,
    /// Octets of the same message that come after them.
    pub behind: usize,
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
            client: Inbox::default(),
            broker: Inbox::default(),
            to_broker: Outbox::default(),
            to_client: Outbox::default(),
            records: VecDeque::new(),
            in_flight: VecDeque::new(),
            held: None,
            streaming: None,
            behind: VecDeque::new(),
            behind_octets: 0,
            kept: 0,
            passing: 0,
            topics: TopicIds::default(),
            metadata: METADATA_BY_ID,
            shares: ShareSessions::new(limits.session_octets),
            members: Members::new(limits.session_octets),
            intake: Intake::Open,
            closed: None,
        }
    }

    /// Where to read into and what to write, all at once, so that one loop can wait for all of them.
    pub fn ends(&mut self) -> Ends<'_> {
        Ends {
            from_client: &mut self.client.octets,
            from_broker: &mut self.broker.octets,
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
        match self.streaming {
            Some(_) => self.closed.is_none() && self.to_broker.octets() < self.limits.outbox_octets,
            None => self.may_ask(),
        }
    }

    /// Whether a part of a request is at the broker already whose rest has not come: without it, nothing
    /// else that is said to the broker could be understood.
    #[must_use]
    pub fn is_amid_a_request(&self) -> bool {
        self.streaming.is_some()
    }

    /// Whether more octets of the broker would be looked at.
    #[must_use]
    pub fn wants_broker(&self) -> bool {
        self.closed.is_none()
            && self.to_client.octets() < self.limits.outbox_octets
            && !self.would_interrupt()
    }

    /// Why the connection is to be closed, once both outboxes are written.
    pub fn closed(&self) -> Option<Closing> {
        self.closed
    }

    /// Requests that have no answer yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.behind.len() + usize::from(self.streaming.is_some())
    }

    /// Whether nothing is due, or on its way to either end.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let unread = self.client.octets.len() + self.broker.octets.len() + self.passing;
        self.in_flight() == 0
            && self.held.is_none()
            && unread + self.to_client.octets() + self.to_broker.octets() == 0
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

    /// Octets of memory that the connection takes, or may take without asking again.
    #[must_use]
    pub fn octets(&self) -> usize {
        const DUE: usize = 512;
        let waiting = self.to_broker.octets() + self.to_client.octets() + self.behind_octets + self.kept;
        let held = self.held.as_ref().map_or(0, Request::octets)
            + self.streaming.as_ref().map_or(0, |streaming| DUE + streaming.names());
        let learned = self.topics.octets() + self.shares.octets() + self.members.octets();
        self.client.held() + self.broker.held() + waiting + held + self.in_flight.len() * DUE + learned
    }

    /// Whether there must be room for more before more is read of the client: but for a request that was
    /// admitted, always.
    #[must_use]
    pub fn request_needs_room(&self) -> bool {
        self.client.admission() == Admission::Awaited
    }

    /// There is room: a request that has begun may be read to its end. It counts as a whole from now on.
    pub fn admit_request(&mut self) {
        self.client.admit();
    }

    /// The same for what the broker sends. Answers that pass in pieces are never admitted.
    #[must_use]
    pub fn answer_needs_room(&self) -> bool {
        self.broker.admission() == Admission::Awaited
    }

    /// There is room: an answer that must be looked into may be read to its end.
    pub fn admit_answer(&mut self) {
        self.broker.admit();
    }

    /// Whether a request has begun, or an answer that is held until it is whole.
    #[must_use]
    pub fn is_amid_a_frame(&self) -> bool {
        self.client.admission() == Admission::Given
            || self.client.way == Way::Awaited
            || self.is_amid_a_request()
            || self.broker.admission() == Admission::Given
    }

    /// The connection has ended: what is not answered gets its record.
    pub fn cut(&mut self, why: Cut, now: Instant) {
        let held = self.held.take().map(Request::into_draft);
        let streaming = self.streaming.take().map(Streaming::into_draft);
        let behind = std::mem::take(&mut self.behind).into_iter().filter_map(|behind| match behind {
            Behind::Held(answer) => answer.draft,
            Behind::Octets(_) => None,
        });
        let due = std::mem::take(&mut self.in_flight).into_iter().filter_map(|due| due.draft);
        (self.kept, self.behind_octets) = (0, 0);
        for mut draft in behind.chain(due).chain(held).chain(streaming) {
            if !matches!(draft.record.outcome, Outcome::Refused(_)) {
                draft.record.cut = Some(why);
            }
            self.records.push_back(draft.end(now));
        }
    }

    /// What is next in the client's input and goes to the broker next as it is: whoever carries the
    /// connection may move it past the engine ([`Engine::passed_request`]).
    #[must_use]
    pub fn passing_request(&self) -> Passing {
        match &self.streaming {
            Some(streaming)
                if self.wants_client() && self.client.octets.is_empty() && self.to_broker.octets() == 0 =>
            {
                streaming.passing()
            }
            _ => Passing::default(),
        }
    }

    /// So many of [`Engine::passing_request`] were moved.
    pub fn passed_request(&mut self, octets: usize) {
        if let Some(streaming) = &mut self.streaming {
            streaming.passed(octets);
        }
    }

    /// The same from the broker to the client.
    #[must_use]
    pub fn passing_answer(&self) -> Passing {
        let nothing_before =
            self.broker.octets.is_empty() && self.to_client.octets() == 0 && self.behind.is_empty();
        match self.closed {
            None if nothing_before => Passing { octets: self.passing, behind: 0 },
            _ => Passing::default(),
        }
    }

    /// So many of [`Engine::passing_answer`] were moved.
    pub fn passed_answer(&mut self, octets: usize, now: Instant) {
        self.passed(octets.min(self.passing), now);
    }

    fn await_turn(&mut self, mut due: InFlight) {
        due.kept += due.names();
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
