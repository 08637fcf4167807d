//! One connection to the agent.

use std::{io, path::PathBuf, pin::pin, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::{Endpoint, Uri};

use super::{
    Event, Now, Seen,
    outbox::{Manner, Outbox},
};
use crate::{
    counters::Counters,
    link_proto::{
        Ack, FromAgent, FromProxy, Health, Hello, PolicyUpdate, Stage, from_agent, from_proxy,
        proxy_link_client::ProxyLinkClient,
    },
    policy::{RuleCache, Snapshot},
    record::RecordSource,
};

/// While requests come, records leave often: what is sent at once takes the worker's core for as long.
const BATCH_TIME: Duration = Duration::from_millis(20);
/// Until the first record after a time without any.
const QUIET_TIME: Duration = Duration::from_millis(100);
const HEALTH_TIME: Duration = Duration::from_secs(1);

/// Policies of tens of thousands of identities come in one message.
const MESSAGE_OCTETS: usize = 256 << 20;

/// What outlives a connection.
pub(super) struct Session {
    socket: PathBuf,
    threads: usize,
    outbox: Outbox,
    counters: Vec<Arc<Counters>>,
    events: mpsc::Sender<Event>,
    /// `None` before the first full policy.
    policy: Option<Arc<Snapshot>>,
    cache: RuleCache,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    AgentLeft,
    /// The process ends.
    Ordered,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{0}")]
    Stream(#[from] Box<tonic::Status>),
}

impl Session {
    pub(super) fn new(
        socket: PathBuf,
        threads: usize,
        records: RecordSource,
        counters: Vec<Arc<Counters>>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let outbox = Outbox::new(records);
        Self { socket, threads, outbox, counters, events, policy: None, cache: RuleCache::default() }
    }

    /// Records that no agent has taken.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.waiting()
    }

    /// Connects, and serves the link until one side ends it.
    pub(super) async fn run(&mut self, now: &mut watch::Receiver<Now>) -> Result<Ending, LinkError> {
        let socket = self.socket.clone();
        let channel = Endpoint::from_static("http://agent")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
            }))
            .await?;
        let (outbound, receiver) = mpsc::channel(4);
        let hello = Hello {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: u32::try_from(self.threads).unwrap_or(u32::MAX),
            instance: self.outbox.instance(),
            stage: now.borrow_and_update().stage().into(),
        };
        self.outbox.reconnected();
        let _ = outbound.try_send(message_of(from_proxy::Kind::Hello(hello)));
        let mut inbound = ProxyLinkClient::new(channel)
            .max_decoding_message_size(MESSAGE_OCTETS)
            .connect(ReceiverStream::new(receiver))
            .await
            .map_err(Box::new)?
            .into_inner();
        tracing::info!("linked to the agent");

        let mut batch_time = pin!(sleep(BATCH_TIME));
        let mut health_time = interval(HEALTH_TIME);
        health_time.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ending = matches!(*now.borrow(), Now::Ending(_));
            if ending && self.outbox.waiting() == 0 {
                drop(outbound);
                // The agent ends the stream once it has read ours to the end.
                while let Some(Ok(_)) = inbound.next().await {}
                return Ok(Ending::Ordered);
            }
            tokio::select! {
                received = inbound.next() => {
                    let message = match received {
                        None => return Ok(Ending::AgentLeft),
                        Some(Err(status)) => return Err(LinkError::Stream(Box::new(status))),
                        Some(Ok(message)) => message,
                    };
                    if let Some(ack) = self.hear(message).await
                        && outbound.send(message_of(from_proxy::Kind::Ack(ack))).await.is_err()
                    {
                        return Ok(Ending::AgentLeft);
                    }
                    if self.outbox.is_behind() && !self.send_records(&outbound) {
                        return Ok(Ending::AgentLeft);
                    }
                }
                () = &mut batch_time => {
                    let next = if self.outbox.waiting() > 0 { BATCH_TIME } else { QUIET_TIME };
                    batch_time.as_mut().reset(Instant::now() + next);
                    if !self.send_records(&outbound) {
                        return Ok(Ending::AgentLeft);
                    }
                }
                _ = health_time.tick() => self.send_health(&outbound, now),
                Ok(()) = now.changed() => {
                    self.send_health(&outbound, now);
                    if !self.send_records(&outbound) {
                        return Ok(Ending::AgentLeft);
                    }
                }
            }
        }
    }

    /// Does what the agent says; the acknowledgement to send, if it wants one.
    async fn hear(&mut self, message: FromAgent) -> Option<Ack> {
        let is_hello = matches!(message.kind, Some(from_agent::Kind::Hello(_)));
        self.outbox.meet(if is_hello { Manner::Acknowledges } else { Manner::Takes });
        match message.kind {
            Some(from_agent::Kind::Hello(hello)) => tracing::debug!(version = hello.version, "agent"),
            Some(from_agent::Kind::Policy(update)) => return Some(self.apply(&update).await),
            Some(from_agent::Kind::Records(ack)) => self.outbox.acknowledged(ack.through),
            Some(from_agent::Kind::Drain(drain)) => {
                let _ = self.events.send(Event::Drain(Duration::from_secs(drain.seconds.into()))).await;
            }
            Some(from_agent::Kind::TakeListeners(_)) => {
                let _ = self.events.send(Event::TakeListeners).await;
            }
            None => tracing::warn!("a message from the agent that this version does not know"),
        }
        None
    }

    /// Puts the update in force on all threads, or leaves everything as it is.
    async fn apply(&mut self, update: &PolicyUpdate) -> Ack {
        let refused = |error: String| {
            tracing::error!(revision = update.revision, %error, "policy update refused");
            Ack { revision: update.revision, error }
        };
        let base = match (&self.policy, update.full) {
            (Some(policy), _) => Arc::clone(policy),
            (None, true) => Arc::default(),
            (None, false) => return refused("the first update must be a full one".to_owned()),
        };
        let snapshot = match base.apply(update, &mut self.cache) {
            Ok(snapshot) => Arc::new(snapshot),
            Err(error) => return refused(error.to_string()),
        };
        let (seen, answer) = oneshot::channel();
        let event = Event::Policy { snapshot: Arc::clone(&snapshot), seen: Seen(seen) };
        let result = match self.events.send(event).await {
            Ok(()) => answer.await,
            Err(_) => Ok(Ok(())),
        };
        match result {
            Ok(Err(error)) => refused(error),
            // No answer: the process is about to end, and no thread judges anything any more.
            Ok(Ok(())) | Err(_) => {
                tracing::debug!(revision = update.revision, "policy in force");
                self.policy = Some(snapshot);
                Ack { revision: update.revision, error: String::new() }
            }
        }
    }

    /// Sends what is there while the agent takes it; the rest waits. False: the link is gone.
    fn send_records(&mut self, outbound: &mpsc::Sender<FromProxy>) -> bool {
        loop {
            let permit = match outbound.try_reserve() {
                Ok(permit) => permit,
                Err(mpsc::error::TrySendError::Full(())) => return true,
                Err(mpsc::error::TrySendError::Closed(())) => return false,
            };
            match self.outbox.next() {
                Some(batch) => permit.send(message_of(batch)),
                None => return true,
            }
        }
    }

    fn send_health(&self, outbound: &mpsc::Sender<FromProxy>, now: &watch::Receiver<Now>) {
        let health = self.health(now.borrow().stage());
        let _ = outbound.try_send(message_of(from_proxy::Kind::Health(health)));
    }

    fn health(&self, stage: Stage) -> Health {
        let mut health = Health {
            rss_bytes: rss_bytes(),
            records_waiting: self.outbox.waiting() as u64,
            stage: stage.into(),
            ..Health::default()
        };
        for counters in &self.counters {
            counters.add_to(&mut health);
        }
        health
    }
}

fn message_of(kind: from_proxy::Kind) -> FromProxy {
    FromProxy { kind: Some(kind) }
}

/// Resident memory; 0: not known.
fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages
        * nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .unwrap_or(4096)
            .unsigned_abs()
}
