//! Reading the compiled form: one lookup, and the cut of pieces into entries of a longest-prefix map.

use crate::{
    compiled::{DirectionPolicy, Piece},
    model::Protocol,
};

impl DirectionPolicy {
    /// The piece that decides; `None` is denied by default.
    #[must_use]
    pub fn lookup(&self, peer: u32, protocol: Protocol, port: u16) -> Option<&Piece> {
        let class = self.class_of.get(&peer).copied().unwrap_or(0);
        let pieces = &self.classes.get(&class)?.pieces;
        // Sorted by protocol (none first) and port: the last piece that starts here or before.
        let next = pieces.partition_point(|piece| (piece.protocol, piece.first) <= (Some(protocol), port));
        let own =
            pieces[..next].last().filter(|piece| piece.protocol == Some(protocol) && port <= piece.last);
        own.or_else(|| pieces.first().filter(|piece| piece.protocol.is_none()))
    }
}

/// One entry of a longest-prefix map. Protocol `None` goes with 0 bits: it is shorter than any entry
/// of a protocol, so it decides only where the protocol has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LpmEntry {
    pub protocol: Option<Protocol>,
    /// Host byte order; the bits beyond `bits` are 0.
    pub port: u16,
    /// Leading bits of the port that count, 0..=16.
    pub bits: u8,
}

/// Cuts a piece into the fewest prefixes.
#[must_use]
pub fn lpm_entries(piece: &Piece) -> Vec<LpmEntry> {
    let mut entries = Vec::new();
    let (mut first, last) = (u32::from(piece.first), u32::from(piece.last));
    while first <= last {
        // The largest aligned block that starts here and does not reach beyond the end.
        let aligned = if first == 0 { 16 } else { first.trailing_zeros() };
        let fits = (last - first + 1).ilog2();
        let size = aligned.min(fits);
        entries.push(LpmEntry { protocol: piece.protocol, port: first as u16, bits: (16 - size) as u8 });
        first += 1 << size;
    }
    entries
}
