//! Octets that wait in HTTP/2 buffers for a peer to take them, or in a Kafka connection to be judged or
//! taken, and whose they are. A source that has its share, or more than what is left for the others,
//! waits until some of its own are gone.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

/// All octets of one thread.
#[derive(Debug)]
pub(crate) struct All {
    octets: AtomicUsize,
    most: usize,
    waiting: Mutex<Vec<Waker>>,
}

/// One source's part of them. Written by one thread; `Sync` because frames that are counted in it
/// carry it along.
#[derive(Debug)]
pub(crate) struct Share {
    octets: AtomicUsize,
    most: usize,
    all: Arc<All>,
}

/// What a source wants to hold more of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Anything that it may as well send later.
    More,
    /// Answers to what it has sent. There is as much room again for these: if they waited for what waits
    /// for them, nothing would ever be gone.
    Answers,
}

impl All {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { octets: AtomicUsize::new(0), most, waiting: Mutex::default() })
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// A source that may have at most `most` of them.
    pub(crate) fn new(most: usize, all: &Arc<All>) -> Arc<Self> {
        Arc::new(Self { octets: AtomicUsize::new(0), most, all: Arc::clone(all) })
    }

    /// One alone gets half of all at most: whoever comes next finds as much left.
    pub(crate) fn has_room(&self, wanted: Wanted) -> bool {
        let left = self.all.most.saturating_sub(self.all.octets.load(Relaxed));
        let most = match wanted {
            Wanted::More => self.most,
            Wanted::Answers => self.most.saturating_mul(2),
        };
        self.octets.load(Relaxed) < most.min(left)
    }

    /// Ready when this source may have one frame more.
    pub(crate) fn poll_room(&self, wanted: Wanted, cx: &Context<'_>) -> Poll<()> {
        if self.has_room(wanted) {
            return Poll::Ready(());
        }
        let mut waiting = self.all.waiting();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn hold(&self, octets: usize) {
        self.octets.fetch_add(octets, Relaxed);
        self.all.octets.fetch_add(octets, Relaxed);
    }

    pub(crate) fn release(&self, octets: usize) {
        self.octets.fetch_sub(octets, Relaxed);
        self.all.octets.fetch_sub(octets, Relaxed);
        let waiting = std::mem::take(&mut *self.all.waiting());
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Octets that are held until the value is dropped.
pub(crate) struct Held {
    share: Arc<Share>,
    octets: usize,
}

impl Held {
    pub(crate) fn of(share: &Arc<Share>, octets: usize) -> Self {
        share.hold(octets);
        Self { share: Arc::clone(share), octets }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.release(self.octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_leaves_room_for_the_next() {
        let all = All::new(100);
        let greedy = Share::new(1000, &all);
        let mut taken = 0;
        while greedy.has_room(Wanted::More) {
            greedy.hold(1);
            taken += 1;
        }
        assert_eq!(taken, 50);
        let modest = Share::new(10, &all);
        for _ in 0..10 {
            assert!(modest.has_room(Wanted::More));
            modest.hold(1);
        }
        assert!(!modest.has_room(Wanted::More), "its own share is taken");
        assert!(modest.has_room(Wanted::Answers), "but not its room for answers");
        modest.hold(10);
        assert!(!modest.has_room(Wanted::Answers));
        modest.release(10);
        let cx = Context::from_waker(Waker::noop());
        assert!(greedy.poll_room(Wanted::More, &cx).is_pending());
        greedy.release(11);
        assert!(greedy.poll_room(Wanted::More, &cx).is_ready());
        assert!(all.waiting().is_empty());
    }
}
