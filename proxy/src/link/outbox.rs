//! Records on their way to the agent: numbered, kept until the agent has stored them, and sent again
//! where the link broke before it said so.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, Hasher as _},
};

use bytes::Bytes;
use prost::Message as _;

use crate::{
    link_proto::{EncodedRecords, Records, from_proxy::Kind},
    record::{self, BATCH, RecordSource},
};

/// Batches that may wait for their acknowledgement; the rest waits in the buffer, which counts what
/// it has no room for.
const WINDOW: usize = 16;

/// What this link's agent does with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// It has not said anything yet: nothing is sent.
    Unknown,
    /// Of an older version: a batch that is on the link is as good as stored.
    Takes,
    Acknowledges,
}

pub(super) struct Outbox {
    source: RecordSource,
    instance: u64,
    /// Number of the next record that is taken from the buffer.
    next: u64,
    /// Oldest first.
    kept: VecDeque<Batch>,
    /// How many of them are on this link.
    sent: usize,
    manner: Manner,
}

struct Batch {
    /// Number of its last record.
    last: u64,
    records: usize,
    /// As it goes over the wire.
    encoded: Bytes,
}

impl Outbox {
    pub(super) fn new(source: RecordSource) -> Self {
        // A number nobody else has; 0 has a meaning of its own.
        let instance = std::hash::RandomState::new().build_hasher().finish().max(1);
        Self { source, instance, next: 1, kept: VecDeque::new(), sent: 0, manner: Manner::Unknown }
    }

    pub(super) fn instance(&self) -> u64 {
        self.instance
    }

    /// On a new link nothing is on its way.
    pub(super) fn reconnected(&mut self) {
        self.sent = 0;
        self.manner = Manner::Unknown;
    }

    /// The agent's first message tells its manner; later ones change nothing.
    pub(super) fn meet(&mut self, manner: Manner) {
        if self.manner == Manner::Unknown {
            self.manner = manner;
        }
    }

    /// Records that wait for the agent or its acknowledgement.
    pub(super) fn waiting(&self) -> usize {
        self.source.waiting() + self.kept.iter().map(|batch| batch.records).sum::<usize>()
    }

    /// Whether more waits than the next tick should find.
    pub(super) fn is_behind(&self) -> bool {
        self.sent < self.kept.len() || self.source.waiting() >= BATCH
    }

    /// The next batch to send, if there is one and the agent is ready for it.
    pub(super) fn next(&mut self) -> Option<Kind> {
        if self.manner == Manner::Unknown || self.sent >= WINDOW {
            return None;
        }
        if self.sent == self.kept.len() {
            self.fill()?;
        }
        if self.manner == Manner::Takes {
            // Its own encoding, so it cannot fail; the agent would have nothing of what is damaged.
            let records = Records::decode(self.kept.pop_front()?.encoded).unwrap_or_default();
            return Some(Kind::Records(records));
        }
        let encoded = self.kept.get(self.sent)?.encoded.clone();
        self.sent += 1;
        Some(Kind::NumberedRecords(encoded))
    }

    /// Makes one more batch of what is in the buffer.
    fn fill(&mut self) -> Option<()> {
        let record::Batch { mut octets, records } = self.source.next_batch()?;
        // What stands behind the records of a message belongs to it.
        let rest = EncodedRecords { records: Vec::new(), lost_total: self.source.lost(), first: self.next };
        octets.extend(rest.encode_to_vec());
        self.next += records as u64;
        self.kept.push_back(Batch { last: self.next - 1, records, encoded: octets.into() });
        Some(())
    }

    /// The agent has stored all records up to number `through`.
    pub(super) fn acknowledged(&mut self, through: u64) {
        while self.sent > 0 && self.kept.front().is_some_and(|batch| batch.last <= through) {
            self.kept.pop_front();
            self.sent -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_proto::Record;

    fn outbox(records: u32) -> Outbox {
        let (sink, source) = record::buffer(10_000);
        for src_port in 0..records {
            sink.send(&Record { src_port, ..Record::default() });
        }
        Outbox::new(source)
    }

    fn numbered(kind: Option<Kind>) -> Records {
        match kind {
            Some(Kind::NumberedRecords(encoded)) => Records::decode(encoded).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again() {
        let mut outbox = outbox(1100);
        assert_eq!(outbox.next(), None, "before the agent has said anything");
        outbox.meet(Manner::Acknowledges);
        let firsts: Vec<u64> = (0..3).map(|_| numbered(outbox.next()).first).collect();
        assert_eq!(firsts, [1, 513, 1025]);
        assert_eq!(outbox.next(), None);
        outbox.acknowledged(600);
        assert_eq!(outbox.waiting(), 588, "half a batch is none");
        outbox.reconnected();
        assert_eq!(outbox.next(), None);
        outbox.meet(Manner::Acknowledges);
        let again = numbered(outbox.next());
        assert_eq!((again.first, again.records[0].src_port), (513, 512));
        // Nothing but what is on this link can be acknowledged on it.
        outbox.acknowledged(9999);
        assert_eq!(outbox.waiting(), 76);
        assert_eq!(numbered(outbox.next()).first, 1025);
        outbox.acknowledged(1100);
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn no_more_is_kept_than_the_window() {
        let mut outbox = outbox(10_000);
        outbox.meet(Manner::Acknowledges);
        let sent = std::iter::from_fn(|| outbox.next()).count();
        assert_eq!(sent, WINDOW);
        outbox.acknowledged(BATCH as u64);
        assert!(outbox.next().is_some());
        assert!(outbox.next().is_none());
    }

    #[test]
    fn an_agent_that_acknowledges_nothing_gets_each_batch_once() {
        let mut outbox = outbox(600);
        outbox.meet(Manner::Takes);
        assert!(matches!(outbox.next(), Some(Kind::Records(records)) if records.records.len() == 512));
        assert!(matches!(outbox.next(), Some(Kind::Records(records)) if records.records.len() == 88));
        assert_eq!((outbox.next(), outbox.waiting()), (None, 0));
    }
}
