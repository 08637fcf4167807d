//! The newest records, kept for those who ask later, and handed to those who follow.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    filter::{Filter, FilterError},
    journal::LostBefore,
    record::FlowRecord,
    unread::Unread,
};
use crate::api::{FlowLine, FlowQuery, FlowsStatus, LostAt};

/// Records kept for `observe --last`.
const KEPT: usize = 16_384;
/// Records that a follower may be behind before it loses the oldest.
const BEHIND: usize = 8_192;

/// Shared by all who write and read records.
#[derive(Clone, Debug)]
pub struct FlowStore(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    kept: VecDeque<Unread>,
    capacity: usize,
    live: broadcast::Sender<FlowLine>,
    status: FlowsStatus,
}

impl Inner {
    fn keep(&mut self, record: Unread) {
        if self.kept.len() == self.capacity {
            self.kept.pop_front();
        }
        self.kept.push_back(record);
    }
}

impl Default for FlowStore {
    fn default() -> Self {
        Self::with_capacity(KEPT, BEHIND)
    }
}

impl FlowStore {
    fn with_capacity(capacity: usize, behind: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            kept: VecDeque::with_capacity(capacity),
            capacity,
            live: broadcast::Sender::new(behind),
            status: FlowsStatus::default(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock leaves the ring half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds records; the oldest ones go when the ring is full.
    pub fn push(&self, records: impl IntoIterator<Item = Unread>) {
        let mut inner = self.inner();
        for record in records {
            inner.status.seen += 1;
            // Sent under the lock, so that `read` sees each record once: kept or live.
            if inner.live.receiver_count() > 0 {
                let _ = inner.live.send(FlowLine::Flow(record.tell()));
            }
            inner.keep(record);
        }
    }

    /// Adds records of the agents before this one.
    pub fn restore(&self, records: impl IntoIterator<Item = Unread>) {
        let mut inner = self.inner();
        for record in records {
            inner.keep(record);
            inner.status.restored += 1;
        }
    }

    /// Goes on counting where the agents before this one ended.
    pub fn restore_lost(&self, before: LostBefore) {
        let status = &mut self.inner().status;
        status.lost_kernel = status.lost_kernel.saturating_add(before.kernel);
        status.lost_proxy = status.lost_proxy.saturating_add(before.proxies);
    }

    /// Counts `lost` records that never came, and shows the gap to followers.
    pub fn lost(&self, at: LostAt, lost: u64) {
        if lost == 0 {
            return;
        }
        let mut inner = self.inner();
        let count = match at {
            LostAt::Kernel => &mut inner.status.lost_kernel,
            LostAt::Proxy => &mut inner.status.lost_proxy,
            LostAt::Reader => &mut inner.status.lost_readers,
        };
        // What a proxy says may be any number.
        *count = count.saturating_add(lost);
        let _ = inner.live.send(FlowLine::Lost { lost, at });
    }

    #[must_use]
    pub fn status(&self) -> FlowsStatus {
        let inner = self.inner();
        FlowsStatus { kept: inner.kept.len(), ..inner.status.clone() }
    }

    /// Starts reading: kept records first, oldest first, then with `follow` the live ones, without
    /// a gap or a double between.
    pub fn read(&self, query: &FlowQuery) -> Result<FlowReader, FilterError> {
        let filter = Filter::new(&query.filter)?;
        let (kept, live) = {
            let inner = self.inner();
            let live = query.follow.then(|| inner.live.subscribe());
            (inner.kept.iter().cloned().collect::<Vec<_>>(), live)
        };
        let mut kept: VecDeque<_> = kept
            .into_iter()
            .rev()
            .map(|record| record.tell())
            .filter(|record| filter.matches(record))
            .take(query.last.unwrap_or(usize::MAX))
            .collect();
        kept.make_contiguous().reverse();
        Ok(FlowReader { kept, live, filter, store: self.clone() })
    }
}

/// One reader's place in the records.
#[derive(Debug)]
pub struct FlowReader {
    kept: VecDeque<Arc<FlowRecord>>,
    live: Option<broadcast::Receiver<FlowLine>>,
    filter: Filter,
    store: FlowStore,
}

impl FlowReader {
    /// The next line; waits for it when following. `None`: that was all.
    pub async fn next(&mut self) -> Option<FlowLine> {
        if let Some(record) = self.kept.pop_front() {
            return Some(FlowLine::Flow(record));
        }
        let live = self.live.as_mut()?;
        loop {
            match live.recv().await {
                Ok(FlowLine::Flow(record)) if !self.filter.matches(&record) => {}
                Ok(line) => return Some(line),
                Err(RecvError::Lagged(lost)) => {
                    self.store.inner().status.lost_readers += lost;
                    return Some(FlowLine::Lost { lost, at: LostAt::Reader });
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The lines as they go over the wire: JSON, each with its newline.
    pub fn into_json_lines(self) -> impl Stream<Item = Result<Bytes, serde_json::Error>> + Send {
        futures::stream::unfold(self, |mut reader| async move {
            let line = reader.next().await?;
            let bytes = serde_json::to_vec(&line).map(|mut bytes| {
                bytes.push(b'\n');
                Bytes::from(bytes)
            });
            Some((bytes, reader))
        })
    }
}

#[cfg(test)]
mod tests;
