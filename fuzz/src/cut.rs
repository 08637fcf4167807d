//! Cuts a stream into segments, the same way each time for the same stream: inputs stay what they
//! are on the wire, without octets that only steer the test.

/// A small generator of numbers (xorshift64*), begun with the bytes that it shall vary with.
pub struct Cut(u64);

impl Cut {
    #[must_use]
    pub fn of(data: &[u8], round: u64) -> Self {
        // FNV-1a.
        let hash = data.iter().fold(0xcbf2_9ce4_8422_2325 ^ round, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash | 1)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        mixed as usize % bound
    }

    /// How many octets of `left` the next segment has: often few.
    pub fn segment(&mut self, left: usize) -> usize {
        let most = if self.below(3) == 0 { left } else { left.min(4) };
        1 + self.below(most.max(1))
    }
}
