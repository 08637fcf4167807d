//! What was reported, written down before it is acknowledged, so that the next agent has the flow
//! records of this one, however this one ends, and takes none of them twice.
//!
//! Two files of the run directory, the older one full. Each begins with what was known when it was
//! begun. They are not synced: they outlive a process, not a boot, whose id they carry.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prost::{Message as _, bytes::Bytes};
use tektin_abi::maps::Event;
use tektin_proxy::link_proto::{EncodedRecords, RecordNumbers};

mod frame;

use frame::{Frame, Known};

pub const FILES: [&str; 2] = ["flows.journal", "flows.journal.1"];

/// Records of one file.
const FULL: usize = 16_384;
/// Proxy processes that are remembered: the newest ones.
const INSTANCES: usize = 16;

/// What has come from one proxy process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Number of the last record.
    pub through: u64,
    /// What it said it had lost.
    pub lost: u64,
    /// Which of the processes was heard of later.
    order: u64,
}

/// One record of a batch, as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub encoded: Bytes,
    pub numbers: RecordNumbers,
}

/// What is new in a batch.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    pub records: Vec<Request>,
    /// Records that will never come.
    pub lost: u64,
    /// What the process says it has lost in all.
    pub lost_total: u64,
    /// To acknowledge.
    pub through: u64,
}

/// Something that an agent before this one has written down.
#[derive(Debug)]
pub enum Entry {
    Requests(Vec<Request>),
    Packets(Vec<Event>),
}

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("a batch of records that cannot be read: {0}")]
    Batch(#[from] prost::DecodeError),
    #[error("a batch of records without a number, or with one that leaves no room for them")]
    Unnumbered,
}

/// The journal. Clones are the same journal.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// `None`: nothing is written (any more).
    file: Option<Open>,
    proxies: BTreeMap<u64, Received>,
    /// Requests' records that will never come, of all proxy processes.
    proxies_lost: u64,
    /// The kernel's count of lost events that was taken into account.
    kernel_lost: u64,
}

/// What was lost before an agent started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostBefore {
    pub proxies: u64,
    pub kernel: u64,
}

#[derive(Debug)]
struct Open {
    directory: PathBuf,
    file: File,
    records: usize,
}

