//! Records that come over the link. They wait until names and rules are known, are written down, and
//! only then acknowledged.

use prost::{Message as _, bytes::Bytes};
use tektin_proxy::link_proto::{Records, RecordsAck, from_agent};

use super::{Shared, session::Session};
use crate::{
    api::LostAt,
    flows::{
        journal::{self, Request},
        meanings::Now,
        unread::Unread,
    },
};

/// A batch as it came.
pub(super) enum Batch {
    Numbered(Bytes),
    /// Of a proxy that neither numbers records nor waits for an acknowledgement.
    Plain(Records),
}

/// Why a proxy's records are not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    #[error("numbered records of a proxy that did not say which process it is")]
    NoInstance,
}

pub(super) fn take(shared: &Shared, session: &Session, batch: Batch) -> Result<(), BatchError> {
    match batch {
        Batch::Numbered(_) if session.instance() == 0 => return Err(BatchError::NoInstance),
        Batch::Numbered(encoded) => {
            let taken = shared.journal.take(session.instance(), &encoded)?;
            tell(shared, taken.records);
            shared.flows.lost(LostAt::Proxy, taken.lost);
            session.has_lost(taken.lost_total);
            session.tell(from_agent::Kind::Records(RecordsAck { through: taken.through }));
        }
        Batch::Plain(Records { records, lost_total, .. }) => {
            let encoded = records.iter().map(|record| record.encode_to_vec().into()).collect();
            tell(shared, journal::requests(encoded).map_err(journal::JournalError::from)?);
            // By process, so that a proxy that dials again is not counted twice.
            let before = shared.lost_totals().insert(session.pid(), lost_total).unwrap_or(0);
            shared.flows.lost(LostAt::Proxy, lost_total.saturating_sub(before));
            session.has_lost(lost_total);
        }
    }
    Ok(())
}

fn tell(shared: &Shared, requests: Vec<Request>) {
    let mut now = Now::new(&*shared.resolve);
    shared.flows.push(requests.into_iter().map(|request| Unread::request(request, &mut now)));
}
