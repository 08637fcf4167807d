//! Sections of header and trailer lines.

use super::{Limits, Refusal};

/// Where the section that starts at `input[0]` ends, or that more octets are needed.
///
/// `scanned` is how far earlier calls came with the same input's beginning. A section ends after
/// its first empty line.
#[derive(Debug)]
pub(super) struct SectionScan {
    scanned: usize,
    line_start: usize,
    lines: usize,
}

impl SectionScan {
    pub(super) fn new() -> Self {
        Self { scanned: 0, line_start: 0, lines: 0 }
    }

    /// Looks at each octet once, so that what is refused does not depend on how the stream was cut.
    pub(super) fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Refusal> {
        while let Some(&octet) = input.get(self.scanned) {
            let at = self.scanned;
            if octet >= b' ' && (at == self.line_start || input[at - 1] != b'\r') {
                let plain = plain(&input[at..input.len().min(limits.head_octets)]);
                if plain > 0 {
                    self.scanned += plain;
                    continue;
                }
            }
            if at >= limits.head_octets {
                return Err(Refusal::HeadTooLarge);
            }
            let after_cr = at > self.line_start && input[at - 1] == b'\r';
            match (octet, after_cr) {
                (b'\n', true) => {
                    let empty = at == self.line_start + 1;
                    self.scanned += 1;
                    self.line_start = self.scanned;
                    if empty {
                        return Ok(Some(self.scanned));
                    }
                    self.lines += 1;
                    // One more line than fields: the request line.
                    if self.lines > limits.fields + 1 {
                        return Err(Refusal::TooManyFields);
                    }
                    continue;
                }
                (b'\n', false) => return Err(Refusal::BareLf),
                (_, true) => return Err(Refusal::BareCr),
                (b'\r' | b'\t' | 0x20..=0x7e | 0x80.., false) => {}
                _ => return Err(Refusal::ControlCharacter),
            }
            self.scanned += 1;
        }
        Ok(None)
    }
}

/// Octets at the front, or fewer, that neither end a line nor are refused anywhere in one. In pieces that the
/// processor compares at once: nearly all octets of a head are such.
fn plain(input: &[u8]) -> usize {
    const PIECE: usize = 16;
    let is_plain =
        |piece: &&[u8]| piece.iter().fold(true, |all, octet| all & (*octet >= b' ') & (*octet != 0x7f));
    input.chunks_exact(PIECE).take_while(is_plain).count() * PIECE
}

/// A field of a head or of a trailer section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it was written; a token.
    pub name: &'a str,
    /// Without the white space around it.
    pub value: &'a [u8],
}

/// The fields of a trailer section that [`super::Body`] has accepted.
pub fn trailers(section: &[u8]) -> impl Iterator<Item = Field<'_>> {
    lines(section).filter_map(field)
}

/// The fields of a head that a scan has accepted.
pub(super) fn of_head(head: &[u8]) -> impl Iterator<Item = Field<'_>> {
    lines(head).skip(1).filter_map(field)
}

/// Always `Some` for a line that was accepted.
fn field(line: &[u8]) -> Option<Field<'_>> {
    let (name, value) = split(line).ok()?;
    Some(Field { name: std::str::from_utf8(name).ok()?, value })
}

/// The lines of a complete section, without their CRLF and without the empty one at the end.
pub(super) fn lines(section: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = section.strip_suffix(b"\r\n\r\n").or(section.strip_suffix(b"\r\n")).unwrap_or(section);
    // The scan has shown that every LF follows a CR.
    lines.split(|octet| *octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Name and value (surrounding white space taken off) of a line.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let token = line.iter().take_while(|octet| is_token_octet(**octet)).count();
    if let (1.., Some(b':')) = (token, line.get(token)) {
        return Ok((&line[..token], trim(&line[token + 1..])));
    }
    Err(what_is_wrong(line))
}

/// Why a line is no field.
fn what_is_wrong(line: &[u8]) -> Refusal {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Refusal::ObsFold;
    }
    match line.iter().position(|octet| *octet == b':') {
        None => Refusal::NoColon,
        Some(colon) if matches!(line[..colon].last(), Some(b' ' | b'\t')) => Refusal::SpaceBeforeColon,
        Some(_) => Refusal::InvalidFieldName,
    }
}

pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

pub(super) fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().copied().all(is_token_octet)
}

pub(super) fn is_token_octet(octet: u8) -> bool {
    /// By octet.
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut octet = 0_u8;
        while octet < 0x80 {
            table[octet as usize] = octet.is_ascii_alphanumeric()
                || matches!(
                    octet,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            octet += 1;
        }
        table
    };
    TOKEN[usize::from(octet)]
}

/// Checks a trailer section (empty line included). Fields that frame, route or authenticate a
/// message have no business after its body (RFC 9110 §6.5.1).
pub(super) fn check_trailers(section: &[u8]) -> Result<(), Refusal> {
    if section == b"\r\n" {
        return Ok(());
    }
    lines(section).try_for_each(|line| {
        let (name, _) = split(line)?;
        let forbidden: [&[u8]; 12] = [
            b"content-length",
            b"transfer-encoding",
            b"host",
            b"connection",
            b"upgrade",
            b"te",
            b"trailer",
            b"authorization",
            b"content-encoding",
            b"content-type",
            b"content-range",
            b"expect",
        ];
        if forbidden.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(Refusal::ForbiddenTrailer);
        }
        Ok(())
    })
}
