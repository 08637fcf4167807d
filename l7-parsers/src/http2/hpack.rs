//! Compression of fields, RFC 7541.
//!
//! A [`Decoder`] and an [`Encoder`] are the two ends of one direction's table. Fresh ones hold no memory;
//! used ones hold what their table needs, and nothing is allocated once that has its size.

mod decoder;
mod encoder;
mod fixed;
mod huffman;
mod integer;
mod names;
mod slots;
mod table;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// What a peer's table has before any SETTINGS (RFC 9113 §6.5.2), in octets.
pub const DEFAULT_TABLE: usize = 4096;

/// What an entry counts beside its name and value (RFC 7541 §4.1), as a field does in
/// SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
pub const OVERHEAD: usize = 32;

/// One field of a block. Octets are as they came: whether they may stand in a field is for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// The sender wants no table on the way to hold it (RFC 7541 §7.1.3): pass it on so.
    pub never_indexed: bool,
}

/// How a block ended that was read without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decoded {
    /// The caller has seen each field.
    Whole,
    /// The fields together are over the limit: those behind it were not shown.
    Overlong,
}

/// A block that cannot be read. The table is then no longer the peer's: the connection must end, with
/// COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    #[error("the field block ends within a field")]
    Truncated,
    #[error("an integer of the field block is over 32 bits")]
    Integer,
    #[error("no table has the index {0}")]
    Index(u32),
    #[error("a string's Huffman code is broken")]
    Huffman,
    #[error("a table size update behind a field")]
    LateUpdate,
    #[error("a table size update to {0} octets, over the setting")]
    Update(u32),
}
