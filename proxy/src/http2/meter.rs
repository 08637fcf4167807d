//! Counts the frames of a peer that cost it nothing and bring no request and no answer closer: most floods
//! are made of these.

use std::time::Duration;

use l7_parsers::http2::frame::{FrameHeader, Kind};

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

/// What a peer may spend on frames that are no part of a body. Generous to those that measure round trips
/// by PING or give windows back in small pieces: that comes with octets, or with pieces of a body that they
/// were sent (gRPC peers answer each of these with a WINDOW_UPDATE and a PING, however small it is).
const AT_ONCE: u64 = 1000;
const PER_SECOND: u64 = 10;
const PER_REQUEST: u64 = 16;
const PER_PIECE: u64 = 4;
const OCTETS_FOR_ONE: u64 = 256;

/// A peer sends more frames without a purpose than any honest one has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HTTP/2: too many {0} frames")]
pub(super) struct Excess(pub(super) &'static str);

/// Times are of [`super::ticks::now`].
pub(super) struct Meter {
    began: Duration,
    spent: [u64; NAMES.len()],
    requests: u64,
    pieces: u64,
    /// Of DATA read, and of everything written.
    moved: u64,
}

impl Meter {
    pub(super) fn new(now: Duration) -> Self {
        Self { began: now, spent: [0; NAMES.len()], requests: 0, pieces: 0, moved: 0 }
    }

    /// Notes a frame that the peer sent.
    pub(super) fn frame(
        &mut self,
        frame: &FrameHeader,
        now: impl FnOnce() -> Duration,
    ) -> Result<(), Excess> {
        if frame.kind == Kind::Data && frame.length > 0 {
            self.moved += u64::from(frame.length);
            return Ok(());
        }
        self.spent[place(frame.kind)] += 1;
        let spent = self.spent.iter().sum::<u64>();
        if spent <= self.earned() || spent <= self.earned() + self.granted(now()) {
            return Ok(());
        }
        let most = (0..NAMES.len()).max_by_key(|kind| self.spent[*kind]).unwrap_or_default();
        Err(Excess(NAMES[most]))
    }

    /// Notes a request: a client's, or one for a server.
    pub(super) fn request(&mut self) {
        self.requests += 1;
    }

    /// Notes that all of a piece of a body went to the peer. What its windows let pass in parts does not count:
    /// it could widen them by an octet at a time.
    pub(super) fn piece(&mut self) {
        self.pieces += 1;
    }

    /// Notes what the peer took.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.moved += octets as u64;
    }

    fn earned(&self) -> u64 {
        AT_ONCE + PER_REQUEST * self.requests + PER_PIECE * self.pieces + self.moved / OCTETS_FOR_ONE
    }

    fn granted(&self, now: Duration) -> u64 {
        PER_SECOND * now.saturating_sub(self.began).as_secs()
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
        (0..100_000).take_while(|_| meter.frame(&frame(kind, 0), || now).is_ok()).count() as u64
    }

    #[test]
    fn frames_for_nothing_run_out_and_are_named() {
        let now = Duration::from_secs(7);
        for (kind, name) in [
            (Kind::Data, "empty DATA"),
            (Kind::Headers, "HEADERS"),
            (Kind::Priority, "PRIORITY"),
            (Kind::RstStream, "RST_STREAM"),
            (Kind::Settings, "SETTINGS"),
            (Kind::Ping, "PING"),
            (Kind::GoAway, "GOAWAY"),
            (Kind::WindowUpdate, "WINDOW_UPDATE"),
            (Kind::Continuation, "CONTINUATION"),
            (Kind::Unknown(77), "unknown"),
        ] {
            let mut meter = Meter::new(now);
            assert_eq!(passes(&mut meter, kind, now), AT_ONCE, "{name}");
            assert_eq!(meter.frame(&frame(kind, 0), || now), Err(Excess(name)));
        }
    }

    #[test]
    fn requests_bodies_and_time_pay_for_them() {
        let now = Duration::from_secs(7);
        let mut meter = Meter::new(now);
        assert_eq!(passes(&mut meter, Kind::Ping, now), AT_ONCE);
        meter.request();
        assert_eq!(passes(&mut meter, Kind::Ping, now), PER_REQUEST - 1, "the one that failed counts");
        meter.wrote(256 * 50);
        meter.frame(&frame(Kind::Data, 256 * 50), || now).unwrap();
        assert_eq!(passes(&mut meter, Kind::Ping, now), 99);
        (0..3).for_each(|_| meter.piece());
        assert_eq!(passes(&mut meter, Kind::Ping, now), 3 * PER_PIECE - 1);
        let later = now + Duration::from_secs(3);
        assert_eq!(passes(&mut meter, Kind::Ping, later), 3 * PER_SECOND - 1);
    }
}
