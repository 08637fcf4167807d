//! Reads field blocks, RFC 7541 §3 and §6.

use super::integer::Reader;
use super::table::Table;
use super::{DEFAULT_TABLE, Decoded, Field, HpackError, OVERHEAD, fixed, huffman};
use std::ops::Range;

/// Memory for decoded strings that is kept from one block to the next.
const KEPT: usize = 1024;

/// No table is larger, so that positions in it stay within 32 bits.
const LARGEST: usize = 1 << 24;

/// The receiving end of one direction.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The setting, which the peer's size updates stay within.
    most: usize,
    /// Strings of the field at hand that do not stand in the block as they are.
    strings: Vec<u8>,
}

/// Where a string of the field at hand is.
enum Text {
    Block(Range<usize>),
    Strings(Range<usize>),
    Fixed(&'static [u8]),
}

impl Decoder {
    /// `max_table` is what this end's SETTINGS_HEADER_TABLE_SIZE says, in octets. More than the 4096 of
    /// the start is used once the peer says so; less must be known to the peer before its first block.
    #[must_use]
    pub fn new(max_table: usize) -> Self {
        Self {
            table: Table::new(max_table.min(DEFAULT_TABLE)),
            most: max_table.min(LARGEST),
            strings: Vec::new(),
        }
    }

    /// Reads one block, which is there as a whole, and shows each field in its order; names and values
    /// are borrowed for the call.
    ///
    /// `list_limit` bounds names, values and 32 octets a field together (RFC 9113 §6.5.2): fields beyond
    /// are read for the table's sake, but not shown. A string is never larger than 8/5 of the block.
    ///
    /// # Errors
    /// The fields that were shown until then are not to be used, and the connection must end.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_limit: usize,
        field: impl FnMut(Field<'_>),
    ) -> Result<Decoded, HpackError> {
        let mut shown = Shown { left: list_limit, over: false, field };
        let mut reader = Reader { block, at: 0 };
        let mut fields = false;
        while let Some(first) = reader.octet() {
            if first & 0x80 != 0 {
                let index = reader.integer(first, 0x7f)?;
                let (name, value) = self.entry(index)?;
                shown.show(name, value, false);
            } else if first & 0x40 != 0 {
                let (name, value) = self.literal(&mut reader, first, 0x3f)?;
                let (name, value) = (name.of(block, &self.strings), value.of(block, &self.strings));
                shown.show(name, value, false);
                self.table.insert(name, value, 0);
            } else if first & 0x20 != 0 {
                let size = reader.integer(first, 0x1f)?;
                self.update(size, fields)?;
                continue;
            } else {
                let (name, value) = self.literal(&mut reader, first, 0x0f)?;
                shown.show(name.of(block, &self.strings), value.of(block, &self.strings), first & 0x10 != 0);
            }
            fields = true;
        }
        if self.strings.capacity() > KEPT {
            self.strings = Vec::new();
        }
        Ok(if shown.over { Decoded::Overlong } else { Decoded::Whole })
    }

    #[inline]
    fn entry(&self, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
        let unknown = HpackError::Index(index);
        let at = (index as usize).checked_sub(1).ok_or(unknown)?;
        match fixed::FIELDS.get(at) {
            Some(&(name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.table.at(at - fixed::FIELDS.len()).ok_or(unknown),
        }
    }

    /// Name and value of a literal whose first octet, already taken, has the name's index in `mask`.
    fn literal(&mut self, reader: &mut Reader<'_>, first: u8, mask: u8) -> Result<(Text, Text), HpackError> {
        self.strings.clear();
        let index = reader.integer(first, mask)?;
        let name = match (index as usize).checked_sub(1) {
            None => self.string(reader)?,
            Some(at) => match fixed::FIELDS.get(at) {
                Some((name, _)) => Text::Fixed(name.as_bytes()),
                None => {
                    // A copy, for adding the new entry may take this one out of the table.
                    let known = self.table.at(at - fixed::FIELDS.len());
                    let (name, _) = known.ok_or(HpackError::Index(index))?;
                    self.strings.extend_from_slice(name);
                    Text::Strings(0..name.len())
                }
            },
        };
        Ok((name, self.string(reader)?))
    }

    fn string(&mut self, reader: &mut Reader<'_>) -> Result<Text, HpackError> {
        let first = reader.octet().ok_or(HpackError::Truncated)?;
        let length = reader.integer(first, 0x7f)? as usize;
        let from = reader.at;
        let octets = reader.block[from..].get(..length).ok_or(HpackError::Truncated)?;
        reader.at += length;
        if first & 0x80 == 0 {
            return Ok(Text::Block(from..from + length));
        }
        let from = self.strings.len();
        huffman::decode(octets, &mut self.strings)?;
        Ok(Text::Strings(from..self.strings.len()))
    }

    /// Updates stand at the beginning of a block (RFC 7541 §4.2).
    fn update(&mut self, size: u32, fields: bool) -> Result<(), HpackError> {
        if fields {
            return Err(HpackError::LateUpdate);
        }
        if size as usize > self.most {
            return Err(HpackError::Update(size));
        }
        self.table.resize(size as usize);
        Ok(())
    }
}

#[cfg(test)]
impl Decoder {
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn memory(&self) -> usize {
        self.table.memory() + self.strings.capacity()
    }
}

impl Text {
    #[inline]
    fn of<'a>(&self, block: &'a [u8], strings: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Block(at) => &block[at.clone()],
            Self::Strings(at) => &strings[at.clone()],
            Self::Fixed(name) => name,
        }
    }
}

/// What the caller has seen of a block, and may still see.
struct Shown<F> {
    left: usize,
    over: bool,
    field: F,
}

impl<F: FnMut(Field<'_>)> Shown<F> {
    #[inline]
    fn show(&mut self, name: &[u8], value: &[u8], never_indexed: bool) {
        match self.left.checked_sub(name.len() + value.len() + OVERHEAD) {
            Some(left) if !self.over => {
                self.left = left;
                (self.field)(Field { name, value, never_indexed });
            }
            _ => self.over = true,
        }
    }
}
