//! What one HTTP/2 connection holds in buffers, and when its client took something last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use super::silence::now;
use crate::worker::{Held, Share, Wanted};

/// Shared by the streams of a connection, and by their frames until they are sent.
pub(crate) struct Account {
    share: Arc<Share>,
    /// Octets that wait for the client.
    held: AtomicUsize,
    /// Responses that have more for the client than it takes.
    waiting: AtomicUsize,
    /// When it took something last, in ms of [`now`].
    taken: AtomicU64,
}

/// Who is to take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    Client,
    Server,
}

impl Account {
    pub(super) fn new(share: Arc<Share>) -> Arc<Self> {
        Arc::new(Self {
            share,
            held: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            taken: AtomicU64::new(now_ms()),
        })
    }

    /// Ready when the source of the connection may have one frame more in buffers.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.share.poll_room(Wanted::More, cx)
    }

    /// Counts octets that are kept until the value is dropped.
    pub(super) fn hold(&self, octets: usize) -> Held {
        Held::of(&self.share, octets)
    }

    /// The same octets, counted until they are sent or thrown away.
    pub(crate) fn count(self: &Arc<Self>, octets: Bytes, towards: Towards) -> Bytes {
        if octets.is_empty() {
            return octets;
        }
        self.share.hold(octets.len());
        if towards == Towards::Client {
            self.held.fetch_add(octets.len(), Relaxed);
        }
        Bytes::from_owner(Counted { octets, towards, account: Arc::clone(self) })
    }

    /// A response waits for the client until the value is dropped.
    pub(super) fn waiting(self: &Arc<Self>) -> Waiting {
        if self.stalled_for().is_none() {
            self.note();
        }
        self.waiting.fetch_add(1, Relaxed);
        Waiting(Arc::clone(self))
    }

    fn note(&self) {
        self.taken.store(now_ms(), Relaxed);
    }

    /// For how long the client takes nothing although something waits for it.
    pub(super) fn stalled_for(&self) -> Option<Duration> {
        let waits = self.held.load(Relaxed) > 0 || self.waiting.load(Relaxed) > 0;
        waits.then(|| Duration::from_millis(now_ms().saturating_sub(self.taken.load(Relaxed))))
    }
}

fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

pub(super) struct Waiting(Arc<Account>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.note();
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

struct Counted {
    octets: Bytes,
    towards: Towards,
    account: Arc<Account>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.account.share.release(self.octets.len());
        if self.towards == Towards::Client {
            self.account.note();
            self.account.held.fetch_sub(self.octets.len(), Relaxed);
        }
    }
}
