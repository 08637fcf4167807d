//! HTTP/1 connections to servers that wait for a next request, in the order in which they began to: their
//! client's own, or any one of its workload's once that client has left. One that is in use is not among
//! them, so ending one never cuts a request short.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use super::{
    Http1Upstream, Places,
    spare::{Path, Spare},
};
use crate::capture::Flow;

/// One client connection's kept upstream, or none.
pub(crate) struct Kept {
    places: Rc<Places>,
    path: Path,
    at: usize,
}

/// Those of a thread.
#[derive(Default)]
pub(super) struct Idle(RefCell<List>);

/// A doubly linked list in one piece of memory.
#[derive(Default)]
struct List {
    nodes: Vec<Node>,
    unused: Vec<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
    spare: Spare,
}

/// A client connection's, or a spare one. In the list while it has an upstream.
#[derive(Default)]
struct Node {
    upstream: Option<Http1Upstream>,
    before: Option<usize>,
    after: Option<usize>,
    /// It belongs to no client connection, and since when.
    spare: Option<(Path, Instant)>,
}

impl Kept {
    pub(crate) fn none(places: &Rc<Places>, flow: &Flow) -> Self {
        let at = places.idle.0.borrow_mut().add();
        Self { places: Rc::clone(places), path: Path::of(flow), at }
    }

    /// From now on it may be ended in favour of another.
    pub(crate) fn put(&self, upstream: Http1Upstream) {
        drop(self.take());
        self.places.idle.0.borrow_mut().put(self.at, upstream, None);
        self.places.has_idle();
    }

    pub(crate) fn take(&self) -> Option<Http1Upstream> {
        self.places.idle.0.borrow_mut().take(self.at)
    }

    /// Lets go of it when its server does.
    pub(crate) fn watch(&self, cx: &mut Context<'_>) {
        let is_closed = |upstream: &mut Http1Upstream| upstream.poll_closed(cx).is_ready();
        let closed = self.places.idle.0.borrow_mut().nodes[self.at].upstream.as_mut().is_some_and(is_closed);
        if closed {
            drop(self.take());
        }
    }

    /// Leaves it to the next client of the same workload, if it may be somebody else's.
    pub(crate) fn spare(&self) {
        let Some(upstream) = self.take() else { return };
        if upstream.is_personal || !upstream.was_repeatable {
            return;
        }
        let mut list = self.places.idle.0.borrow_mut();
        if list.spare.has_room(&self.path) {
            let at = list.add();
            list.put(at, upstream, Some((self.path, Instant::now())));
            drop(list);
            self.places.has_idle();
        }
    }

    /// One that such a client has left within `time`.
    pub(crate) fn take_spare(&self, time: Duration) -> Option<Http1Upstream> {
        let mut list = self.places.idle.0.borrow_mut();
        let at = list.spare.newest(&self.path)?;
        let (_, since) = list.nodes[at].spare?;
        let upstream = list.take(at);
        upstream.filter(|_| since.elapsed() < time)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.take());
        self.places.idle.0.borrow_mut().unused.push(self.at);
    }
}

impl Idle {
    /// Closes the one that has been idle for longest. False: there is none.
    pub(super) fn end_oldest(&self) -> bool {
        let oldest = {
            let mut list = self.0.borrow_mut();
            list.oldest.and_then(|at| list.take(at))
        };
        // What this frees may be given to another at once: the list is not borrowed any more.
        oldest.is_some()
    }

    /// Closes spare ones that nobody took within `time`, and those that their servers have closed.
    pub(super) fn end_spare(&self, time: Duration) {
        let ended: Vec<_> = {
            let mut list = self.0.borrow_mut();
            let mut nobody = Context::from_waker(Waker::noop());
            let all: Vec<_> = list.spare.all().collect();
            let ended = all.into_iter().filter(|&at| {
                let node = &mut list.nodes[at];
                node.spare.is_none_or(|(_, since)| since.elapsed() >= time)
                    || node
                        .upstream
                        .as_mut()
                        .is_none_or(|upstream| upstream.poll_closed(&mut nobody).is_ready())
            });
            let ended: Vec<_> = ended.collect();
            ended.into_iter().map(|at| list.take(at)).collect()
        };
        drop(ended);
    }
}

impl List {
    fn add(&mut self) -> usize {
        self.unused.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        })
    }

    fn put(&mut self, at: usize, upstream: Http1Upstream, spare: Option<(Path, Instant)>) {
        if let Some((path, _)) = spare {
            self.spare.add(path, at);
        }
        self.nodes[at] = Node { upstream: Some(upstream), before: self.newest, after: None, spare };
        match self.newest {
            Some(newest) => self.nodes[newest].after = Some(at),
            None => self.oldest = Some(at),
        }
        self.newest = Some(at);
    }

    fn take(&mut self, at: usize) -> Option<Http1Upstream> {
        let Node { upstream: Some(upstream), before, after, spare } = std::mem::take(&mut self.nodes[at])
        else {
            return None;
        };
        match before {
            Some(before) => self.nodes[before].after = after,
            None => self.oldest = after,
        }
        match after {
            Some(after) => self.nodes[after].before = before,
            None => self.newest = before,
        }
        if let Some((path, _)) = spare {
            self.spare.remove(&path, at);
            self.unused.push(at);
        }
        Some(upstream)
    }
}
