//! Long produce requests: records pass as they come, once what stands before them has shown that they may.
//! Only where they are all that is left: one topic, one partition, and as many octets behind them as end a
//! message without anything unknown in it. Anything else is held whole, as the length in front may change.
//!
//! A broker looks at no part of a request before it has all of it, so one that turns out to be malformed
//! behind its records is not done: its last octets are held until they are read, and never sent.

use std::time::Instant;

use bytes::Bytes;

use super::{Judged, Octets};
use crate::kafka::{
    Closing, Malformed, Outcome, Policy, api,
    decode::{self, Gap},
    engine::{
        Engine, Intake, Passing, Step,
        in_flight::{Asked, Draft},
        inbox::Way,
        names::METADATA_BY_ID,
    },
    header::{Header, Start},
    judge::{self, Decision},
    schema,
    sessions::Change,
};

/// A request whose records are passing.
#[derive(Debug)]
pub(in crate::kafka::engine) struct Streaming {
    /// Octets of records that have not come yet.
    records: usize,
    /// Octets behind them, which must be zero: no tagged fields.
    tail: usize,
    asked: Asked,
    draft: Draft,
}

impl Streaming {
    pub(in crate::kafka::engine) fn names(&self) -> usize {
        self.asked.names() + self.draft.record.names()
    }

    pub(in crate::kafka::engine) fn passing(&self) -> Passing {
        Passing { octets: self.records, behind: self.tail }
    }

    pub(in crate::kafka::engine) fn passed(&mut self, octets: usize) {
        self.records = self.records.saturating_sub(octets);
    }

    /// Its record as far as it is known.
    pub(in crate::kafka::engine) fn into_draft(self) -> Draft {
        self.draft
    }
}

/// How a request goes on.
pub(super) enum Plan {
    /// More of it must come first.
    Unknown,
    Streams,
    Whole,
}

/// The start of a request up to its records.
struct Head {
    /// With the length in front.
    octets: usize,
    records: usize,
    tail: usize,
    /// The same request without any records.
    without_records: Bytes,
}

impl Engine {
    pub(super) fn plan(&mut self, length: usize, policy: &dyn Policy, now: Instant) -> Plan {
        /// Octets that stand before the records. Names may be longer; then the request is held.
        const MOST: usize = 4 << 10;
        if length < self.limits.streamed_octets || self.client.way == Way::Whole {
            return Plan::Whole;
        }
        let most = MOST.min(4 + length);
        let here = self.client.octets.len().min(most);
        let start = Bytes::copy_from_slice(&self.client.octets[..here]);
        let produces = start.get(4..6).is_none_or(|key| key == api::PRODUCE.to_be_bytes());
        let plan = match head(&start, length) {
            Some(head) => self.begin(head, policy, now),
            None if produces && here < most => Plan::Unknown,
            None => Plan::Whole,
        };
        match plan {
            Plan::Unknown => self.client.way = Way::Awaited,
            Plan::Whole => self.client.way = Way::Whole,
            Plan::Streams => {}
        }
        plan
    }

    /// Sends the start, if all of the request is allowed as it is.
    fn begin(&mut self, head: Head, policy: &dyn Policy, now: Instant) -> Plan {
        let Ok(Some(request)) = self.understand(head.without_records, now) else { return Plan::Whole };
        let version = request.header.start.api_version;
        let unknown = judge::unknown_ids(request.message, request.api, version, &request.body, &self.topics);
        if !unknown.is_empty() && self.metadata >= METADATA_BY_ID || request.octets != Octets::AsTheyCame {
            return Plan::Whole;
        }
        let Judged { request, decision, change, mut asked, denied } = self.judge(request, policy);
        let (Decision::Forward(_, edit), Change::None, false) = (decision, change, denied) else {
            return Plan::Whole;
        };
        asked.edit = edit;
        let start = self.client.take_some(head.octets);
        self.to_broker.push(start);
        let Head { records, tail, .. } = head;
        self.streaming = Some(Streaming { records, tail, asked, draft: request.draft });
        Plan::Streams
    }

    /// The next octets of a request whose records are passing.
    pub(super) fn stream(&mut self, now: Instant) -> Step {
        let Some(streaming) = &mut self.streaming else { return Step::Waits };
        if self.intake != Intake::Open || self.to_broker.octets() >= self.limits.outbox_octets {
            return Step::Waits;
        }
        if streaming.records > 0 {
            let piece = self.client.take_some(streaming.records);
            streaming.records -= piece.len();
            let step = if piece.is_empty() { Step::Waits } else { Step::Made };
            self.to_broker.push(piece);
            return step;
        }
        if self.client.octets.len() < streaming.tail {
            return Step::Waits;
        }
        let tail = self.client.take_some(streaming.tail);
        let Some(Streaming { asked, mut draft, .. }) = self.streaming.take() else { return Step::Waits };
        if tail.iter().any(|octet| *octet != 0) {
            self.break_off(Closing::Request(Malformed::Truncated), draft, now);
            return Step::Made;
        }
        self.to_broker.push(tail);
        // As of a request that is held: the answer's time counts from when all was there.
        draft.began = now;
        self.was_sent(asked, draft, now);
        Step::Made
    }

    /// The broker has a part of a request that must not be done: nothing can be said to it any more.
    fn break_off(&mut self, closing: Closing, mut draft: Draft, now: Instant) {
        draft.record.outcome = Outcome::Refused(closing);
        self.records.push_back(draft.end(now));
        self.client.clear();
        (self.intake, self.closed) = (Intake::Ended, Some(closing));
    }
}

/// `start` is the start of a request, with the length in front; `length` is that length. `None` if the records
/// do not begin in it, or if something else comes behind them.
fn head(start: &Bytes, length: usize) -> Option<Head> {
    /// Values before the records.
    const VALUES: usize = 64;
    /// Empty sections of tagged fields: of the partition, the topic, and the request.
    const TAIL: usize = 3;
    let frame = start.get(4..).map(|frame| start.slice_ref(frame))?;
    let Start { api_key, api_version, .. } = Start::read(&frame).ok()?;
    if api_key != api::PRODUCE || !api::versions(api_key).contains(api_version) {
        return None;
    }
    let message = schema::message(api_key)?;
    let flexible = message.flexible.contains(api_version);
    let (_, body) = Header::read(&frame, flexible).ok()?;
    let Gap { length_at, at, octets: records } = decode::first_octets(
        &message.request,
        &frame.slice(body..),
        length - body,
        api_version,
        flexible,
        VALUES,
    )?;
    let tail = (length - body).checked_sub(at + records).filter(|tail| *tail <= TAIL)?;
    let none: &[u8] = if flexible { &[1] } else { &[0; 4] };
    let without_records = [&start[..4 + body + length_at], none, &[0; TAIL][..tail]].concat().into();
    Some(Head { octets: 4 + body + at, records, tail, without_records })
}
