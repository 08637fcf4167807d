//! Records as they came. They are put into words when somebody reads them.

use std::sync::Arc;

use prost::{Message as _, bytes::Bytes};
use tektin_abi::maps::Event;
use tektin_proxy::link_proto::{Outcome, Record, RecordNumbers};

use super::{
    journal::Request,
    kernel::{self, WallClock},
    meanings::{Meanings, Now, Numbers},
    proxy,
    record::FlowRecord,
};

/// One record.
#[derive(Clone, Debug)]
pub enum Unread {
    Request { encoded: Bytes, numbers: RecordNumbers, meanings: Arc<Meanings> },
    Packet { event: Event, clock: WallClock, meanings: Arc<Meanings> },
    Told(Arc<FlowRecord>),
}

impl Unread {
    #[must_use]
    pub fn request(Request { encoded, numbers }: Request, now: &mut Now<'_>) -> Self {
        let meanings = now.of(Numbers::from(&numbers));
        Self::Request { encoded, numbers, meanings }
    }

    #[must_use]
    pub fn packet(event: Event, clock: WallClock, now: &mut Now<'_>) -> Self {
        let meanings = now.of(Numbers::from(&event));
        Self::Packet { event, clock, meanings }
    }

    /// In words.
    #[must_use]
    pub fn tell(&self) -> Arc<FlowRecord> {
        match self {
            Self::Told(record) => record.clone(),
            Self::Packet { event, clock, meanings } => Arc::new(kernel::record(event, *clock, &**meanings)),
            Self::Request { encoded, numbers, meanings } => {
                let record =
                    Record::decode(encoded.clone()).unwrap_or_else(|error| unreadable(numbers, &error));
                Arc::new(proxy::record(&record, &**meanings))
            }
        }
    }
}

impl From<FlowRecord> for Unread {
    fn from(record: FlowRecord) -> Self {
        Self::Told(Arc::new(record))
    }
}

/// The proxy reads hostile bytes and is not trusted to be well-behaved: that there was something is told.
fn unreadable(numbers: &RecordNumbers, error: &prost::DecodeError) -> Record {
    let mut record = Record {
        time_ns: numbers.time_ns,
        src_identity: numbers.src_identity,
        dst_identity: numbers.dst_identity,
        src_endpoint: numbers.src_endpoint,
        dst_endpoint: numbers.dst_endpoint,
        reason: format!("the proxy's record cannot be read: {error}"),
        ..Record::default()
    };
    record.set_outcome(Outcome::Refused);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::{record::Verdict, testing::World};

    fn unread(encoded: Bytes) -> Unread {
        let numbers = RecordNumbers::decode(encoded.clone()).unwrap();
        Unread::request(Request { encoded, numbers }, &mut Now::new(&World))
    }

    #[test]
    fn a_request_is_told_as_it_was_meant() {
        let record = Record {
            src_identity: 256,
            dst_identity: 257,
            src_endpoint: 1,
            dst_endpoint: 2,
            ingress_enforced: true,
            ingress_rule: 7,
            ingress_action: 1,
            reason: "why".into(),
            ..Record::default()
        };
        let told = unread(record.encode_to_vec().into()).tell();
        assert_eq!(*told, proxy::record(&record, &World));
        assert_eq!(&*told.destination.name, "web");
    }

    #[test]
    fn what_cannot_be_read_is_told_all_the_same() {
        // Field 18, an Http whose protocol is no text.
        let mut encoded = Record { src_identity: 256, time_ns: 5, ..Record::default() }.encode_to_vec();
        encoded.extend([0x92, 0x01, 3, 0x0a, 1, 0xff]);
        let told = unread(encoded.into()).tell();
        assert_eq!((told.verdict, told.source.identity), (Verdict::Refused, 256));
        assert!(told.reason.starts_with("the proxy's record cannot be read"), "{}", told.reason);
    }
}
