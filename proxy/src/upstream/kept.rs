//! HTTP/1 connections to servers that wait for their client's next request, in the order in which they
//! began to. One that is in use is not among them, so ending one never cuts a request short.

use std::{cell::RefCell, rc::Rc, task::Context};

use super::{Http1Upstream, Places};

/// One client connection's kept upstream, or none.
pub(crate) struct Kept {
    places: Rc<Places>,
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
}

/// A client connection's. In the list while it has an upstream.
#[derive(Default)]
struct Node {
    upstream: Option<Http1Upstream>,
    before: Option<usize>,
    after: Option<usize>,
}

impl Kept {
    pub(crate) fn none(places: &Rc<Places>) -> Self {
        Self { places: Rc::clone(places), at: places.idle.0.borrow_mut().add() }
    }

    /// From now on it may be ended in favour of another.
    pub(crate) fn put(&self, upstream: Http1Upstream) {
        drop(self.take());
        self.places.idle.0.borrow_mut().put(self.at, upstream);
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
}

impl List {
    fn add(&mut self) -> usize {
        self.unused.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.nodes.len() - 1
        })
    }

    fn put(&mut self, at: usize, upstream: Http1Upstream) {
        self.nodes[at] = Node { upstream: Some(upstream), before: self.newest, after: None };
        match self.newest {
            Some(newest) => self.nodes[newest].after = Some(at),
            None => self.oldest = Some(at),
        }
        self.newest = Some(at);
    }

    fn take(&mut self, at: usize) -> Option<Http1Upstream> {
        let Node { upstream: Some(upstream), before, after } = std::mem::take(&mut self.nodes[at]) else {
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
        Some(upstream)
    }
}
