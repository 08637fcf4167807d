//! A worker thread: its listeners, its connections, its policy.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures::FutureExt;
use tektin_abi::maps::mark;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::{JoinSet, LocalSet},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};

use super::pool::Flushed;
use crate::{
    capture::Accepted,
    connection,
    listener::ListenerPair,
    maps::Steered,
    upstream::{SourceAddress, UpstreamSockets},
    worker::Worker,
    {counters::Counters, options::Limits, policy::Snapshot, record::RecordSink},
};

/// How often totals go to the `verdicts` map.
const FLUSH: Duration = Duration::from_millis(250);

/// What the process tells a thread.
pub(super) enum Order {
    Policy {
        snapshot: Arc<Snapshot>,
        seen: oneshot::Sender<()>,
    },
    /// Accept nothing new; end when all connections have, at the latest then.
    Drain {
        until: Instant,
    },
}

pub(super) struct Setup {
    pub(super) sockets: ListenerPair,
    pub(super) steered: Steered,
    pub(super) limits: Limits,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) sink: RecordSink,
    pub(super) counters: Arc<Counters>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) flushed: mpsc::UnboundedSender<Flushed>,
}

/// Runs until a drain has ended.
pub(super) fn run(setup: Setup) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(setup))
}

async fn serve(setup: Setup) -> std::io::Result<()> {
    let Setup { sockets, steered, limits, snapshot, sink, counters, mut orders, flushed } = setup;
    let v4 = TcpListener::from_std(sockets.v4)?;
    let v6 = TcpListener::from_std(sockets.v6)?;
    let steered: Rc<Steered> = Rc::new(steered);
    let sockets = UpstreamSockets {
        mark: Some(mark::FROM_PROXY),
        source: SourceAddress::Client,
        connect_time: limits.connect_time,
    };
    let worker = Worker::new(limits, snapshot, sink, counters, sockets);
    let mut connections = JoinSet::new();
    let mut flush = interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let until = loop {
        // A full thread leaves new connections in the backlog, and the kernel drops the SYNs behind it.
        let room = connections.len() < limits.connections_per_thread;
        let accepted = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Policy { snapshot, seen }) => {
                    worker.switch_policy(snapshot);
                    let _ = seen.send(());
                    continue;
                }
                Some(Order::Drain { until }) => break until,
                // The process has lost its main thread: nobody could change the policy any more.
                None => return Ok(()),
            },
            _ = flush.tick() => {
                flush_totals(&worker, &flushed);
                continue;
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note(ended);
                continue;
            }
            accepted = v4.accept(), if room => accepted,
            accepted = v6.accept(), if room => accepted,
        };
        match accepted.and_then(|(stream, _)| Accepted::from_listener(stream)) {
            Ok(accepted) => {
                let (worker, steered) = (Rc::clone(&worker), Rc::clone(&steered));
                connections.spawn_local(async move { connection::serve(accepted, &*steered, worker).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                // Out of descriptors or memory: accept would fail again at once.
                sleep(Duration::from_millis(10)).await;
            }
        }
    };
    // Connections that the kernel has completed already would be reset with the listeners.
    for listener in [&v4, &v6] {
        while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
            if let Ok(accepted) = Accepted::from_listener(stream) {
                let (worker, steered) = (Rc::clone(&worker), Rc::clone(&steered));
                connections.spawn_local(async move { connection::serve(accepted, &*steered, worker).await });
            }
        }
    }
    drop((v4, v6));
    worker.drain();
    while let Ok(Some(ended)) = timeout_at(until, connections.join_next()).await {
        note(ended);
    }
    let cut = connections.len();
    if cut > 0 {
        tracing::warn!(cut, "connections still open at the end of the drain are cut");
    }
    connections.shutdown().await;
    flush_totals(&worker, &flushed);
    Ok(())
}

/// One connection's failure is no other's.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

fn flush_totals(worker: &Worker, flushed: &mpsc::UnboundedSender<Flushed>) {
    let totals = worker.tallies.take();
    if !totals.is_empty() {
        // Fails only where the process is ending.
        let _ = flushed.send(totals);
    }
}
