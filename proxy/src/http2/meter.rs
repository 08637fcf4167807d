//! Counts the frames of a client that cost it nothing and bring no request closer: most floods are made
//! of these.

use std::time::Duration;

use l7_parsers::http2::frame::{FrameHeader, Kind, flag};

/// By [`place`]; the last one is of extensions.
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

/// Times are of [`super::ticks::now`].
pub(super) struct Meter {
    began: Duration,
    spent: [u64; NAMES.len()],
    requests: u64,
    /// Of DATA read, and of everything written.
    moved: u64,
}

impl Meter {
    pub(super) fn new(now: Duration) -> Self {
        Self { began: now, spent: [0; NAMES.len()], requests: 0, moved: 0 }
    }

    /// Notes a frame that the client sent.
    pub(super) fn frame(&mut self, frame: &FrameHeader, now: Duration) -> Result<(), Excess> {
        match frame.kind {
            Kind::Data if frame.length > 0 || frame.has(flag::END_STREAM) => {
                self.moved += u64::from(frame.length);
                return Ok(());
            }
            Kind::Headers => {
                self.requests += 1;
                return Ok(());
            }
            _ => {}
        }
        self.spent[place(frame.kind)] += 1;
        let age = now.saturating_sub(self.began);
        if self.spent.iter().sum::<u64>() <= self.allowance(age) {
            return Ok(());
        }
        let most = (0..NAMES.len()).max_by_key(|kind| self.spent[*kind]).unwrap_or_default();
        Err(Excess(NAMES[most]))
    }

    /// Notes what the client took.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.moved += octets as u64;
    }

    fn allowance(&self, age: Duration) -> u64 {
        AT_ONCE + PER_SECOND * age.as_secs() + PER_REQUEST * self.requests + self.moved / OCTETS_FOR_ONE
    }
}

fn place(kind: Kind) -> usize {
    match kind {
        Kind::Data => 0,
        Kind::Headers => 1,
        Kind::Priority => 2,
        Kind::RstStream => 3,
        Kind::Settings => 4,
        Kind::PushPromise => 5,
        Kind::Ping => 6,
        Kind::GoAway => 7,
        Kind::WindowUpdate => 8,
        Kind::Continuation => 9,
        Kind::Unknown(_) => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, length: u32) -> FrameHeader {
        FrameHeader { length, kind, flags: 0, stream: 1 }
    }

    /// How many of these frames pass, of many more.
    fn passes(meter: &mut Meter, kind: Kind, now: Duration) -> u64 {
        (0..100_000).take_while(|_| meter.frame(&frame(kind, 0), now).is_ok()).count() as u64
    }

    #[test]
    fn frames_for_nothing_run_out_and_are_named() {
        let now = Duration::from_secs(7);
        for (kind, name) in [
            (Kind::Data, "empty DATA"),
            (Kind::Priority, "PRIORITY"),
            (Kind::RstStream, "RST_STREAM"),
            (Kind::Settings, "SETTINGS"),
            (Kind::Ping, "PING"),
            (Kind::WindowUpdate, "WINDOW_UPDATE"),
            (Kind::Continuation, "CONTINUATION"),
            (Kind::Unknown(77), "unknown"),
        ] {
            let mut meter = Meter::new(now);
            assert_eq!(passes(&mut meter, kind, now), AT_ONCE, "{name}");
            assert_eq!(meter.frame(&frame(kind, 0), now), Err(Excess(name)));
        }
    }

    #[test]
    fn requests_octets_and_time_pay_for_them() {
        let now = Duration::from_secs(7);
        let mut meter = Meter::new(now);
        assert_eq!(passes(&mut meter, Kind::Ping, now), AT_ONCE);
        meter.frame(&frame(Kind::Headers, 20), now).unwrap();
        assert_eq!(passes(&mut meter, Kind::Ping, now), PER_REQUEST - 1, "the one that failed counts");
        meter.wrote(256 * 50);
        meter.frame(&frame(Kind::Data, 256 * 50), now).unwrap();
        assert_eq!(passes(&mut meter, Kind::Ping, now), 99);
        let later = now + Duration::from_secs(3);
        assert_eq!(passes(&mut meter, Kind::Ping, later), 3 * PER_SECOND - 1);
    }
}
