//! A dynamic table (RFC 7541 §2.3.2), as both ends keep it.

use super::OVERHEAD;
use std::collections::VecDeque;

/// What a table of some size first takes memory for.
const FIRST: usize = 256;

/// Entries, newest last, with their octets one after the other in `octets`.
///
/// Octets of entries that left stay in front until half of all are such, or room is needed; then the
/// others move there. So each entry is one piece, each octet moves about once, and the memory is at most
/// twice the table's size.
#[derive(Debug)]
pub(super) struct Table {
    octets: Vec<u8>,
    /// The position of `octets[0]`, counted from the first octet ever, modulo 2^32.
    origin: u32,
    entries: VecDeque<Entry>,
    /// What the entries count, at most `max`.
    size: usize,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    position: u32,
    name: u32,
    value: u32,
    /// The encoder's; nothing to the decoder.
    hash: u32,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Self { octets: Vec::new(), origin: 0, entries: VecDeque::new(), size: 0, max }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn max(&self) -> usize {
        self.max
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Octets of memory.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.octets.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Name and value of an entry; the newest one is 0.
    #[inline]
    pub(super) fn at(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let newest = self.entries.len().checked_sub(1)?;
        let entry = self.entries.get(newest.checked_sub(index)?)?;
        let from = entry.position.wrapping_sub(self.origin) as usize;
        let (name, value) = (entry.name as usize, entry.value as usize);
        Some(self.octets[from..from + name + value].split_at(name))
    }

    /// Whether the entry is this one. `hash` is the one that it was inserted with.
    #[inline]
    pub(super) fn is(&self, index: usize, hash: u32, name: &[u8], value: &[u8]) -> bool {
        let Some(entry) = self.entries.len().checked_sub(index + 1).and_then(|at| self.entries.get(at))
        else {
            return false;
        };
        if (entry.hash, entry.name as usize, entry.value as usize) != (hash, name.len(), value.len()) {
            return false;
        }
        let from = entry.position.wrapping_sub(self.origin) as usize;
        let (known, rest) = self.octets[from..].split_at(name.len());
        // Comparing an empty slice reads from where it points to, masked: with AVX-512 that costs 100 ns
        // if nothing is mapped there, as with a slice that never had memory.
        known == name && (value.is_empty() || &rest[..value.len()] == value)
    }

    /// The newest entry with this name.
    pub(super) fn named(&self, name: &[u8]) -> Option<usize> {
        (0..self.entries.len()).find(|&index| self.at(index).is_some_and(|(known, _)| known == name))
    }

    /// Makes room and adds an entry; one that is larger than the table empties it and is not added
    /// (RFC 7541 §4.4). Whether it was added.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8], hash: u32) -> bool {
        let octets = name.len().saturating_add(value.len());
        let size = octets.saturating_add(OVERHEAD);
        if size > self.max {
            self.evict(0);
            return false;
        }
        self.evict(self.max - size);
        self.make_room(octets);
        let position = self.origin.wrapping_add(self.octets.len() as u32);
        self.octets.extend_from_slice(name);
        self.octets.extend_from_slice(value);
        self.entries.push_back(Entry { position, name: name.len() as u32, value: value.len() as u32, hash });
        self.size += size;
        true
    }

    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
        if self.max == 0 {
            self.octets = Vec::new();
            self.entries = VecDeque::new();
        }
    }

    /// Oldest first, until the table counts at most `size`.
    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else { return };
            self.size -= entry.name as usize + entry.value as usize + OVERHEAD;
        }
        if self.entries.is_empty() {
            self.origin = self.origin.wrapping_add(self.octets.len() as u32);
            self.octets.clear();
        }
    }

    /// Room for `more` octets behind the others, where the table has it.
    fn make_room(&mut self, more: usize) {
        if self.octets.len() + more <= self.octets.capacity() {
            return;
        }
        let left = match self.entries.front() {
            Some(oldest) => oldest.position.wrapping_sub(self.origin) as usize,
            None => self.octets.len(),
        };
        if left * 2 >= self.octets.len() {
            self.octets.drain(..left);
            self.origin = self.origin.wrapping_add(left as u32);
        }
        let needed = self.octets.len() + more;
        if needed > self.octets.capacity() {
            let wanted = (needed * 2).max(FIRST).min(self.max * 2).max(needed);
            self.octets.reserve_exact(wanted - self.octets.len());
        }
    }
}
