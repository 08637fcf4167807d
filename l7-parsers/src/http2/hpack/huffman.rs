//! Strings in the Huffman code of RFC 7541 appendix B.
//!
//! The code is canonical: codes of a length follow each other in the order of their symbols, and longer
//! codes follow shorter ones. So the lengths alone say it all, and the tables are built from them.

use super::HpackError;

const SYMBOLS: usize = 257;
const END: usize = 256;
const LONGEST: usize = 30;

/// Bits of each symbol's code; the last is the end of a string (EOS), which no string may contain.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6,
    6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5,
    6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24,
    23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26,
    26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21,
    26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26,
    26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

struct Tables {
    /// Each symbol's code, right-aligned.
    codes: [u32; SYMBOLS],
    /// By the next eight bits: symbol and length of a code that is no longer than that; else length 0.
    short: [(u8, u8); 256],
    /// All symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// By length: the end of the codes of that length and shorter, as 32 bits aligned to the left.
    ends: [u64; LONGEST + 1],
    /// By length: where its first code's symbol is in `symbols`, less that code.
    firsts: [i32; LONGEST + 1],
}

static TABLES: Tables = build();

const fn build() -> Tables {
    let mut tables = Tables {
        codes: [0; SYMBOLS],
        short: [(0, 0); 256],
        symbols: [0; SYMBOLS],
        ends: [0; LONGEST + 1],
        firsts: [0; LONGEST + 1],
    };
    let (mut code, mut count) = (0u32, 0);
    let mut length = 1;
    while length <= LONGEST {
        code <<= 1;
        tables.firsts[length] = count as i32 - code as i32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                tables.codes[symbol] = code;
                tables.symbols[count] = symbol as u16;
                if length <= 8 {
                    let mut at = (code as usize) << (8 - length);
                    while at < (code as usize + 1) << (8 - length) {
                        tables.short[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                code += 1;
                count += 1;
            }
            symbol += 1;
        }
        tables.ends[length] = (code as u64) << (32 - length);
        length += 1;
    }
    tables
}

/// Octets that `string` takes in the code.
#[inline]
pub(super) fn length(string: &[u8]) -> usize {
    let bits: usize = string.iter().map(|&octet| usize::from(LENGTHS[usize::from(octet)])).sum();
    bits.div_ceil(8)
}

/// Appends `string` in the code, and ones up to a whole octet.
pub(super) fn encode(string: &[u8], out: &mut Vec<u8>) {
    // The lowest `have` bits of `bits` are still to be written: fewer than 32 between two symbols.
    let (mut bits, mut have) = (0u64, 0u32);
    for &octet in string {
        let length = u32::from(LENGTHS[usize::from(octet)]);
        bits = bits << length | u64::from(TABLES.codes[usize::from(octet)]);
        have += length;
        if have >= 32 {
            have -= 32;
            out.extend_from_slice(&((bits >> have) as u32).to_be_bytes());
        }
    }
    while have >= 8 {
        have -= 8;
        out.push((bits >> have) as u8);
    }
    if have > 0 {
        out.push((bits << (8 - have)) as u8 | (0xff >> have));
    }
}

/// Appends what `code` stands for: at most 8/5 of its length.
///
/// # Errors
/// [`HpackError::Huffman`] for the EOS symbol, and for padding that is longer than 7 bits or not all ones.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    out.reserve(code.len() * 8 / 5);
    let mut rest = code;
    // The highest `have` bits of `bits` are the next ones; the others are zero.
    let (mut bits, mut have) = (0u64, 0u32);
    loop {
        if have < 32 {
            if let Some((&next, left)) = rest.split_first_chunk::<4>() {
                bits |= u64::from(u32::from_be_bytes(next)) << (32 - have);
                have += 32;
                rest = left;
            } else if let Some((&next, left)) = rest.split_first() {
                bits |= u64::from(next) << (56 - have);
                have += 8;
                rest = left;
                continue;
            }
        }
        let (symbol, length) = TABLES.short[(bits >> 56) as usize];
        let length = u32::from(length);
        if length != 0 && length <= have {
            out.push(symbol);
            bits <<= length;
            have -= length;
            continue;
        }
        if have < 8 {
            // Only at the end of the string.
            let padding = !(u64::MAX >> have);
            return if bits == padding { Ok(()) } else { Err(HpackError::Huffman) };
        }
        let (symbol, length) = long(bits)?;
        if length > have {
            return Err(HpackError::Huffman);
        }
        out.push(symbol);
        bits <<= length;
        have -= length;
    }
}

/// Symbol and length of a code of more than eight bits.
#[cold]
fn long(bits: u64) -> Result<(u8, u32), HpackError> {
    let next = bits >> 32;
    for length in 10..=LONGEST {
        if next < TABLES.ends[length] {
            let code = (next >> (32 - length)) as i32;
            let symbol = usize::from(TABLES.symbols[(code + TABLES.firsts[length]) as usize]);
            return if symbol == END { Err(HpackError::Huffman) } else { Ok((symbol as u8, length as u32)) };
        }
    }
    Err(HpackError::Huffman)
}
