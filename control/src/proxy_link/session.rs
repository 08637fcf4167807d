//! One connected proxy.

use std::{
    os::fd::OwnedFd,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tektin_proxy::link_proto::{
    Ack, AgentHello, FromAgent, FromProxy, Health, Hello, Stage, from_agent, from_proxy, proxy_link_server,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::UdsConnectInfo};

use super::{
    Shared,
    records::{self, Batch},
};
use crate::api::ProxyHealth;

/// How long a proxy may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that may wait for a proxy that reads slowly.
const QUEUE: usize = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Whether a message moved the proxy on in its life.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StageChange {
    None,
    Told,
}

/// What a proxy made of a revision.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Acked,
    Refused(String),
    /// The connection ended.
    Gone,
    TimedOut,
}

pub struct Session {
    pub id: u64,
    hello: Hello,
    /// Of the process that the kernel says is at the other end.
    pidfd: Option<OwnedFd>,
    pid: u32,
    /// When the kernel started the process, in its ticks since boot.
    started: u64,
    /// As [`Stage`] has it: what it said last, or what it was told.
    stage: AtomicI32,
    to_proxy: mpsc::Sender<Result<FromAgent, Status>>,
    /// The newest acknowledgement.
    acked: watch::Sender<Ack>,
    ended: watch::Sender<bool>,
    health: Mutex<ProxyHealth>,
}

impl Session {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    #[must_use]
    pub fn instance(&self) -> u64 {
        self.hello.instance
    }

    /// Younger processes are greater; of one process, later links.
    #[must_use]
    pub fn age(&self) -> (u64, u64) {
        (self.started, self.id)
    }

    #[must_use]
    pub fn is_same_process(&self, other: &Self) -> bool {
        (self.pid, self.hello.instance) == (other.pid, other.hello.instance)
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        match Stage::try_from(self.stage.load(Ordering::Relaxed)) {
            Ok(Stage::Unsaid) | Err(_) => {
                let ack = self.acked.borrow();
                if ack.revision != 0 && ack.error.is_empty() { Stage::Serving } else { Stage::Starting }
            }
            Ok(stage) => stage,
        }
    }

    /// It was told to drain; what it said before does not count any more.
    pub fn drains(&self) {
        self.stage.store(Stage::Draining.into(), Ordering::Relaxed);
    }

    fn is_in(&self, stage: Stage) -> StageChange {
        let before = self.stage();
        if before != Stage::Draining && stage != Stage::Unsaid {
            self.stage.store(stage.into(), Ordering::Relaxed);
        }
        if self.stage() == before { StageChange::None } else { StageChange::Told }
    }

