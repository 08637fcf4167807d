//! Which proxy serves. The newest process that has its listeners where the kernel finds them is the
//! one that stays; whoever else is connected drains. Nothing of this is remembered from one agent to
//! the next: what the proxies say of themselves is enough, so an agent that dies half-way leaves the
//! next one nothing to repair.

use std::{sync::Arc, time::Duration};

use tektin_proxy::link_proto::{Drain, Stage, TakeListeners, from_agent};

use super::{ProxyLink, session::Session};
use crate::api::{DrainingProxy, ProxyHealth};

/// Why a new proxy does not serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it did not dial the agent's socket within {0:?}")]
    NotConnected(Duration),
    #[error("it did not get its listeners in place within {0:?}")]
    NotServing(Duration),
    #[error("it refused the policy: {0}")]
    Policy(String),
}

impl ProxyLink {
    /// Waits until the process `pid` is connected; false after `timeout`.
    pub async fn knows(&self, pid: u32, timeout: Duration) -> bool {
        let mut connected = self.0.connected.subscribe();
        let known = connected.wait_for(|_| self.session_of(pid).is_some());
        tokio::time::timeout(timeout, known).await.is_ok_and(|known| known.is_ok())
    }

    /// Waits until the process `pid` judges by the policy and has its listeners in place.
    pub async fn serves(&self, pid: u32, timeout: Duration) -> Result<(), Refusal> {
        let mut connected = self.0.connected.subscribe();
        let answered = connected.wait_for(|_| {
            self.session_of(pid)
                .is_some_and(|session| session.stage() == Stage::Serving || session.refusal().is_some())
        });
        let answered = tokio::time::timeout(timeout, answered).await;
        drop(answered);
        match self.session_of(pid) {
            None => Err(Refusal::NotConnected(timeout)),
            Some(session) => match session.refusal() {
                Some(reason) => Err(Refusal::Policy(reason)),
                None if session.stage() == Stage::Serving => Ok(()),
                None => Err(Refusal::NotServing(timeout)),
            },
        }
    }

    /// The process that serves, if one does.
    #[must_use]
    pub fn serving(&self) -> Option<u32> {
        serving(&self.0.sessions()).map(|session| session.pid())
    }

    /// Has the process `pid` put its listeners where the kernel finds them, over whoever's are there.
    pub fn give_listeners(&self, pid: u32) {
        if let Some(session) = self.session_of(pid) {
            session.tell(from_agent::Kind::TakeListeners(TakeListeners {}));
        }
    }

    fn session_of(&self, pid: u32) -> Option<Arc<Session>> {
        self.0.sessions().iter().rev().find(|session| session.pid() == pid).cloned()
    }
}

/// The newest one that serves.
fn serving(sessions: &[Arc<Session>]) -> Option<&Arc<Session>> {
    sessions.iter().filter(|session| session.stage() == Stage::Serving).max_by_key(|session| session.age())
}

/// Lets all that the newest serving one has replaced drain.
pub(super) fn settle(sessions: &[Arc<Session>], time: Duration) {
    let Some(newest) = serving(sessions) else { return };
    let replaced = sessions.iter().filter(|session| {
        session.stage() == Stage::Serving && session.age() < newest.age() && !session.is_same_process(newest)
    });
    for session in replaced {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        tracing::info!(pid = session.pid(), by = newest.pid(), seconds, "proxy replaced: it drains");
        session.tell(from_agent::Kind::Drain(Drain { seconds }));
        session.drains();
    }
}

/// After `gone` has left: one that serves all the same, because `gone` came to nothing before that
/// one was told to drain, has its places taken; it gets them back.
pub(super) fn stand_in(gone: &Session, sessions: &[Arc<Session>]) {
    if let Some(session) = serving(sessions)
        && gone.stage() != Stage::Draining
        && gone.age() > session.age()
        && !session.is_same_process(gone)
    {
        session.tell(from_agent::Kind::TakeListeners(TakeListeners {}));
    }
}

/// The serving one's state (or else the newest's), with the counts of all.
pub(super) fn health(sessions: &[Arc<Session>]) -> ProxyHealth {
    let Some(main) = serving(sessions).or(sessions.last()) else { return ProxyHealth::default() };
    let mut health = ProxyHealth { links: sessions.len(), ..main.health() };
    for other in sessions.iter().filter(|session| session.id != main.id) {
        let more = other.health();
        if other.stage() == Stage::Draining {
            health.draining.push(DrainingProxy {
                pid: more.pid,
                version: more.version,
                connections_open: more.connections_open,
            });
        }
        health.connections_open = health.connections_open.saturating_add(more.connections_open);
        health.connections_total = health.connections_total.saturating_add(more.connections_total);
        health.requests_allowed = health.requests_allowed.saturating_add(more.requests_allowed);
        health.requests_denied = health.requests_denied.saturating_add(more.requests_denied);
        health.requests_refused = health.requests_refused.saturating_add(more.requests_refused);
        health.upstream_failures = health.upstream_failures.saturating_add(more.upstream_failures);
        health.rss_bytes = health.rss_bytes.saturating_add(more.rss_bytes);
        health.lost_records = health.lost_records.saturating_add(more.lost_records);
        health.waiting_records = health.waiting_records.saturating_add(more.waiting_records);
    }
    health
}
