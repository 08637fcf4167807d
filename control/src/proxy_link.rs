//! The agent's side of the link to the proxy (`proxy/proto/link.proto`).
//!
//! The link keeps a full copy of what the proxy judges by, sends changes, and waits until every
//! connected proxy judges by them. While a new proxy takes over from an old one both are connected
//! and both get every change. The newest one that serves is the one that stays: see [`take_over`].

use std::{
    collections::HashMap,
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use tektin_proxy::link_proto::{FromAgent, PolicyUpdate, from_agent, proxy_link_server::ProxyLinkServer};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;

use crate::{
    api::ProxyHealth,
    flows::{FlowStore, Journal, Resolve},
};

mod peer;
mod records;
mod session;
pub mod state;
mod take_over;
mod unlinked;

use session::{Answer, Service, Session};
use state::State;
pub use state::StateError;
pub use take_over::Refusal;
use unlinked::Unlinked;

/// How long a proxy may take until all its threads judge by a new revision.
const ACK_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a proxy that runs may be without a link when a change waits for it. It dials at least once
/// a second.
pub const REDIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Octets of records that may be on their way, and of one HTTP/2 frame of them.
const WINDOW: u32 = 1 << 20;
const FRAME: u32 = 128 << 10;

/// How long a link's parts may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    ack: Duration,
    redial: Duration,
    /// What a replaced proxy gets to finish its open connections.
    drain: Duration,
}

