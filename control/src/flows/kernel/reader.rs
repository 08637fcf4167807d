//! Reads the kernel's events as they come.

use std::{sync::Arc, time::Duration};

use tektin_loader::EventReader;
use tokio::io::unix::AsyncFd;

use super::WallClock;
use crate::{
    api::LostAt,
    flows::{FlowStore, Journal, Resolve, meanings::Now, unread::Unread},
};

/// How long events gather once one has come, so that each does not wake this process. The kernel's buffer
/// has room for more than a million a second.
const GATHER: Duration = Duration::from_millis(20);
/// Events handled before other tasks get their turn.
const BATCH: usize = 256;
/// How often the kernel's count of lost events is looked at.
const LOSSES: Duration = Duration::from_secs(1);

/// Starts a task that turns events into records for as long as the runtime lives.
pub fn spawn_reader(reader: EventReader, flows: FlowStore, journal: Journal, resolve: Arc<dyn Resolve>) {
    tokio::spawn(async move {
        if let Err(error) = read(reader, &flows, &journal, &*resolve).await {
            tracing::error!(%error, "cannot read the kernel's events: there are no more records of packets");
        }
    });
}

/// Starts a task that counts the events which found the kernel's buffer full, also while there was no
/// agent. `total` is the kernel's running count.
pub fn spawn_loss_count(
    total: impl Fn() -> Option<u64> + Send + 'static,
    flows: FlowStore,
    journal: Journal,
) {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(LOSSES);
        loop {
            tick.tick().await;
            if let Some(total) = total() {
                flows.lost(LostAt::Kernel, journal.kernel_lost(total));
            }
        }
    });
}

async fn read(
    reader: EventReader,
    flows: &FlowStore,
    journal: &Journal,
    resolve: &dyn Resolve,
) -> std::io::Result<()> {
    // SAFETY: an EventReader keeps its descriptor open, and the same one, until it is dropped.
    let mut reader = unsafe { AsyncFd::register(reader) }?;
    let mut events = Vec::with_capacity(BATCH);
    loop {
        let mut ready = reader.readable_mut().await?;
        while events.len() < BATCH
            && let Some(event) = ready.get_inner_mut().next()?
        {
            events.push(event);
        }
        let emptied = events.len() < BATCH;
        if emptied {
            ready.clear_ready();
        }
        drop(ready);
        journal.packets(&events);
        let (clock, mut now) = (WallClock::now(), Now::new(resolve));
        flows.push(events.drain(..).map(|event| Unread::packet(event, clock, &mut now)));
        if emptied {
            tokio::time::sleep(GATHER).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}
