//! The server's side of a session.

use l7_parsers::http2::frame::{PREFACE, Setting};
use tokio::net::TcpStream;

use super::half::Half;
use crate::upstream::{Place, UpstreamSocket};

/// A connection to the server. Its streams have the numbers of the client's.
pub(super) struct Upstream {
    pub(super) number: u32,
    pub(super) stream: TcpStream,
    pub(super) half: Half,
    /// Streams that are open there.
    pub(super) open: usize,
    pub(super) last_stream: u32,
    /// It takes no more requests.
    pub(super) leaves: bool,
    pub(super) _place: Place,
}

impl Upstream {
    pub(super) fn new(number: u32, socket: UpstreamSocket, head_octets: usize) -> Self {
        /// Until the server has said how many it takes (RFC 9113 §6.5.2 recommends no fewer).
        const STREAMS: usize = 100;
        let (stream, place) = socket.into_parts();
        let mut half = Half::new(STREAMS);
        half.out.octets().extend_from_slice(PREFACE);
        half.greet((Setting::EnablePush, 0), head_octets);
        Self { number, stream, half, open: 0, last_stream: 0, leaves: false, _place: place }
    }

    pub(super) fn is_idle_at_last(&self) -> bool {
        self.leaves && self.open == 0
    }

    pub(super) fn has_room(&self) -> bool {
        !self.leaves && self.open < self.half.most_streams && !self.half.out.is_full()
    }
}
