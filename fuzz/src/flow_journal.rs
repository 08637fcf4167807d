//! The journal of flow records: whatever lies in its files, and whatever a proxy sends, it holds what a
//! plainer reading of the same octets says, takes nothing twice, and says the same when it is opened again.
//!
//! The input is items of an octet that says what it is, one that says how long, and so many octets.

use std::{cell::RefCell, collections::BTreeMap, fs, path::Path};

use prost::{Message, bytes::Bytes};
use tektin::entrances::{Entry, JOURNAL_FILES, Journal};
use tektin_abi::maps::Event;
use tektin_proxy::link_proto::{EncodedRecords, RecordNumbers};
use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub fn run(data: &[u8]) {
    let folder = FOLDER.take().unwrap_or_else(|| tempfile::tempdir().expect("a folder"));
    in_folder(folder.path(), data);
    FOLDER.set(Some(folder));
}

fn in_folder(folder: &Path, mut data: &[u8]) {
    let [current, older] = JOURNAL_FILES.map(|name| folder.join(name));
    let (mut images, mut batches) = ([Vec::new(), Vec::new()], Vec::new());
    while let [kind, length, rest @ ..] = data {
        let (octets, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        data = rest;
        match kind % 8 {
            // A frame, as the journal writes it.
            0..=3 => images[usize::from(kind >> 7)].extend(frame(1 + kind % 4, octets)),
            // Anything.
            4 => images[usize::from(kind >> 7)].extend_from_slice(octets),
            _ => batches.push((u64::from(kind >> 6), Bytes::copy_from_slice(octets))),
        }
    }
    let head = head(folder);
    fs::write(&older, [&head, &images[0][..]].concat()).expect("room for it");
    fs::write(&current, [&head, &images[1][..]].concat()).expect("room for it");
    let mut known = Plain::default();
    images.iter().for_each(|image| known.file(image));

    let (journal, found) = Journal::open(folder);
    known.compare(&journal, &found);
    for (instance, batch) in &batches {
        let wanted = known.take(*instance, batch);
        let taken = journal.take(*instance, batch);
        assert_eq!(taken.as_ref().ok().map(|taken| taken.records.len()), wanted.map(|wanted| wanted.len()));
        let Ok(taken) = taken else { continue };
        // One of which others were heard of later may be forgotten at once.
        let Some((through, ..)) = known.proxies.get(instance) else { continue };
        assert_eq!(taken.through, *through);
        let again = journal.take(*instance, batch).expect("it was taken before");
        assert!(again.records.is_empty() && again.lost == 0, "taken twice");
    }
    drop(journal);
    let (journal, found) = Journal::open(folder);
    known.compare(&journal, &found);
}

/// How a file begins.
fn head(folder: &Path) -> Vec<u8> {
    for name in JOURNAL_FILES {
        let _ = fs::remove_file(folder.join(name));
    }
    drop(Journal::open(folder));
    let mut head = fs::read(folder.join(JOURNAL_FILES[0])).expect("a file that was begun");
    head.truncate(1 + head.iter().position(|octet| *octet == b'\n').expect("a line"));
    head
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short one");
    [&[kind][..], &length.to_le_bytes(), &checksum(payload).to_le_bytes(), payload].concat()
}

/// FNV-1a, whose octets are words as long as there are some.
fn checksum(payload: &[u8]) -> u32 {
    let whole = payload.len() / 8 * 8;
    let words = payload[..whole].chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight")));
    let octets = payload[whole..].iter().map(|octet| u64::from(*octet));
    let sum = words
        .chain(octets)
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3));
    (sum ^ sum >> 32) as u32
}

/// What the journal should know.
#[derive(Default)]
struct Plain {
    /// By process: number of the last record, how many it has lost, and when it was heard of.
    proxies: BTreeMap<u64, (u64, u64, u64)>,
    lost: (u64, u64),
    /// Each the records of a batch, or how many events.
    entries: Vec<Result<Vec<Bytes>, usize>>,
}

impl Plain {
    fn file(&mut self, mut image: &[u8]) {
        while let [kind, a, b, c, d, e, f, g, h, rest @ ..] = image {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let Some(payload) = rest.get(..length) else { return };
            if checksum(payload).to_le_bytes() != [*e, *f, *g, *h] || self.frame(*kind, payload).is_none() {
                return;
            }
            image = &rest[length..];
        }
    }

    /// `None`: no such frame.
    fn frame(&mut self, kind: u8, payload: &[u8]) -> Option<()> {
        let number = |octets: &[u8]| Some(u64::from_le_bytes(octets.get(..8)?.try_into().ok()?));
        match kind {
            1 => {
                let instance = number(payload)?;
                let batch = Bytes::copy_from_slice(&payload[8..]);
                let _ = self.take(instance, &batch);
            }
            2 => self.entries.push(Err(payload.len() / size_of::<Event>())),
            3 => self.lost.1 = number(payload)?,
            4 => {
                let lost = (number(payload.get(8..)?)?, number(payload)?);
                let mut proxies = BTreeMap::new();
                for one in payload[16..].chunks(32) {
                    let field = |at: usize| one.get(at..).and_then(number);
                    proxies.insert(field(0)?, (field(8)?, field(16)?, field(24)?));
                }
                (self.lost, self.proxies) = (lost, proxies);
            }
            _ => return None,
        }
        Some(())
    }

    /// What is new in a batch; `None`: it is none.
    fn take(&mut self, instance: u64, batch: &Bytes) -> Option<Vec<Bytes>> {
        let EncodedRecords { records, lost_total, first } = EncodedRecords::decode(batch.clone()).ok()?;
        let is_readable = |record: &Bytes| RecordNumbers::decode(record.clone()).is_ok();
        let last = u128::from(first) + records.len() as u128;
        if first == 0 || last > 1 << 64 || !records.iter().all(is_readable) {
            return None;
        }
        let order = self.proxies.values().map(|proxy| proxy.2).max().unwrap_or(0).saturating_add(1);
        let (through, lost, _) = self.proxies.entry(instance).or_insert((0, 0, order));
        let new: Vec<Bytes> = (u128::from(first)..)
            .zip(records)
            .filter_map(|(number, record)| (number > u128::from(*through)).then_some(record))
            .collect();
        let missing = first.saturating_sub(1).saturating_sub(*through);
        let more = lost_total.saturating_sub(*lost).saturating_add(missing);
        self.lost.0 = self.lost.0.saturating_add(more);
        (*through, *lost) = ((*through).max((last - 1) as u64), (*lost).max(lost_total));
        if self.proxies.len() > 16 {
            let oldest = self.proxies.iter().min_by_key(|(_, proxy)| proxy.2).map(|(instance, _)| *instance);
            self.proxies.remove(&oldest.expect("seventeen"));
        }
        self.entries.push(Ok(new.clone()));
        Some(new)
    }

    fn compare(&self, journal: &Journal, found: &[Entry]) {
        let lost = journal.lost_before();
        assert_eq!((lost.proxies, lost.kernel), self.lost);
        // Batches of which nothing was new may or may not be in the file.
        let found = found.iter().filter_map(|entry| match entry {
            Entry::Packets(events) => Some(Err(events.len())),
            Entry::Requests(requests) if requests.is_empty() => None,
            Entry::Requests(requests) => Some(Ok(requests.iter().map(|r| r.encoded.clone()).collect())),
        });
        let wanted =
            self.entries.iter().filter(|entry| entry.as_ref().is_ok_and(|e| !e.is_empty()) || entry.is_err());
        assert_eq!(found.collect::<Vec<_>>(), wanted.cloned().collect::<Vec<_>>());
    }
}
