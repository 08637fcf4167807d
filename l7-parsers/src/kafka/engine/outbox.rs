//! Octets that wait to be written.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

/// Pieces in order; a piece is a slice of what was read, or was made here.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    octets: usize,
}

impl Outbox {
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// A short piece is copied: it would keep all that was read with it.
    pub(super) fn push(&mut self, piece: Bytes) {
        const SHORT: usize = 4 << 10;
        if piece.is_empty() {
            return;
        }
        self.octets += piece.len();
        self.pieces.push_back(match piece.len() {
            ..SHORT => Bytes::copy_from_slice(&piece),
            _ => piece,
        });
    }

    pub(super) fn extend(&mut self, pieces: Vec<Bytes>) {
        pieces.into_iter().for_each(|piece| self.push(piece));
    }
}

/// So that several pieces go out with one vectored write.
impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.octets
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], AsRef::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.pieces);
        pairs.map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    /// # Panics
    /// As the trait says, beyond what remains.
    fn advance(&mut self, mut octets: usize) {
        assert!(octets <= self.octets, "more was taken than there is");
        self.octets -= octets;
        while let Some(piece) = self.pieces.front_mut() {
            if octets < piece.len() {
                piece.advance(octets);
                return;
            }
            octets -= piece.len();
            self.pieces.pop_front();
        }
    }
}
