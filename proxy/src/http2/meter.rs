//! Counts the frames of a client's HTTP/2 stream, ahead of the library that reads them: most floods
//! are made of frames that cost the sender nothing and bring no request closer. Sees frame headers
//! only (RFC 9113 §4.1); what is wrong with a frame is for the library to say.

use std::time::Duration;

use tokio::time::Instant;

/// Octets of the connection preface, which has been checked already.
const PREFACE: usize = 24;
const HEADER: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// By frame type; anything beyond is of an extension.
const NAMES: [&str; 11] = [
    "empty DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
    "unknown",
];

/// What a client may spend on frames that are neither requests nor their bodies. Generous to clients
/// that measure round trips by PING or give windows back in small pieces: those come with octets.
const AT_ONCE: u64 = 1000;
const PER_SECOND: u64 = 10;
const PER_REQUEST: u64 = 16;
const OCTETS_FOR_ONE: u64 = 256;

/// A client sends more frames without a purpose than any honest one has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2: too many {0} frames")]
pub(super) struct Excess(&'static str);

pub(super) struct Meter {
    began: Instant,
    /// Octets to pass over before the next frame header.
    skip: usize,
    header: [u8; HEADER],
    have: usize,
    spent: [u64; NAMES.len()],
    requests: u64,
    /// Of DATA read, and of everything written.
    moved: u64,
    in_head: HeadState,
}

/// Whether a header block is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadState {
    No,
    Since(Instant),
    /// Its last frame has begun: it ends with this frame's payload.
    Last(Instant),
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            skip: PREFACE,
            header: [0; HEADER],
            have: 0,
            spent: [0; NAMES.len()],
            requests: 0,
            moved: 0,
            in_head: HeadState::No,
        }
    }

    /// Notes what the client sent.
    pub(super) fn read(&mut self, mut octets: &[u8], now: Instant) -> Result<(), Excess> {
        let mut result = Ok(());
        loop {
            let passed = self.skip.min(octets.len());
            self.skip -= passed;
            octets = &octets[passed..];
            if self.skip == 0
                && let HeadState::Last(_) = self.in_head
            {
                self.in_head = HeadState::No;
            }
            if octets.is_empty() {
                return result;
            }
            let part = (HEADER - self.have).min(octets.len());
            self.header[self.have..self.have + part].copy_from_slice(&octets[..part]);
            self.have += part;
            octets = &octets[part..];
            if self.have == HEADER {
                self.have = 0;
                result = result.and(self.frame(now));
            }
        }
    }

    /// Notes what the client took.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.moved += octets as u64;
    }

    /// When the header block that is on its way began.
    pub(super) fn head_began(&self) -> Option<Instant> {
        match self.in_head {
            HeadState::No => None,
            HeadState::Since(began) | HeadState::Last(began) => Some(began),
        }
    }

    fn frame(&mut self, now: Instant) -> Result<(), Excess> {
        let [a, b, c, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => {
                self.moved += self.skip as u64;
                return Ok(());
            }
            HEADERS => self.requests += 1,
            _ => {}
        }
        if matches!(kind, HEADERS | CONTINUATION) {
            let began = self.head_began().unwrap_or(now);
            self.in_head =
                if flags & END_HEADERS == 0 { HeadState::Since(began) } else { HeadState::Last(began) };
        }
        if kind == HEADERS {
            return Ok(());
        }
        self.spent[usize::from(kind).min(NAMES.len() - 1)] += 1;
        let age = now.saturating_duration_since(self.began);
        if self.spent.iter().sum::<u64>() <= self.allowance(age) {
            return Ok(());
        }
        let most = (0..NAMES.len()).max_by_key(|kind| self.spent[*kind]).unwrap_or_default();
        Err(Excess(NAMES[most]))
    }

    fn allowance(&self, age: Duration) -> u64 {
        AT_ONCE + PER_SECOND * age.as_secs() + PER_REQUEST * self.requests + self.moved / OCTETS_FOR_ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEADER + payload, 0xff);
        frame
    }

    fn meter(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        meter.read(&[b'P'; PREFACE], now).unwrap();
        meter
    }

    /// How many of these frames pass, of many more.
    fn passes(meter: &mut Meter, frame: &[u8], now: Instant) -> usize {
        (0..100_000).take_while(|_| meter.read(frame, now).is_ok()).count()
    }

    #[test]
    fn frames_for_nothing_run_out_and_are_named() {
        let now = Instant::now();
        for (kind, flags, payload, name) in [
            (0, 0, 0, "empty DATA"),
            (2, 0, 5, "PRIORITY"),
            (3, 0, 4, "RST_STREAM"),
            (4, 0, 0, "SETTINGS"),
            (6, 0, 8, "PING"),
            (8, 0, 4, "WINDOW_UPDATE"),
            (9, 0, 0, "CONTINUATION"),
            (77, 0, 1, "unknown"),
        ] {
            let mut meter = meter(now);
            let frame = frame(kind, flags, payload);
            assert_eq!(passes(&mut meter, &frame, now) as u64, AT_ONCE, "{name}");
            assert_eq!(meter.read(&frame, now), Err(Excess(name)));
        }
    }

    #[test]
    fn requests_octets_and_time_pay_for_them() {
        let now = Instant::now();
        let mut meter = meter(now);
        let ping = frame(6, 0, 8);
        assert_eq!(passes(&mut meter, &ping, now) as u64, AT_ONCE);
        meter.read(&frame(1, 5, 20), now).unwrap();
        assert_eq!(passes(&mut meter, &ping, now) as u64, PER_REQUEST - 1, "the one that failed counts");
        meter.wrote(256 * 50);
        meter.read(&frame(0, 0, 256 * 50), now).unwrap();
        assert_eq!(passes(&mut meter, &ping, now), 99);
        assert_eq!(passes(&mut meter, &ping, now + Duration::from_secs(3)) as u64, 3 * PER_SECOND - 1);
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let now = Instant::now();
        let octets: Vec<u8> =
            [frame(4, 0, 36), frame(1, 0, 50), frame(9, 4, 3), frame(0, 0, 7), frame(6, 0, 8)].concat();
        for size in 1..octets.len() {
            let mut meter = meter(now);
            for piece in octets.chunks(size) {
                meter.read(piece, now).unwrap();
            }
            assert_eq!((meter.requests, meter.moved, meter.skip, meter.have), (1, 7, 0, 0));
            assert_eq!((meter.spent[4], meter.spent[6], meter.spent[9]), (1, 1, 1));
            assert_eq!(meter.head_began(), None);
        }
    }

    #[test]
    fn a_header_block_lasts_until_its_last_octet() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut meter = meter(now);
        meter.read(&frame(1, 0, 10), now).unwrap();
        assert_eq!(meter.head_began(), Some(now));
        let last = frame(9, END_HEADERS, 10);
        meter.read(&last[..12], later).unwrap();
        assert_eq!(meter.head_began(), Some(now));
        meter.read(&last[12..], later).unwrap();
        assert_eq!(meter.head_began(), None);
    }
}
