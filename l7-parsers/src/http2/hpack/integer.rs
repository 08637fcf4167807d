//! Integers of RFC 7541 §5.1.

use super::HpackError;

/// Continuation octets of 32 bits, 7 each.
const CONTINUATIONS: usize = 5;

/// A block, and how far it has been read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) block: &'a [u8],
    pub(super) at: usize,
}

impl Reader<'_> {
    #[inline]
    pub(super) fn octet(&mut self) -> Option<u8> {
        let octet = *self.block.get(self.at)?;
        self.at += 1;
        Some(octet)
    }

    /// The integer whose first octet, already taken, has it in the bits of `mask`.
    #[inline]
    pub(super) fn integer(&mut self, first: u8, mask: u8) -> Result<u32, HpackError> {
        let prefix = first & mask;
        if prefix < mask { Ok(u32::from(prefix)) } else { self.continued(mask) }
    }

    /// Zeros that add nothing are taken within the five octets: the RFC does not forbid them.
    fn continued(&mut self, mask: u8) -> Result<u32, HpackError> {
        let mut value = u64::from(mask);
        for step in 0..CONTINUATIONS {
            let octet = self.octet().ok_or(HpackError::Truncated)?;
            value += u64::from(octet & 0x7f) << (7 * step);
            if octet & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| HpackError::Integer);
            }
        }
        Err(HpackError::Integer)
    }
}

/// Writes `value` behind the bits of `first` that are not in `mask`.
#[inline]
pub(super) fn put(first: u8, mask: u8, value: usize, out: &mut Vec<u8>) {
    if value < usize::from(mask) {
        out.push(first | value as u8);
        return;
    }
    out.push(first | mask);
    let mut rest = value - usize::from(mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
