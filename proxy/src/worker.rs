//! What the connections of one thread share. Nothing here waits for another thread.

mod clients;
mod ends;
mod share;
mod tallies;

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::watch,
};

use clients::Clients;
pub(crate) use clients::{Full, Seat, Source};
pub use ends::Concerned;
use ends::Ends;
pub(crate) use share::{Held, Share, Wanted};
pub use tallies::{Tallies, Totals};
use tektin_abi::maps::SteeredValue;

use crate::{
    capture::{AddressTable, Flow},
    counters::Counters,
    options::Limits,
    policy::Snapshot,
    record::RecordSink,
    sends,
    upstream::{Places, UpstreamSockets, Upstreams},
};

/// Octets of one read at most.
const SCRATCH: usize = 64 << 10;

/// One thread's view of the world.
pub struct Worker {
    pub(crate) limits: Limits,
    pub(crate) records: RecordSink,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tallies: Tallies,
    pub(crate) clients: Clients,
    ends: Ends,
    addresses: Box<dyn AddressTable>,
    pub(crate) upstreams: Upstreams,
    /// What is read goes here first, so that a connection needs memory only for what must wait.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    policy: RefCell<Arc<Snapshot>>,
    in_force: Cell<InForce>,
    changes: watch::Sender<Change>,
    calls: Rc<Cell<usize>>,
}

/// Stands for the policies of one time: other ones are in force when it is another. Revisions would not do, an
/// agent that begins anew may give one a second time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce(u64);

/// An open gRPC call, counted until the value is dropped.
pub(crate) struct OpenCall(Rc<Cell<usize>>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
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
        addresses: Box<dyn AddressTable>,
    ) -> Rc<Self> {
        let (changes, _) = watch::channel(Change { revision: policy.revision(), stage: Stage::Serving });
        let policy = RefCell::new(policy);
        let (tallies, clients) = (Tallies::default(), Clients::new(&limits));
        let scratch = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
        let upstreams = Upstreams { sockets, places: Places::new(limits.upstreams_per_thread) };
        let calls = Rc::default();
        Rc::new(Self {
            limits,
            records,
            counters,
            tallies,
            clients,
            ends: Ends::default(),
            addresses,
            upstreams,
            scratch,
            policy,
            in_force: Cell::default(),
            changes,
            calls,
        })
    }

    /// From now on every request of this thread is judged by `policy`. Open connections look at it by
    /// themselves when they are polled next, if it is another one for any of them.
    pub fn switch_policy(&self, policy: Arc<Snapshot>) -> Concerned {
        // What was judged by the policy of before leaves before it goes. After an error, who wrote looks at
        // the policy once more.
        let _ = sends::leave();
        let revision = policy.revision();
        let before = self.policy.replace(policy);
        self.in_force.set(InForce(self.in_force.get().0 + 1));
        let concerned = self.ends.concerned(&before, &self.policy.borrow(), &*self.addresses);
        if concerned == Concerned::Connections {
            self.changes.send_modify(|change| change.revision = revision);
        }
        concerned
    }

    /// A connection begins; [`Worker::leaves`] tells its end.
    pub(crate) fn enters(&self, flow: &Flow) {
        self.ends.enter(flow, &*self.addresses);
    }

    pub(crate) fn leaves(&self, flow: &Flow) {
        self.ends.leave(flow);
    }

    /// The ends of an open connection as the policies in force know them.
    pub(crate) fn ends_now(&self, flow: &Flow) -> SteeredValue {
        self.ends.now(flow)
    }

    /// The same for a record.
    pub(crate) fn ends_shown(&self, flow: &Flow) -> SteeredValue {
        self.ends.shown(flow)
    }

    pub(crate) fn open_call(&self) -> OpenCall {
        self.calls.set(self.calls.get() + 1);
        OpenCall(Rc::clone(&self.calls))
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.calls.get()
    }

    /// Closes connections to servers that their clients have left and that no other one took in time.
    pub fn end_spare(&self) {
        self.upstreams.places.end_spare(self.limits.spare_time);
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

    /// Reads what is there behind what is `held`. 0: the stream has ended.
    pub(crate) fn poll_read_more(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        held: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = self.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    pub(crate) fn in_force(&self) -> InForce {
        self.in_force.get()
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
