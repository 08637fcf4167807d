//! The proxy's process: threads, order of start, end.

mod descriptors;
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
    link::{Event, Link},
    listener::ListenerPair,
    maps::{Listeners, Slot, Steered, Verdicts},
    options::ProxyOptions,
    record,
};
use pool::Pool;

/// How long connections may go on after SIGTERM.
const DRAIN_AT_SIGNAL: Duration = Duration::from_secs(5);

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
    let mut listeners = Listeners::open(&options.pin_dir)?;
    let mut sockets = Vec::new();
    let mut steered = Vec::new();
    for _ in 0..threads {
        sockets.push(ListenerPair::open().context("cannot open a transparent listener")?);
        steered.push(Steered::open(&options.pin_dir)?);
    }
    let mut limits = options.limits;
    limits.connections_per_thread = descriptors::make_room(threads, limits.connections_per_thread);
    capabilities::drop_others().context("cannot drop capabilities")?;

    let (sink, source) = record::buffer(options.limits.records);
    let counters: Vec<Arc<Counters>> = (0..threads).map(|_| Arc::default()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut pool = Pool::new(limits, sink, counters.clone(), verdicts);
        let mut link = Link::start(options.run_dir.join("proxy.sock"), threads, source, counters);
        let ending = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let drain = tokio::select! {
            () = ending => DRAIN_AT_SIGNAL,
            drain = serve(&mut link, &mut pool, &mut listeners, sockets, steered) => drain?,
        };
        tracing::info!(seconds = drain.as_secs(), "draining");
        pool.end(drain).await;
        link.end().await;
        Ok(())
    })
}

/// Applies what the agent sends until it says to drain; returns the time for that.
async fn serve(
    link: &mut Link,
    pool: &mut Pool,
    listeners: &mut Listeners,
    sockets: Vec<ListenerPair>,
    steered: Vec<Steered>,
) -> anyhow::Result<Duration> {
    let mut waiting = Some((sockets, steered));
    loop {
        match link.next().await {
            Event::Drain(time) => return Ok(time),
            Event::Policy { snapshot, seen } => match waiting.take() {
                Some((sockets, steered)) => {
                    // Only now is there a policy to judge by: the kernel may steer.
                    let published: Vec<_> =
                        sockets.iter().map(|pair| (pair.v4.try_clone(), pair.v6.try_clone())).collect();
                    pool.start(sockets, steered, &snapshot)?;
                    for (thread, (v4, v6)) in (0..).zip(published) {
                        listeners.publish(Slot::V4(thread), &v4?)?;
                        listeners.publish(Slot::V6(thread), &v6?)?;
                    }
                    tracing::info!(revision = snapshot.revision(), "listeners in place");
                    seen.acknowledge(Ok(()));
                }
                None => {
                    let result = pool.switch_policy(&snapshot).await;
                    let failed = result.clone().err();
                    seen.acknowledge(result);
                    if let Some(error) = failed {
                        // Some threads judge by the old policy, some by the new: neither is in force.
                        bail!("policy not in force on all threads: {error}");
                    }
                }
            },
        }
    }
}
