//! Finds `grpc-status` among lines, without keeping them.

const NAME: &[u8] = b"grpc-status";
/// The longest line that can say it: the name, a colon, some space, and a number.
const LINE: usize = 32;

/// The beginning of the line that is coming in, and what has been found.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    line: [u8; LINE],
    /// Octets of the line; beyond [`LINE`] they are only counted.
    length: usize,
    status: Option<u32>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { line: [0; LINE], length: 0, status: None }
    }
}

impl Lines {
    pub(super) fn read(&mut self, octets: &[u8]) {
        for octet in octets {
            if *octet == b'\n' {
                self.end();
                continue;
            }
            if let Some(place) = self.line.get_mut(self.length) {
                *place = *octet;
            }
            self.length = self.length.saturating_add(1);
        }
    }

    /// The line is complete.
    pub(super) fn end(&mut self) {
        let line = self.line.get(..std::mem::take(&mut self.length)).unwrap_or_default();
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { return };
        if line[..colon].trim_ascii().eq_ignore_ascii_case(NAME) {
            let text = std::str::from_utf8(line[colon + 1..].trim_ascii()).unwrap_or_default();
            self.status = self.status.or(text.parse().ok());
        }
    }

    pub(super) fn status(&self) -> Option<u32> {
        self.status
    }
}
