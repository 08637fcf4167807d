//! The bounded way from the workers to the link. Records wait as they go over the wire, in batches.
//! Never blocks a worker for longer than a copy takes: a full buffer costs records, and they are counted.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use prost::Message as _;

use crate::link_proto::{Http, Record};

/// Records of one batch.
pub const BATCH: usize = 512;
/// Octets after which a batch is full, however few records it has.
const BATCH_OCTETS: usize = 1 << 20;
/// Octets of all records that wait: who asks for long paths must not fill the memory.
const OCTETS: usize = 32 << 20;
/// Records that are kept to be written anew, of one thread.
const SPARE: usize = 64;

/// One thread's end.
pub struct RecordSink {
    shared: Arc<Shared>,
    encoded: RefCell<Vec<u8>>,
    spare: RefCell<Vec<(Record, Http)>>,
}

/// The link's end.
pub struct RecordSource(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    capacity: usize,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Oldest first; records go into the last one.
    batches: VecDeque<Batch>,
    records: usize,
    octets: usize,
}

/// Records, as they lie in an encoded message of them.
#[derive(Default)]
pub struct Batch {
    pub octets: Vec<u8>,
    pub records: usize,
}

/// A buffer for at most `capacity` records.
#[must_use]
pub fn buffer(capacity: usize) -> (RecordSink, RecordSource) {
    let shared =
        Arc::new(Shared { queue: Mutex::default(), capacity: capacity.max(1), lost: AtomicU64::new(0) });
    (RecordSink::new(&shared), RecordSource(shared))
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing between lock and unlock leaves it half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordSink {
    fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), encoded: RefCell::default(), spare: RefCell::default() }
    }

    /// An empty record, with the memory of an earlier one, and what it may need of HTTP.
    pub(crate) fn blank(&self) -> (Record, Http) {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Sends it, and keeps its memory.
    pub(crate) fn push(&self, mut record: Record, unused: Http) {
        self.send(&record);
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE {
            let mut http = record.http.take().unwrap_or(unused);
            http.clear();
            record.clear();
            spare.push((record, http));
        }
    }

    pub fn send(&self, record: &Record) {
        let mut encoded = self.encoded.borrow_mut();
        encoded.clear();
        // As field 1 of `Records`.
        prost::encoding::message::encode(1, record, &mut *encoded);
        let mut queue = self.shared.queue();
        if queue.records >= self.shared.capacity || queue.octets > OCTETS {
            drop(queue);
            self.shared.lost.fetch_add(1, Relaxed);
            return;
        }
        queue.add(&encoded);
    }
}

/// For another thread.
impl Clone for RecordSink {
    fn clone(&self) -> Self {
        Self::new(&self.shared)
    }
}

impl Queue {
    fn add(&mut self, encoded: &[u8]) {
        self.records += 1;
        self.octets += encoded.len();
        match self.batches.back_mut() {
            Some(last) if last.records < BATCH && last.octets.len() < BATCH_OCTETS => {
                last.octets.extend_from_slice(encoded);
                last.records += 1;
            }
            before => {
                // As long as the one before: they are alike while there are many.
                let likely = before.map_or(1 << 10, |full| full.octets.len() + 128);
                let mut octets = Vec::with_capacity(likely);
                octets.extend_from_slice(encoded);
                self.batches.push_back(Batch { octets, records: 1 });
            }
        }
    }
}

impl RecordSource {
    /// The oldest batch, without waiting: a waiting reader would have to be woken by each record.
    #[must_use]
    pub fn next_batch(&mut self) -> Option<Batch> {
        let mut queue = self.0.queue();
        let batch = queue.batches.pop_front()?;
        queue.records -= batch.records;
        queue.octets -= batch.octets.len();
        Some(batch)
    }

    /// Records that nobody has taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.queue().records
    }

    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_proto::Records;

    fn all(source: &mut RecordSource) -> Vec<Vec<Record>> {
        let batches = std::iter::from_fn(|| source.next_batch());
        batches.map(|batch| Records::decode(&*batch.octets).unwrap().records).collect()
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (sink, mut source) = buffer(2);
        for _ in 0..5 {
            sink.send(&Record::default());
        }
        assert_eq!((source.lost(), source.waiting()), (3, 2));
        assert_eq!(all(&mut source), [vec![Record::default(); 2]]);
        assert_eq!(source.waiting(), 0);
    }

    #[test]
    fn a_batch_has_a_size() {
        let (sink, mut source) = buffer(2000);
        for src_port in 0..1100 {
            sink.clone().send(&Record { src_port, ..Record::default() });
        }
        let batches = all(&mut source);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [BATCH, BATCH, 76]);
        let ports: Vec<u32> = batches.concat().iter().map(|record| record.src_port).collect();
        assert_eq!(ports, (0..1100).collect::<Vec<_>>());
    }

    #[test]
    fn long_paths_do_not_fill_the_memory() {
        let (sink, mut source) = buffer(1_000_000);
        let long = Record { reason: "x".repeat(1 << 20), ..Record::default() };
        for _ in 0..100 {
            sink.send(&long);
        }
        let kept = source.waiting();
        assert!((31..=33).contains(&kept), "{kept}");
        assert_eq!(source.lost(), 100 - kept as u64);
        assert_eq!(all(&mut source).len(), kept, "a batch each");
        sink.send(&long);
        assert_eq!(all(&mut source).len(), 1, "there is room again");
    }

    #[test]
    fn nothing_of_an_earlier_record_is_in_a_blank_one() {
        let (sink, mut source) = buffer(9);
        let (mut record, mut http) = sink.blank();
        http.path.push_str("/secret");
        record.http = Some(http);
        record.reason.push_str("why");
        record.set_outcome(crate::link_proto::Outcome::Refused);
        sink.push(record, Http::default());
        assert_eq!(all(&mut source)[0][0].reason, "why");
        assert_eq!(sink.blank(), (Record::default(), Http::default()));
    }
}
