//! Chunk framing (RFC 9112 §7.1), octet by octet.

use super::{Limits, Refusal};

/// Where in the chunked body the stream stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunked {
    /// In the digits; `digits` seen so far.
    Size {
        size: u64,
        digits: u8,
        line: usize,
    },
    /// Behind a `;`, up to the CR.
    Extension {
        size: u64,
        line: usize,
        quoted: Quoted,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quoted {
    No,
    Yes,
    Escaped,
}

/// What the consumed octets were.
pub(super) enum Progress {
    Data {
        octets: usize,
    },
    Framing {
        octets: usize,
    },
    /// Framing, up to the end of the last chunk's line: the trailer section follows.
    LastChunk {
        octets: usize,
    },
}

/// The last chunk's line has ended.
struct LastChunk;

impl Chunked {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0, line: 0 };

    /// Consumes octets of `input`, which is not empty: those of one chunk's data or those of the
    /// framing before it. A refusal comes only for the first octet: those before it are consumed first.
    pub(super) fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Progress, Refusal> {
        if let Self::Data { left } = self {
            let octets = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
            *left -= octets as u64;
            if *left == 0 {
                *self = Self::DataCr;
            }
            return Ok(Progress::Data { octets });
        }
        let mut octets = 0;
        while octets < input.len() && !matches!(self, Self::Data { .. }) {
            match self.octet(input[octets], limits) {
                Ok(None) => octets += 1,
                Ok(Some(LastChunk)) => return Ok(Progress::LastChunk { octets: octets + 1 }),
                Err(refusal) if octets == 0 => return Err(refusal),
                Err(_) => break,
            }
        }
        Ok(Progress::Framing { octets })
    }

    fn octet(&mut self, octet: u8, limits: &Limits) -> Result<Option<LastChunk>, Refusal> {
        *self = match *self {
            Self::Size { size, digits, line } => match octet {
                // 15 digits: sizes that fit every parser's integers.
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' if digits < 15 => {
                    let digit = (octet as char).to_digit(16).map_or(0, u64::from);
                    Self::Size { size: size << 4 | digit, digits: digits + 1, line: line + 1 }
                }
                b'\r' if digits > 0 => Self::SizeLf { size },
                b';' if digits > 0 => Self::Extension { size, line: line + 1, quoted: Quoted::No },
                b'\n' => return Err(Refusal::BareLf),
                _ => return Err(Refusal::InvalidChunkSize),
            },
            Self::Extension { line, .. } if line >= limits.chunk_line_octets => {
                return Err(Refusal::ChunkLineTooLong);
            }
            Self::Extension { size, line, quoted } => {
                let quoted = match (quoted, octet) {
                    (Quoted::No, b'\r') => {
                        *self = Self::SizeLf { size };
                        return Ok(None);
                    }
                    (_, b'\n') => return Err(Refusal::BareLf),
                    (Quoted::No, b'"') => Quoted::Yes,
                    (Quoted::No, b'=' | b';') => Quoted::No,
                    (Quoted::No, other) if super::fields::is_token_octet(other) => Quoted::No,
                    (Quoted::Yes, b'"') => Quoted::No,
                    (Quoted::Yes, b'\\') => Quoted::Escaped,
                    (Quoted::Yes | Quoted::Escaped, b'\t' | 0x20..=0x7e) => Quoted::Yes,
                    _ => return Err(Refusal::InvalidChunkExtension),
                };
                Self::Extension { size, line: line + 1, quoted }
            }
            Self::SizeLf { size } if octet == b'\n' => {
                if size == 0 {
                    *self = Self::START;
                    return Ok(Some(LastChunk));
                }
                Self::Data { left: size }
            }
            Self::SizeLf { .. } => return Err(Refusal::BareCr),
            Self::DataCr if octet == b'\r' => Self::DataLf,
            Self::DataCr if octet == b'\n' => return Err(Refusal::BareLf),
            Self::DataCr => return Err(Refusal::ChunkOverrun),
            Self::DataLf if octet == b'\n' => Self::START,
            Self::DataLf => return Err(Refusal::BareCr),
            Self::Data { .. } => *self,
        };
        Ok(None)
    }
}
