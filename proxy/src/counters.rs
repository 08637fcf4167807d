//! What the proxy tells of its health. One set a thread, so that nobody waits for a cache line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::link_proto::Health;

#[derive(Debug, Default)]
pub struct Counters {
    pub connections_open: AtomicU64,
    pub connections_total: AtomicU64,
    pub requests_allowed: AtomicU64,
    pub requests_denied: AtomicU64,
    pub requests_refused: AtomicU64,
    pub upstream_failures: AtomicU64,
}

impl Counters {
    /// Adds these counts to a health message.
    pub fn add_to(&self, health: &mut Health) {
        health.connections_open += self.connections_open.load(Relaxed);
        health.connections_total += self.connections_total.load(Relaxed);
        health.requests_allowed += self.requests_allowed.load(Relaxed);
        health.requests_denied += self.requests_denied.load(Relaxed);
        health.requests_refused += self.requests_refused.load(Relaxed);
        health.upstream_failures += self.upstream_failures.load(Relaxed);
    }
}