    /// Why it does not take the policy, if it does not.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        Some(self.acked.borrow().error.clone()).filter(|error| !error.is_empty())
    }

    pub fn has_lost(&self, records: u64) {
        self.change_health(|health| health.lost_records = health.lost_records.max(records));
    }

    /// Sends a message, if the proxy reads at all; one that does not hears the next one of the kind.
    pub fn tell(&self, kind: from_agent::Kind) {
        if self.to_proxy.try_send(Ok(FromAgent { kind: Some(kind) })).is_err() {
            tracing::warn!(pid = self.pid, "the proxy does not read what the agent says");
        }
    }

    /// Queues a message. A proxy that is gone or does not read shows when its answer is missing.
    pub async fn send(&self, message: FromAgent) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.to_proxy.send(Ok(message))).await;
    }

    pub async fn answer_to(&self, revision: u32, timeout: Duration) -> Answer {
        let mut acked = self.acked.subscribe();
        let mut ended = self.ended.subscribe();
        let wait = async {
            tokio::select! {
                ack = acked.wait_for(|ack| ack.revision == revision) => match ack {
                    Ok(ack) if ack.error.is_empty() => Answer::Acked,
                    Ok(ack) => Answer::Refused(ack.error.clone()),
                    Err(_) => Answer::Gone,
                },
                _ = ended.wait_for(|ended| *ended) => Answer::Gone,
            }
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or(Answer::TimedOut)
    }

    /// Ends the connection; the proxy dials again.
    pub fn disconnect(&self) {
        self.ended.send_replace(true);
    }

    /// `None`: it was gone when it was looked for.
    #[must_use]
    pub fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Ends the process (unless it is this one) and the connection.
    pub fn kill(&self) {
        self.disconnect();
        if self.pid == std::process::id() {
            return;
        }
        if let Some(pidfd) = &self.pidfd
            && let Err(error) = pidfd_send_signal(pidfd, Signal::KILL)
        {
            tracing::warn!(%error, pid = self.pid, "cannot kill the proxy");
        }
    }

    #[must_use]
    pub fn health(&self) -> ProxyHealth {
        let revision = match &*self.acked.borrow() {
            ack if ack.error.is_empty() => Some(ack.revision),
            _ => None,
        };
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(revision) = revision {
            health.revision = revision;
        }
        ProxyHealth {
            connected: true,
            pid: self.pid,
            version: self.hello.version.clone(),
            threads: self.hello.threads,
            ..health.clone()
        }
    }

    fn acknowledged(&self, ack: Ack) {
        if !ack.error.is_empty() {
            tracing::error!(
                pid = self.pid,
                revision = ack.revision,
                error = ack.error,
                "proxy refused policy"
            );
        }
        self.acked.send_replace(ack);
    }

    fn is_well(&self, health: &Health) -> StageChange {
        self.change_health(|shown| {
            shown.waiting_records = health.records_waiting;
            shown.connections_open = health.connections_open;
            shown.connections_total = health.connections_total;
            shown.requests_allowed = health.requests_allowed;
            shown.requests_denied = health.requests_denied;
            shown.requests_refused = health.requests_refused;
            shown.upstream_failures = health.upstream_failures;
            shown.rss_bytes = health.rss_bytes;
        });
        self.is_in(health.stage())
    }

    fn change_health(&self, change: impl FnOnce(&mut ProxyHealth)) {
        change(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The gRPC service.
pub struct Service(pub Arc<Shared>);

#[tonic::async_trait]
impl proxy_link_server::ProxyLink for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<FromAgent, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let pid = request
            .extensions()
            .get::<UdsConnectInfo>()
            .and_then(|info| info.peer_cred?.pid())
            .ok_or_else(|| Status::unauthenticated("no peer credentials"))?;
        let (to_proxy, from_agent) = mpsc::channel(QUEUE);
        // The answer must not wait for the proxy's first message, nor that for the answer.
        tokio::spawn(serve(self.0.clone(), request.into_inner(), to_proxy, pid));
        Ok(Response::new(Box::pin(ReceiverStream::new(from_agent))))
    }
}

async fn serve(
    shared: Arc<Shared>,
    mut inbound: Streaming<FromProxy>,
    to_proxy: mpsc::Sender<Result<FromAgent, Status>>,
    pid: i32,
) {
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, inbound.message()).await {
        Ok(Ok(Some(FromProxy { kind: Some(from_proxy::Kind::Hello(hello)) }))) => hello,
        _ => {
            tracing::warn!(pid, "link: peer did not say hello");
            return;
        }
    };
    let (ended, mut disconnected) = watch::channel(false);
    let session = Arc::new(Session {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        stage: AtomicI32::new(hello.stage),
        started: started(pid).unwrap_or(0),
        hello,
        pidfd: Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
        pid: pid.unsigned_abs(),
        to_proxy,
        acked: watch::Sender::new(Ack::default()),
        ended,
        health: Mutex::default(),
    });
    {
        let state = shared.state.lock().await;
        if session.instance() != 0 {
            let hello = AgentHello { version: env!("CARGO_PKG_VERSION").to_owned() };
            session.send(FromAgent { kind: Some(from_agent::Kind::Hello(hello)) }).await;
        }
        if let Some(state) = &*state {
            session.send(FromAgent { kind: Some(from_agent::Kind::Policy(state.as_full_update())) }).await;
        }
        shared.add(session.clone());
    }
    let hello = &session.hello;
    tracing::info!(pid, version = hello.version, threads = hello.threads, "proxy connected");

    let mut taking = shared.taking_records.subscribe();
    let mut held = Vec::new();
    loop {
        let message = tokio::select! {
            message = inbound.message() => message,
            Ok(_) = taking.wait_for(|taking| *taking), if !held.is_empty() => {
                if take_all(&shared, &session, &mut held).is_err() {
                    break;
                }
                continue;
            }
            _ = disconnected.wait_for(|ended| *ended) => break,
        };
        match message {
            Ok(Some(FromProxy { kind: None })) => {}
            Ok(Some(FromProxy { kind: Some(kind) })) => match kind {
                from_proxy::Kind::Hello(_) => tracing::debug!(pid, "link: second hello"),
                from_proxy::Kind::Ack(ack) => {
                    session.acknowledged(ack);
                    shared.changed();
                }
                from_proxy::Kind::Health(health) => {
                    if session.is_well(&health) == StageChange::Told {
                        shared.changed();
                    }
                }
                // In the order in which they came.
                from_proxy::Kind::Records(records) => held.push(Batch::Plain(records)),
                from_proxy::Kind::NumberedRecords(encoded) => held.push(Batch::Numbered(encoded)),
            },
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(pid, %status, "link: stream broke off");
                break;
            }
        }
    }
    // What it said last counts, too.
    let _ = take_all(&shared, &session, &mut held);
    // Whoever waits for an answer of this proxy learns that none will come.
    session.disconnect();
    shared.remove(session.id);
    tracing::info!(pid, "proxy disconnected");
}

fn take_all(shared: &Shared, session: &Session, held: &mut Vec<Batch>) -> Result<(), ()> {
    for batch in held.drain(..) {
        records::take(shared, session, batch).map_err(|error| {
            tracing::error!(pid = session.pid, %error, "link: records refused");
        })?;
    }
    Ok(())
}

/// When a process was started: field 22 of its `stat` (proc_pid_stat(5)), behind a name that may
/// hold anything.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}
