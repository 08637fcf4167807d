//! Writes field blocks, RFC 7541 §6.

use super::names::{self, Known};
use super::slots::Slots;
use super::table::Table;
use super::{DEFAULT_TABLE, huffman, integer};

/// Names and values longer than this together are not worth a place in the table.
const LONG: usize = 1024;

/// Entries of the static table.
const FIXED: usize = super::fixed::FIELDS.len();

/// Patterns of RFC 7541 §6: the first octet's bits, and its mask for the index.
const INDEXED: (u8, u8) = (0x80, 0x7f);
const ADDED: (u8, u8) = (0x40, 0x3f);
const UPDATE: (u8, u8) = (0x20, 0x1f);
const NEVER: (u8, u8) = (0x10, 0x0f);
const PLAIN: (u8, u8) = (0x00, 0x0f);

/// The sending end of one direction.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    slots: Slots,
    /// Sizes that the peer has yet to be told: the least since the last block, and the last.
    pending: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::new(DEFAULT_TABLE), slots: Slots::default(), pending: None }
    }

    /// What the peer's SETTINGS_HEADER_TABLE_SIZE allows, in octets. Of more than 4096 no use is made.
    /// The next block begins with the size update.
    pub fn set_max_table(&mut self, octets: usize) {
        let octets = octets.min(DEFAULT_TABLE);
        let (least, last) = self.pending.unwrap_or((self.table.max(), self.table.max()));
        if octets != last {
            self.pending = Some((least.min(octets), octets));
        }
    }

    /// Begins a block: to be called before its first field.
    #[inline]
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if let Some((least, last)) = self.pending.take() {
            self.update(least, last, out);
        }
    }

    /// Writes one field. Its name must be in lower case; neither it nor the value is looked at.
    ///
    /// `never_index`: no table on the way may hold it (RFC 7541 §7.1.3).
    pub fn field(&mut self, name: &[u8], value: &[u8], never_index: bool, out: &mut Vec<u8>) {
        let hashed = names::hash(0, name);
        let known = names::find(hashed, name);
        if never_index {
            return literal(NEVER, known, name, value, out);
        }
        if let Some(known) = known {
            if let Some(index) = known.with_value(value) {
                return integer::put(INDEXED.0, INDEXED.1, index, out);
            }
            if known.fleeting && !value.is_empty() {
                return literal(PLAIN, Some(known), name, value, out);
            }
        }
        let hash = names::hash(hashed, value);
        let place = self.slots.find(hash, self.table.len(), |place| self.table.is(place, hash, name, value));
        match place {
            Some(place) => integer::put(INDEXED.0, INDEXED.1, FIXED + 1 + place, out),
            None => self.unknown(known, name, value, hash, out),
        }
    }

    /// A field that no table has as a whole.
    fn unknown(
        &mut self,
        known: Option<&'static Known>,
        name: &[u8],
        value: &[u8],
        hash: u32,
        out: &mut Vec<u8>,
    ) {
        let index = match known {
            Some(known) if known.index != 0 => Some(usize::from(known.index)),
            _ => self.table.named(name).map(|place| FIXED + 1 + place),
        };
        let (first, mask) = if self.worth(name, value) { ADDED } else { PLAIN };
        put_literal(first, mask, index, name, value, out);
        if (first, mask) == ADDED && self.table.insert(name, value, hash) {
            self.slots.added(hash, self.table.len());
        }
    }

    /// Whether a field is likely to return as it is. A path with a query hardly does.
    fn worth(&self, name: &[u8], value: &[u8]) -> bool {
        let octets = name.len().saturating_add(value.len());
        octets <= LONG
            && octets + super::OVERHEAD <= self.table.max()
            && !(name == b":path" && value.contains(&b'?'))
    }

    #[cold]
    fn update(&mut self, least: usize, last: usize, out: &mut Vec<u8>) {
        for size in [least, last] {
            if size != self.table.max() {
                self.table.resize(size);
                integer::put(UPDATE.0, UPDATE.1, size, out);
            }
        }
    }
}

#[cfg(test)]
impl Encoder {
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

fn literal(
    (first, mask): (u8, u8),
    known: Option<&'static Known>,
    name: &[u8],
    value: &[u8],
    out: &mut Vec<u8>,
) {
    let index = known.filter(|known| known.index != 0).map(|known| usize::from(known.index));
    put_literal(first, mask, index, name, value, out);
}

fn put_literal(first: u8, mask: u8, index: Option<usize>, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    integer::put(first, mask, index.unwrap_or(0), out);
    if index.is_none() {
        string(name, out);
    }
    string(value, out);
}

/// In the Huffman code where that is shorter.
fn string(octets: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::length(octets);
    if coded < octets.len() {
        integer::put(0x80, 0x7f, coded, out);
        huffman::encode(octets, out);
    } else {
        integer::put(0, 0x7f, octets.len(), out);
        out.extend_from_slice(octets);
    }
}