impl Times {
    #[must_use]
    pub fn with_drain(drain: Duration) -> Self {
        Self { ack: ACK_TIMEOUT, redial: REDIAL_TIMEOUT, drain }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot serve the proxy's link at {path}: {source}")]
    Bind { path: String, source: io::Error },
    #[error(transparent)]
    Update(#[from] StateError),
    #[error("the proxy (process {pid}) refused policy revision {revision}: {reason}")]
    Refused { pid: u32, revision: u32, reason: String },
}

/// Who judges by a published revision.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every connected proxy.
    Acked,
    /// None is connected; the next one gets it before anything else.
    NoProxy,
}

/// The link. Clones are the same link.
#[derive(Clone)]
pub struct ProxyLink(Arc<Shared>);

struct Shared {
    /// `None` until the first publication. Held while a change is under way, so that a proxy which
    /// connects meanwhile gets the state before or after it, never half of it.
    state: tokio::sync::Mutex<Option<State>>,
    /// Oldest first.
    sessions: Mutex<Vec<Arc<Session>>>,
    unlinked: Mutex<Vec<Unlinked>>,
    connected: watch::Sender<usize>,
    /// Whether names and rules are known, so that records can be told in words.
    taking_records: watch::Sender<bool>,
    /// Records that each process of a version without numbers said it had lost.
    lost_totals: Mutex<HashMap<u32, u64>>,
    flows: FlowStore,
    journal: Journal,
    resolve: Arc<dyn Resolve>,
    times: Times,
}

impl ProxyLink {
    /// Listens at `path` (0600; a socket that is left there from before is replaced) and serves
    /// until the runtime ends.
    pub async fn serve(
        path: &Path,
        flows: FlowStore,
        journal: Journal,
        resolve: Arc<dyn Resolve>,
        times: Times,
    ) -> Result<Self, LinkError> {
        let listener =
            bind(path).map_err(|source| LinkError::Bind { path: path.display().to_string(), source })?;
        let shared = Arc::new(Shared {
            state: tokio::sync::Mutex::new(None),
            sessions: Mutex::default(),
            unlinked: Mutex::default(),
            connected: watch::Sender::new(0),
            taking_records: watch::Sender::new(false),
            lost_totals: Mutex::default(),
            flows,
            journal,
            resolve,
            times,
        });
        let incoming = UnixListenerStream::new(listener).filter_map(|stream| async {
            let stream = stream.inspect_err(|error| tracing::warn!(%error, "link: accept failed")).ok()?;
            match peer::check(&stream) {
                Ok(()) => Some(Ok::<_, io::Error>(stream)),
                Err(error) => {
                    tracing::warn!(%error, "link: peer turned away");
                    None
                }
            }
        });
        // A proxy that was away sends its buffered records in large batches.
        let service = ProxyLinkServer::new(Service(shared.clone())).max_decoding_message_size(64 << 20);
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(Duration::from_secs(10)))
                // A batch of records goes without a wait for room.
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .max_frame_size(FRAME)
                .serve_with_incoming(service, Box::pin(incoming));
            if let Err(error) = server.await {
                tracing::error!(%error, "link: server ended");
            }
        });
        Ok(Self(shared))
    }

    /// Puts a change in force in every connected proxy. On an error nothing has changed: proxies
    /// that had taken the change are disconnected and get the old state when they dial again.
    pub async fn publish(&self, update: PolicyUpdate) -> Result<Published, LinkError> {
        let mut state = self.state_to_change().await;
        State::check(state.as_ref(), &update)?;
        let revision = update.revision;
        let sessions = self.0.sessions().clone();
        let message = FromAgent { kind: Some(from_agent::Kind::Policy(update.clone())) };
        for session in &sessions {
            session.send(message.clone()).await;
        }
        let answers = futures::future::join_all(
            sessions.iter().map(|session| session.answer_to(revision, self.0.times.ack)),
        )
        .await;

        let mut refusal = None;
        let mut acked = 0;
        for (session, answer) in sessions.iter().zip(&answers) {
            match answer {
                Answer::Acked => acked += 1,
                Answer::Refused(reason) => refusal = Some((session.pid(), reason.clone())),
                // Its link is, and it judges by the old policy until it has another one.
                Answer::Gone => session.kill(),
                // It would go on judging by the old policy for as long as it hangs.
                Answer::TimedOut => {
                    tracing::error!(
                        pid = session.pid(),
                        revision,
                        "proxy did not take the policy in time: killed"
                    );
                    session.kill();
                    self.0.remove(session.id);
                }
            }
        }
        if let Some((pid, reason)) = refusal {
            for (session, answer) in sessions.iter().zip(&answers) {
                if matches!(answer, Answer::Acked) {
                    session.disconnect();
                    self.0.remove(session.id);
                }
            }
            return Err(LinkError::Refused { pid, revision, reason });
        }
        state.get_or_insert_default().follow(update);
        Ok(if acked > 0 { Published::Acked } else { Published::NoProxy })
    }

    /// Names and rules are known: from now on what proxies report becomes flow records, what they have
    /// reported so far first. Until then it waits, for a proxy that runs already reports what
    /// happened while there was no agent as soon as it is connected.
    pub fn take_records(&self) {
        self.0.taking_records.send_replace(true);
    }

    /// Waits until a proxy is connected; false after `timeout`.
    pub async fn connected(&self, timeout: Duration) -> bool {
        let mut connected = self.0.connected.subscribe();
        tokio::time::timeout(timeout, connected.wait_for(|count| *count > 0)).await.is_ok_and(|ok| ok.is_ok())
    }

    /// The proxy that serves now, and those that drain.
    #[must_use]
    pub fn health(&self) -> ProxyHealth {
        take_over::health(&self.0.sessions())
    }
}

impl Shared {
    fn sessions(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlinked(&self) -> MutexGuard<'_, Vec<Unlinked>> {
        self.unlinked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost_totals(&self) -> MutexGuard<'_, HashMap<u32, u64>> {
        self.lost_totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, session: Arc<Session>) {
        self.sessions().push(session);
        self.tell_waiting();
    }

    /// Something about a proxy has changed that others wait for.
    fn changed(&self) {
        take_over::settle(&self.sessions(), self.times.drain);
        self.tell_waiting();
    }

    fn remove(&self, id: u64) {
        {
            let mut sessions = self.sessions();
            let Some(at) = sessions.iter().position(|session| session.id == id) else { return };
            let gone = sessions.remove(at);
            take_over::stand_in(&gone, &sessions);
            self.has_lost_link(&gone);
        }
        self.tell_waiting();
    }

    fn tell_waiting(&self) {
        let count = self.sessions().len();
        self.connected.send_replace(count);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
