//! The server's side of a session.
//!
//! One connection takes the requests, and further ones where a request would have to wait for others to end
//! because the server takes no more streams at once: long calls would make it wait for ever.

use std::time::Duration;

use l7_parsers::http2::frame::{PREFACE, Setting};
use tokio::net::TcpStream;

use super::{half::Half, ticks::now};
use crate::upstream::{Place, UpstreamSocket};

/// Connections of one session that take requests.
const MOST: usize = 8;

/// How long a further one may be idle, and how long none is tried after one that came to nothing.
const SPARE_TIME: Duration = Duration::from_secs(30);
pub(super) const RETRY_TIME: Duration = Duration::from_secs(1);

/// A connection to the server. Its streams have the numbers of the client's.
pub(super) struct Upstream {
    pub(super) number: u32,
    pub(super) stream: TcpStream,
    pub(super) half: Half,
    /// Streams that are open there.
    pub(super) open: usize,
    /// When the last one ended, or this began.
    since: Duration,
    pub(super) last_stream: u32,
    /// It takes no more requests.
    pub(super) leaves: bool,
    pub(super) _place: Place,
}

impl Upstream {
    /// Beside these, of which it is a further one if any of them takes requests.
    pub(super) fn new(others: &[Self], socket: UpstreamSocket, head_octets: usize) -> Self {
        /// Until the server has said how many it takes (RFC 9113 §6.5.2 recommends no fewer).
        const STREAMS: usize = 100;
        let (stream, place) = socket.into_parts();
        let number = others.last().map_or(0, |last| last.number + 1);
        // A further one has to show first that somebody serves it: a server may know one connection at a time.
        let mut half = Half::new(if takes_any(others) { 0 } else { STREAMS });
        half.out.octets().extend_from_slice(PREFACE);
        half.greet((Setting::EnablePush, 0), head_octets);
        Self { number, stream, half, open: 0, since: now(), last_stream: 0, leaves: false, _place: place }
    }

    pub(super) fn is_idle_at_last(&self) -> bool {
        self.leaves && self.open == 0
    }

    fn has_room(&self) -> bool {
        !self.leaves && self.open < self.half.most_streams && !self.half.out.is_full()
    }

    /// A stream is open there no more.
    pub(super) fn closes_stream(&mut self) {
        self.open -= 1;
        self.since = now();
    }

    /// Nothing but the end of a stream makes room for another.
    fn is_full(&self) -> bool {
        self.half.is_settled && self.half.most_streams > 0 && self.open >= self.half.most_streams
    }
}

/// Where the next request goes: the first ones are filled up, so that the last ones may end.
pub(super) fn with_room(upstreams: &mut [Upstream]) -> Option<&mut Upstream> {
    upstreams.iter_mut().find(|upstream| upstream.has_room())
}

/// Whether any of them takes requests, now or later.
pub(super) fn takes_any(upstreams: &[Upstream]) -> bool {
    upstreams.iter().any(|upstream| !upstream.leaves)
}

/// Whether a request that waits may have a further connection.
pub(super) fn are_full(upstreams: &[Upstream]) -> bool {
    let taking = || upstreams.iter().filter(|upstream| !upstream.leaves);
    taking().count() < MOST && taking().all(Upstream::is_full)
}

/// Ends further connections that nobody has needed for a while.
pub(super) fn end_spare(upstreams: &mut Vec<Upstream>, idle_time: Duration) {
    let (now, time) = (now(), SPARE_TIME.min(idle_time));
    let mut is_first = true;
    upstreams.retain(|upstream| {
        let is_spare = !upstream.leaves && !std::mem::take(&mut is_first) && upstream.open == 0;
        !is_spare || now.saturating_sub(upstream.since) < time
    });
}
