//! Base64 as it comes: groups of four, and padding wherever a sender ended one of its pieces.

/// Octets of a group that is not complete yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoder {
    /// Six bits a character.
    bits: u32,
    have: u8,
    padding: u8,
}

impl Decoder {
    /// Gives each decoded group to `decoded`. What is no character of the alphabet is passed over.
    pub(super) fn read(&mut self, text: &[u8], mut decoded: impl FnMut(&[u8])) {
        for character in text {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b'=' => {
                    self.padding += 1;
                    0
                }
                _ => continue,
            };
            self.bits = self.bits << 6 | u32::from(value);
            self.have += 1;
            if self.have == 4 {
                let [_, octets @ ..] = self.bits.to_be_bytes();
                decoded(&octets[..3_usize.saturating_sub(self.padding.into())]);
                *self = Self::default();
            }
        }
    }

    pub(super) fn at_boundary(&self) -> bool {
        self.have == 0
    }
}
