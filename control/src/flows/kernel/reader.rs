//! Reads the kernel's events as they come.

use std::{sync::Arc, time::Duration};

use tektin_loader::EventReader;
use tokio::io::unix::AsyncFd;

use super::{WallClock, record};
use crate::{
    api::LostAt,
    flows::{FlowStore, Resolve},
};

/// Events handled before other tasks get their turn.
const BATCH: usize = 256;
/// How often the kernel's count of lost events is looked at.
const LOSSES: Duration = Duration::from_secs(1);

/// Starts a task that turns events into records for as long as the runtime lives.
pub fn spawn_reader(reader: EventReader, flows: FlowStore, resolve: Arc<dyn Resolve>) {
    tokio::spawn(async move {
        if let Err(error) = read(reader, &flows, &*resolve).await {
            tracing::error!(%error, "cannot read the kernel's events: there are no more records of packets");
        }
    });
}

/// Starts a task that counts the events which found the kernel's buffer full. `total` is the
/// kernel's running count; what was lost before now is not counted.
pub fn spawn_loss_count(total: impl Fn() -> Option<u64> + Send + 'static, flows: FlowStore) {
    tokio::spawn(async move {
        let mut before = total().unwrap_or(0);
        let mut tick = tokio::time::interval(LOSSES);
        loop {
            tick.tick().await;
            let now = total().unwrap_or(before);
            flows.lost(LostAt::Kernel, now.saturating_sub(before));
            before = now;
        }
    });
}

async fn read(reader: EventReader, flows: &FlowStore, resolve: &dyn Resolve) -> std::io::Result<()> {
    // SAFETY: an EventReader keeps its descriptor open, and the same one, until it is dropped.
    let mut reader = unsafe { AsyncFd::register(reader) }?;
    loop {
        let mut ready = reader.readable_mut().await?;
        if drain(ready.get_inner_mut(), flows, resolve) {
            ready.clear_ready();
        }
        tokio::task::yield_now().await;
    }
}

/// Whether the buffer was emptied.
fn drain(reader: &mut EventReader, flows: &FlowStore, resolve: &dyn Resolve) -> bool {
    let clock = WallClock::now();
    for _ in 0..BATCH {
        match reader.next() {
            Some(event) => flows.push(record(&event, clock, resolve)),
            None => return true,
        }
    }
    false
}
