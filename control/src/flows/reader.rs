//! Reads the kernel's events as they come.

use std::{io, sync::Arc, time::Duration};

use tektin_loader::EventReader;
use tokio::{io::unix::AsyncFd, task::JoinHandle};

use super::{
    FlowStore, Resolve,
    kernel::{self, WallClock},
};
use crate::api::LostAt;

/// Events handled before other tasks get their turn.
const BATCH: usize = 256;

/// Starts a task that turns events into records until it is aborted. `lost` gives the kernel's
/// running total of events that found the buffer full; what was lost before now is not counted.
pub fn spawn(
    reader: EventReader,
    lost: impl Fn() -> Option<u64> + Send + 'static,
    flows: FlowStore,
    resolve: Arc<dyn Resolve>,
) -> io::Result<JoinHandle<()>> {
    let mut reader = AsyncFd::new(reader)?;
    let mut lost_before = lost().unwrap_or(0);
    Ok(tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                ready = reader.readable_mut() => match ready {
                    Ok(mut ready) => {
                        if drain(ready.get_inner_mut(), &flows, &*resolve) {
                            ready.clear_ready();
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "cannot read the kernel's events any more");
                        return;
                    }
                },
                _ = tick.tick() => {
                    let total = lost().unwrap_or(lost_before);
                    flows.lost(LostAt::Kernel, total.saturating_sub(lost_before));
                    lost_before = total;
                }
            }
            tokio::task::yield_now().await;
        }
    }))
}

/// Whether the buffer was emptied.
fn drain(reader: &mut EventReader, flows: &FlowStore, resolve: &dyn Resolve) -> bool {
    let clock = WallClock::now();
    for _ in 0..BATCH {
        match reader.next() {
            Some(event) => flows.push(kernel::record(&event, clock, resolve)),
            None => return true,
        }
    }
    false
}