impl Journal {
    /// Goes on with the journal of `directory`; returns what is in it, oldest first. What cannot be
    /// used is begun anew; where nothing can be written the journal is in memory alone.
    pub fn open(directory: &Path) -> (Self, Vec<Entry>) {
        let mut inner = Inner::default();
        let mut entries = Vec::new();
        let [current, older] = FILES.map(|name| directory.join(name));
        let mut records = 0;
        for path in [&older, &current] {
            records = 0;
            for frame in frame::read(path) {
                match frame {
                    Frame::Known(known) => {
                        inner.proxies = known.proxies;
                        inner.proxies_lost = known.proxies_lost;
                        inner.kernel_lost = known.kernel_lost;
                    }
                    Frame::Requests { instance, encoded } => {
                        if let Ok(taken) = inner.take(instance, &encoded) {
                            records += taken.records.len();
                            entries.push(Entry::Requests(taken.records));
                        }
                    }
                    Frame::Packets(events) => {
                        records += events.len();
                        entries.push(Entry::Packets(events));
                    }
                    Frame::KernelLost(lost) => inner.kernel_lost = lost,
                }
            }
        }
        match frame::append_to(&current) {
            Ok(Some(file)) => inner.file = Some(Open { directory: directory.to_owned(), file, records }),
            Ok(None) => inner.begin(directory),
            Err(error) => gave_up(&error),
        }
        (Self(Arc::new(Mutex::new(inner))), entries)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn lost_before(&self) -> LostBefore {
        let inner = self.inner();
        LostBefore { proxies: inner.proxies_lost, kernel: inner.kernel_lost }
    }

    /// Writes down what a proxy process has sent; what of it is new.
    ///
    /// # Errors
    /// Where it is no numbered batch: nothing of it is taken.
    pub fn take(&self, instance: u64, encoded: &Bytes) -> Result<Taken, JournalError> {
        let mut inner = self.inner();
        let taken = inner.take(instance, encoded)?;
        if !taken.records.is_empty() || taken.lost > 0 {
            let count = taken.records.len();
            inner.append(&Frame::Requests { instance, encoded: encoded.clone() }, count);
        }
        Ok(taken)
    }

    /// Writes down what the kernel has reported.
    pub fn packets(&self, events: &[Event]) {
        if !events.is_empty() {
            self.inner().append(&Frame::Packets(events.to_vec()), events.len());
        }
    }

    /// `total`: the kernel's running count of events that found its buffer full. How many of these
    /// are new, also to the agents before this one.
    pub fn kernel_lost(&self, total: u64) -> u64 {
        let mut inner = self.inner();
        // Less than before: the maps were made anew.
        let new = total.checked_sub(inner.kernel_lost).unwrap_or(total);
        if total != inner.kernel_lost {
            inner.kernel_lost = total;
            inner.append(&Frame::KernelLost(total), 0);
        }
        new
    }
}

impl Inner {
    fn take(&mut self, instance: u64, encoded: &Bytes) -> Result<Taken, JournalError> {
        let EncodedRecords { records, lost_total, first } = EncodedRecords::decode(encoded.clone())?;
        if first == 0 {
            return Err(JournalError::Unnumbered);
        }
        let mut records = requests(records)?;
        // The numbers are a proxy's, which may be hostile.
        let before = first - 1;
        let Some(last) = before.checked_add(records.len() as u64) else {
            return Err(JournalError::Unnumbered);
        };
        let newest = self.proxies.values().map(|received| received.order).max().unwrap_or(0);
        let order = newest.saturating_add(1);
        let received = self.proxies.entry(instance).or_insert(Received { order, ..<_>::default() });
        let known = received.through.saturating_sub(before).min(records.len() as u64);
        records.drain(..known as usize);
        // Another agent has taken what is missing before these, and has not left it here.
        let gap = before.saturating_sub(received.through);
        let lost = lost_total.saturating_sub(received.lost).saturating_add(gap);
        received.through = received.through.max(last);
        received.lost = received.lost.max(lost_total);
        self.proxies_lost = self.proxies_lost.saturating_add(lost);
        let taken = Taken { records, lost, lost_total, through: received.through };
        if self.proxies.len() > INSTANCES
            && let Some((oldest, _)) = self.proxies.iter().min_by_key(|(_, received)| received.order)
        {
            let oldest = *oldest;
            self.proxies.remove(&oldest);
        }
        Ok(taken)
    }

    fn append(&mut self, frame: &Frame, records: usize) {
        let Some(open) = &mut self.file else { return };
        if let Err(error) = open.file.write_all(&frame.encode()) {
            gave_up(&error);
            self.file = None;
            return;
        }
        open.records += records;
        if open.records >= FULL {
            let directory = open.directory.clone();
            self.begin(&directory);
        }
    }

    /// The current file becomes the older one.
    fn begin(&mut self, directory: &Path) {
        let [current, older] = FILES.map(|name| directory.join(name));
        let begun = || -> io::Result<File> {
            match fs::rename(&current, &older) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                OpenOptions::new().create(true).append(true).truncate(false).mode(0o600).open(&current)?;
            let known = Known {
                proxies: self.proxies.clone(),
                proxies_lost: self.proxies_lost,
                kernel_lost: self.kernel_lost,
            };
            file.write_all(&frame::head())?;
            file.write_all(&Frame::Known(known).encode())?;
            Ok(file)
        };
        self.file = match begun() {
            Ok(file) => Some(Open { directory: directory.to_owned(), file, records: 0 }),
            Err(error) => {
                gave_up(&error);
                None
            }
        };
    }
}

/// # Errors
/// Where one of them is no record.
pub fn requests(encoded: Vec<Bytes>) -> Result<Vec<Request>, prost::DecodeError> {
    let request = |encoded: Bytes| Ok(Request { numbers: RecordNumbers::decode(&*encoded)?, encoded });
    encoded.into_iter().map(request).collect()
}

fn gave_up(error: &io::Error) {
    tracing::warn!(%error, "flow records are no longer written down: the next agent will not have them");
}

#[cfg(test)]
mod tests;
