//! A worker thread: its listeners, its connections, its policy.

use std::{rc::Rc, sync::Arc, time::Duration};

use futures::FutureExt;
use tektin_abi::maps::mark;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    sync::{mpsc, oneshot},
    task::{JoinSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    drain::{Drain, Draining},
    memory,
    pool::Flushed,
};
use crate::{
    capture::Accepted,
    connection,
    listener::ListenerPair,
    maps::{Ipcache, Steered},
    sends,
    upstream::{SourceAddress, UpstreamSockets},
    worker::{Concerned, Stage, Worker},
    {counters::Counters, options::Limits, policy::Snapshot, record::RecordSink},
};

/// Tasks that are polled before the thread looks for orders and events again. A change of policy waits
/// for them.
const TURN: u32 = 16;

/// How often totals go to the `verdicts` map.
const FLUSH: Duration = Duration::from_millis(250);

/// What the process tells a thread.
pub(super) enum Order {
    Policy {
        snapshot: Arc<Snapshot>,
        seen: oneshot::Sender<()>,
    },
    /// End when all connections have. A second one can only shorten the time.
    Drain(Drain),
}

/// What is cut gets this time to write its records.
const LAST_RECORDS: Duration = Duration::from_secs(1);

pub(super) struct Setup {
    pub(super) sockets: ListenerPair,
    pub(super) steered: Steered,
    pub(super) ipcache: Ipcache,
    pub(super) limits: Limits,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) sink: RecordSink,
    pub(super) counters: Arc<Counters>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) flushed: mpsc::UnboundedSender<Flushed>,
}

/// Runs until a drain has ended.
pub(super) fn run(setup: Setup) -> std::io::Result<()> {
    // No LocalSet: it would wake the thread by a system call for what the thread does itself.
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(TURN)
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        spawn_local(gather_sends());
        serve(setup).await
    })
}

async fn gather_sends() {
    let Err(error) = sends::gather().await;
    tracing::info!(%error, "no io_uring: writes leave one by one");
}

async fn serve(setup: Setup) -> std::io::Result<()> {
    let Setup { sockets, steered, ipcache, limits, snapshot, sink, counters, mut orders, flushed } = setup;
    let v4 = TcpListener::from_std(sockets.v4)?;
    let v6 = TcpListener::from_std(sockets.v6)?;
    let steered: Rc<Steered> = Rc::new(steered);
    let sockets = UpstreamSockets {
        mark: Some(mark::FROM_PROXY),
        source: SourceAddress::Client,
        connect_time: limits.connect_time,
    };
    let worker = Worker::new(limits, snapshot, sink, counters, sockets, Box::new(ipcache));
    let mut connections = JoinSet::new();
    let mut flush = interval(FLUSH);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut listeners = Some((v4, v6));
    let mut draining: Option<Draining> = None;
    loop {
        if let Some(draining) = &draining {
            let now = Instant::now();
            worker.enter(draining.stage(now));
            if listeners.is_some() && !draining.accepts(now) {
                // Connections that the kernel has completed would be reset with the listeners.
                while let Some(Ok(stream)) = accept(&listeners).now_or_never() {
                    serve_one(stream, &worker, &steered, &mut connections);
                }
                listeners = None;
            }
            if draining.stage(now) == Stage::Cut || (listeners.is_none() && connections.is_empty()) {
                break;
            }
        }
        // A full thread leaves new connections in the backlog, and the kernel drops the SYNs behind it.
        let room = connections.len() < limits.connections_per_thread;
        let accepted = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Policy { snapshot, seen }) => {
                    if worker.switch_policy(snapshot) == Concerned::Connections {
                        let_all_look(connections.len(), worker.open_calls()).await;
                    }
                    let _ = seen.send(());
                    continue;
                }
                Some(Order::Drain(drain)) => {
                    draining = Some(Draining::begin(drain, draining, Instant::now()));
                    continue;
                }
                // The process has lost its main thread: nobody could change the policy any more.
                None => return Ok(()),
            },
            _ = flush.tick() => {
                flush_totals(&worker, &flushed);
                worker.end_spare();
                worker.clients.set_short_of_memory(memory::resident() > limits.memory);
                continue;
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note(ended);
                continue;
            }
            accepted = accept(&listeners), if room => accepted,
            // Last: what waits to be accepted comes before the end of accepting.
            () = step(draining), if draining.is_some() => continue,
        };
        match accepted {
            Ok(stream) => serve_one(stream, &worker, &steered, &mut connections),
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                // Out of descriptors or memory: accept would fail again at once.
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    drop(listeners);
    let cut = connections.len();
    if cut > 0 {
        tracing::warn!(cut, "connections still open at the end of the drain are cut");
    }
    let _ = timeout(LAST_RECORDS, async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    })
    .await;
    connections.shutdown().await;
    flush_totals(&worker, &flushed);
    Ok(())
}

fn serve_one(stream: TcpStream, worker: &Rc<Worker>, steered: &Rc<Steered>, connections: &mut JoinSet<()>) {
    match Accepted::from_listener(stream) {
        Ok(accepted) => {
            let (worker, steered) = (Rc::clone(worker), Rc::clone(steered));
            connections.spawn_local(async move { connection::serve(accepted, &*steered, worker).await });
        }
        Err(error) => tracing::warn!(%error, "cannot serve"),
    }
}

/// The next connection of either listener.
async fn accept(listeners: &Option<(TcpListener, TcpListener)>) -> std::io::Result<TcpStream> {
    let Some((v4, v6)) = listeners else { return std::future::pending().await };
    let (stream, _) = tokio::select! {
        accepted = v4.accept() => accepted,
        accepted = v6.accept() => accepted,
    }?;
    Ok(stream)
}

async fn step(draining: Option<Draining>) {
    match draining.and_then(|draining| draining.next_step(Instant::now())) {
        Some(next) => sleep_until(next).await,
        None => std::future::pending().await,
    }
}

/// How often a connection is run to say how its calls end.
const LAST_ROUNDS: usize = 3;

/// Lets every connection see the new policy before it is acknowledged: the kernel switches after that,
/// and would drop what tells the ends of a connection that is no longer allowed.
async fn let_all_look(connections: usize, calls: usize) {
    // A call that ends says so, which takes its own task and its connection's some turns.
    let turns = if calls == 0 { 1 } else { 1 + LAST_ROUNDS };
    for _ in 0..turns * (connections + calls).div_ceil(TURN as usize) {
        tokio::task::yield_now().await;
    }
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
