//! What the connections of one thread share. Nothing here waits for another thread.

mod clients;
mod tallies;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::sync::watch;

use clients::Clients;
pub use tallies::{Tallies, Totals};

use crate::{
    counters::Counters, options::Limits, policy::Snapshot, record::RecordSink, upstream::UpstreamSockets,
};

/// One thread's view of the world.
pub struct Worker {
    pub(crate) limits: Limits,
    pub(crate) records: RecordSink,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tallies: Tallies,
    pub(crate) clients: Clients,
    pub(crate) sockets: UpstreamSockets,
    policy: RefCell<Arc<Snapshot>>,
    changes: watch::Sender<Change>,
}

/// What open connections are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: u32,
    pub(crate) stage: Stage,
}

/// How near the end of its thread a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Serving,
    /// The next answer says that it is the last one.
    LastAnswers,
    /// Who waits for a request need not wait any longer.
    IdleEnds,
    /// Time is up.
    Cut,
}

impl Worker {
    /// A worker that judges by `policy`.
    #[must_use]
    pub fn new(
        limits: Limits,
        policy: Arc<Snapshot>,
        records: RecordSink,
        counters: Arc<Counters>,
        sockets: UpstreamSockets,
    ) -> Rc<Self> {
        let (changes, _) = watch::channel(Change { revision: policy.revision(), stage: Stage::Serving });
        let policy = RefCell::new(policy);
        let (tallies, clients) = (Tallies::default(), Clients::default());
        Rc::new(Self { limits, records, counters, tallies, clients, sockets, policy, changes })
    }

    /// From now on every request of this thread is judged by `policy`.
    pub fn switch_policy(&self, policy: Arc<Snapshot>) {
        let revision = policy.revision();
        *self.policy.borrow_mut() = policy;
        self.changes.send_modify(|change| change.revision = revision);
    }

    /// Tells all connections to get ready for the end.
    pub fn enter(&self, stage: Stage) {
        self.changes.send_modify(|change| change.stage = change.stage.max(stage));
    }

    pub(crate) fn stage(&self) -> Stage {
        self.changes.borrow().stage
    }

    /// Ready when time is up for what is still open.
    pub(crate) async fn cut(&self) {
        let _ = self.changes.subscribe().wait_for(|change| change.stage == Stage::Cut).await;
    }

    /// Reads the policies in force.
    pub(crate) fn with_policy<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> T {
        read(&self.policy.borrow())
    }

    /// What changes from now on; an end that has begun is a change too.
    pub(crate) fn changes(&self) -> watch::Receiver<Change> {
        let mut changes = self.changes.subscribe();
        if changes.borrow().stage != Stage::Serving {
            changes.mark_changed();
        }
        changes
    }
}
