//! The proxy's process: threads, order of start, end.

mod descriptors;
mod drain;
mod memory;
mod pool;
mod thread;

use std::{sync::Arc, thread::available_parallelism, time::Duration};

use anyhow::{Context, bail};
use tektin_abi::maps::LISTENERS_V6;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use crate::{
    capabilities,
    counters::Counters,
    link::{Event, Link, Seen},
    link_proto::Stage,
    listener::ListenerPair,
    maps::{Ipcache, Listeners, Slot, Steered, Verdicts},
    options::ProxyOptions,
    policy::Snapshot,
    record, start_up,
};
use drain::{Drain, Successor};
use pool::Pool;

/// What SIGTERM leaves connections: whoever started the process starts the next one after it.
const AT_SIGNAL: Drain = Drain { time: Duration::from_secs(4), successor: Successor::None };

/// How long the last records may take to leave.
const LAST_RECORDS: Duration = Duration::from_millis(500);
/// The same for a proxy that has a successor: its agent may be away for a moment.
const LAST_RECORDS_REPLACED: Duration = Duration::from_secs(10);

/// Runs the proxy until it is told to end: by SIGTERM, SIGINT or the agent.
///
/// # Errors
/// Where it cannot start: maps that are not there, sockets or capabilities that the kernel refuses.
pub fn run(options: ProxyOptions) -> anyhow::Result<()> {
    let threads = match options.threads {
        Some(threads) => threads,
        None => available_parallelism().map_or(1, usize::from).min(LISTENERS_V6 as usize),
    };
    if !(1..=LISTENERS_V6 as usize).contains(&threads) {
        bail!("{threads} threads: there is room for 1 to {LISTENERS_V6}");
    }
    // All that takes privileges first; nothing is read from the network before they are gone.
    let verdicts = Verdicts::open(&options.pin_dir)?;
    let listeners = Listeners::open(&options.pin_dir)?;
    let mut sockets = Vec::new();
    let mut tables = Vec::new();
    for _ in 0..threads {
        sockets.push(ListenerPair::open().context("cannot open a transparent listener")?);
        tables.push((Steered::open(&options.pin_dir)?, Ipcache::open(&options.pin_dir)?));
    }
    let mut limits = options.limits;
    descriptors::make_room(threads, &mut limits);
    capabilities::drop_others().context("cannot drop capabilities")?;

    let (sink, source) = record::buffer(options.limits.records);
    let counters: Vec<Arc<Counters>> = (0..threads).map(|_| Arc::default()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut pool = Pool::new(limits, sink, counters.clone(), verdicts);
        let mut link = Link::start(options.run_dir.join("proxy.sock"), threads, source, counters);
        let mut signalled = std::pin::pin!(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        let drain = tokio::select! {
            () = &mut signalled => AT_SIGNAL,
            drain = serve(&mut link, &mut pool, listeners, sockets, tables) => drain?,
        };
        tracing::info!(seconds = drain.time.as_secs(), "draining");
        link.is_now(Stage::Draining);
        pool.drain(drain);
        let mut last_records = LAST_RECORDS;
        if drain.successor == Successor::Serves {
            last_records = LAST_RECORDS_REPLACED;
            tokio::select! {
                () = signalled => pool.drain(AT_SIGNAL),
                end = keep_judging(&mut link, &pool) => end?,
            }
        }
        // Also where that was told to hurry.
        keep_judging(&mut link, &pool).await?;
        pool.end().await;
        let left = link.end(last_records).await;
        if left > 0 {
            tracing::warn!(left, "records that no agent has taken are lost");
        }
        Ok(())
    })
}

/// Applies what the agent sends until it says to drain.
async fn serve(
    link: &mut Link,
    pool: &mut Pool,
    mut listeners: Listeners,
    sockets: Vec<ListenerPair>,
    tables: Vec<(Steered, Ipcache)>,
) -> anyhow::Result<Drain> {
    let mut waiting = Some((sockets, tables));
    // The threads' listeners once more. They must be gone when the threads end theirs, or the kernel
    // would still find them.
    let mut own = Vec::new();
    loop {
        match link.next().await {
            Event::Drain(time) => return Ok(Drain { time, successor: Successor::Serves }),
            Event::TakeListeners => publish(&mut listeners, &own)?,
            Event::Policy { snapshot, seen } => match waiting.take() {
                Some((sockets, tables)) => {
                    for pair in &sockets {
                        own.push(ListenerPair { v4: pair.v4.try_clone()?, v6: pair.v6.try_clone()? });
                    }
                    pool.start(sockets, tables, &snapshot)?;
                    seen.acknowledge(Ok(()));
                    // Only now is there a policy to judge by: the kernel may steer.
                    publish(&mut listeners, &own)?;
                    tracing::info!(revision = snapshot.revision(), "listeners in place");
                    link.is_now(Stage::Serving);
                    start_up::forget();
                }
                None => switch(pool, &snapshot, seen).await?,
            },
        }
    }
}

/// From now on the kernel steers to these listeners, whoever's were there before.
fn publish(listeners: &mut Listeners, own: &[ListenerPair]) -> anyhow::Result<()> {
    for (thread, pair) in (0..).zip(own) {
        listeners.publish(Slot::V4(thread), &pair.v4)?;
        listeners.publish(Slot::V6(thread), &pair.v6)?;
    }
    Ok(())
}

async fn switch(pool: &Pool, snapshot: &Arc<Snapshot>, seen: Seen) -> anyhow::Result<()> {
    let result = pool.switch_policy(snapshot).await;
    seen.acknowledge(result.clone());
    // Some threads judge by the old policy, some by the new: neither is in force.
    result.map_err(|error| anyhow::anyhow!("policy not in force on all threads: {error}"))
}

/// Applies changes of policy while connections end.
async fn keep_judging(link: &mut Link, pool: &Pool) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = pool.drained() => return Ok(()),
            event = link.next() => match event {
                Event::Policy { snapshot, seen } => switch(pool, &snapshot, seen).await?,
                Event::Drain(_) | Event::TakeListeners => {}
            },
        }
    }
}
