//! Sockets to servers, of one thread: how many there may be, and who waits for one. Where none is left
//! the connection goes that has waited longest for a next request.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use tokio::sync::oneshot;

use super::kept::Idle;
use crate::{capture::Flow, worker::Source};

/// Places that a source with more than its part does not get.
const LAST: usize = 64;

pub(crate) struct Places {
    most: usize,
    open: Cell<usize>,
    /// What each source has of them; none is 0.
    sources: RefCell<HashMap<Source, usize>>,
    waiting: RefCell<Vec<Waiting>>,
    pub(super) idle: Idle,
}

struct Waiting {
    source: Source,
    given: oneshot::Sender<Place>,
}

/// One socket's place. It is another's when this is dropped.
pub(crate) struct Place {
    places: Rc<Places>,
    source: Source,
}

impl Places {
    pub(crate) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most: most.max(1),
            open: Cell::new(0),
            sources: RefCell::default(),
            waiting: RefCell::default(),
            idle: Idle::default(),
        })
    }

    /// A place for a socket of this flow, if need be an idle one's; waits where all are in use.
    pub(super) async fn take(self: &Rc<Self>, flow: &Flow) -> Place {
        let source = Source::of(flow);
        while !self.is_open_to(&source) {
            if !self.idle.end_oldest() {
                let (given, place) = oneshot::channel();
                self.waiting.borrow_mut().push(Waiting { source, given });
                if let Ok(place) = place.await {
                    return place;
                }
            }
        }
        self.give(source)
    }

    /// The last places are for sources that have less than their part of the others.
    fn is_open_to(&self, source: &Source) -> bool {
        let (open, sources) = (self.open.get(), self.sources.borrow());
        let free = self.most.saturating_sub(open);
        let held = sources.get(source).copied().unwrap_or(0);
        let part = (open / sources.len().max(1)).max(1);
        free > 0 && (held < part || free > LAST.min(self.most / 8))
    }

    fn give(self: &Rc<Self>, source: Source) -> Place {
        *self.sources.borrow_mut().entry(source).or_insert(0) += 1;
        self.open.set(self.open.get() + 1);
        Place { places: Rc::clone(self), source }
    }

    /// A connection has become idle: it goes at once where somebody waits.
    pub(super) fn has_idle(&self) {
        if !self.waiting.borrow().is_empty() {
            self.idle.end_oldest();
        }
    }

    /// Closes connections that clients have left and nobody took within `time`.
    pub(crate) fn end_spare(&self, time: Duration) {
        self.idle.end_spare(time);
    }

    fn free(self: &Rc<Self>, source: Source) {
        self.open.set(self.open.get() - 1);
        {
            let mut sources = self.sources.borrow_mut();
            if let Some(held) = sources.get_mut(&source) {
                *held -= 1;
                if *held == 0 {
                    sources.remove(&source);
                }
            }
        }
        if let Some(Waiting { source, given }) = self.next_waiting() {
            // Where nobody takes it any more it is freed again, and the next one gets it.
            let _ = given.send(self.give(source));
        }
    }

    /// Whoever waits and has least, and of these the first one, if there is a place for it.
    fn next_waiting(&self) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return None;
        }
        waiting.retain(|waiting| !waiting.given.is_closed());
        let held = |waiting: &Waiting| self.sources.borrow().get(&waiting.source).copied().unwrap_or(0);
        let (at, next) = waiting.iter().enumerate().min_by_key(|(_, waiting)| held(waiting))?;
        self.is_open_to(&next.source).then(|| waiting.remove(at))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.free(self.source);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tektin_abi::maps::SteeredValue;

    use super::*;
    use crate::capture::{OriginalDst, PeerAddr};

    fn flow(src_endpoint: u32) -> Flow {
        Flow {
            peer: PeerAddr("10.0.0.1:999".parse().unwrap()),
            original_dst: OriginalDst("10.0.0.9:80".parse().unwrap()),
            steered: SteeredValue { src_endpoint, ..Default::default() },
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_source_leaves_places_to_the_others() {
        let places = Places::new(80);
        let greedy: Vec<_> = std::iter::from_fn(|| now(places.take(&flow(1)))).collect();
        assert_eq!(greedy.len(), 70);
        let modest: Vec<_> = std::iter::from_fn(|| now(places.take(&flow(2)))).collect();
        assert_eq!(modest.len(), 10);
        drop((greedy, modest));
        assert_eq!((places.open.get(), places.sources.borrow().len()), (0, 0));
        assert!(places.waiting.borrow().iter().all(|waiting| waiting.given.is_closed()));
    }

    #[test]
    fn a_place_that_is_freed_is_given_to_who_has_least() {
        let places = Places::new(2);
        let mut held = vec![now(places.take(&flow(1))).unwrap(), now(places.take(&flow(1))).unwrap()];
        let (first, second) = (flow(1), flow(2));
        let (mut first, mut second) = (pin!(places.take(&first)), pin!(places.take(&second)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(now(places.take(&flow(3))).is_none(), "somebody who does not wait any more");
        held.pop();
        assert!(first.as_mut().poll(&mut cx).is_pending());
        let Poll::Ready(_second) = second.as_mut().poll(&mut cx) else { panic!("no place") };
        held.pop();
        assert!(first.as_mut().poll(&mut cx).is_ready());
    }
}
