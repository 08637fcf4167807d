//! What each source has on one thread: connections, and octets that they hold.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
};

use super::share::{All, Share};
use crate::{capture::Flow, options::Limits};

/// Places of a thread that a source with more than its part does not get.
const LAST: usize = 64;

/// Whom a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A workload of this node, whichever of its addresses it uses.
    Endpoint(u32),
    /// Anybody else. One host may have all addresses of an IPv6 /64.
    Address(IpAddr),
}

impl Source {
    pub(crate) fn of(flow: &Flow) -> Self {
        match (flow.steered.src_endpoint, flow.peer.0.ip()) {
            (0, IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
                Self::Address(IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()))
            }
            (0, ip) => Self::Address(ip.to_canonical()),
            (endpoint, _) => Self::Endpoint(endpoint),
        }
    }
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("too many connections of one source: {0} a thread")]
    Source(usize),
    #[error("too many connections: the last places are for others")]
    Last,
    #[error("too many HTTP/2 connections of one source: {0} a thread")]
    Http2(usize),
    #[error("the proxy uses more memory than it may")]
    Memory,
}

pub(crate) struct Clients {
    sources: RefCell<HashMap<Source, Entry>>,
    open: Cell<usize>,
    all: Arc<All>,
    /// The process uses more memory than it may.
    short: Cell<bool>,
}

struct Entry {
    open: usize,
    http2: usize,
    share: Arc<Share>,
}

/// One connection's place among those of its source.
pub(crate) struct Seat {
    source: Source,
    http2: Cell<bool>,
    pub(crate) share: Arc<Share>,
}

impl Clients {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            sources: RefCell::default(),
            open: Cell::new(0),
            all: All::new(limits.buffered),
            short: Cell::new(false),
        }
    }

    pub(crate) fn set_short_of_memory(&self, short: bool) {
        self.short.set(short);
    }

    /// Counts one more connection, to be followed by one [`Clients::leave`].
    ///
    /// # Errors
    /// Where the source has what it may have. The last places of a thread are for those that have
    /// less than their part of the others.
    pub(crate) fn enter(&self, flow: &Flow, limits: &Limits) -> Result<Seat, Full> {
        let source = Source::of(flow);
        let mut sources = self.sources.borrow_mut();
        let free = limits.connections_per_thread.saturating_sub(self.open.get());
        let fair = self.open.get() / sources.len().max(1);
        let open = sources.get(&source).map_or(0, |entry| entry.open);
        if open >= limits.connections_per_source {
            return Err(Full::Source(limits.connections_per_source));
        }
        let greedy = open >= fair.max(1);
        if free == 0 || (greedy && free <= LAST.min(limits.connections_per_thread / 8)) {
            return Err(Full::Last);
        }
        if greedy && self.short.get() {
            return Err(Full::Memory);
        }
        let entry = sources.entry(source).or_insert_with(|| Entry {
            open: 0,
            http2: 0,
            share: Share::new(limits.buffered_per_source, &self.all),
        });
        entry.open += 1;
        self.open.set(self.open.get() + 1);
        Ok(Seat { source, http2: Cell::new(false), share: Arc::clone(&entry.share) })
    }

    /// The connection speaks HTTP/2, which takes more memory.
    ///
    /// # Errors
    /// Where its source has too many of these.
    pub(crate) fn takes_http2(&self, seat: &Seat, limits: &Limits) -> Result<(), Full> {
        let mut sources = self.sources.borrow_mut();
        let Some(entry) = sources.get_mut(&seat.source) else { return Ok(()) };
        if entry.http2 >= limits.http2_per_source {
            return Err(Full::Http2(limits.http2_per_source));
        }
        entry.http2 += 1;
        seat.http2.set(true);
        Ok(())
    }

    pub(crate) fn leave(&self, seat: &Seat) {
        let mut sources = self.sources.borrow_mut();
        let Some(entry) = sources.get_mut(&seat.source) else { return };
        entry.open -= 1;
        entry.http2 -= usize::from(seat.http2.get());
        self.open.set(self.open.get() - 1);
        if entry.open == 0 {
            sources.remove(&seat.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use tektin_abi::maps::SteeredValue;

    use super::*;
    use crate::capture::{OriginalDst, PeerAddr};

    fn flow(from: &str, src_endpoint: u32) -> Flow {
        let dst = "10.0.0.9:80".parse().unwrap();
        Flow {
            peer: PeerAddr(format!("{from}:999").parse().unwrap()),
            original_dst: OriginalDst(dst),
            steered: SteeredValue { src_endpoint, ..Default::default() },
        }
    }

    fn filled(clients: &Clients, limits: &Limits, flow: &Flow) -> Vec<Seat> {
        std::iter::from_fn(|| clients.enter(flow, limits).ok()).collect()
    }

    #[test]
    fn the_last_places_are_for_whoever_has_less() {
        let limits =
            Limits { connections_per_thread: 400, connections_per_source: 1000, ..Limits::default() };
        let clients = Clients::new(&limits);
        let greedy = filled(&clients, &limits, &flow("10.0.0.1", 0));
        assert_eq!(greedy.len(), 350);
        let next: Vec<_> =
            (0..40).filter_map(|_| clients.enter(&flow("10.0.0.2", 0), &limits).ok()).collect();
        assert_eq!(next.len(), 40);
        assert_eq!(clients.enter(&flow("10.0.0.1", 0), &limits).err(), Some(Full::Last));
        let third = filled(&clients, &limits, &flow("10.0.0.3", 0));
        assert_eq!(third.len(), 10);
        assert_eq!(clients.enter(&flow("10.0.0.4", 0), &limits).err(), Some(Full::Last), "none is left");
        greedy.iter().chain(&next).chain(&third).for_each(|seat| clients.leave(seat));
        assert_eq!(clients.open.get(), 0);
    }

    #[test]
    fn addresses_of_one_source_count_together() {
        let limits = Limits { connections_per_source: 5, http2_per_source: 2, ..Limits::default() };
        let clients = Clients::new(&limits);
        for (one, other, third) in [
            (flow("10.0.0.1", 7), flow("[fd00::1]", 7), flow("10.0.0.1", 8)),
            (flow("[2001:db8::1]", 0), flow("[2001:db8::2]", 0), flow("[2001:db8:0:1::2]", 0)),
        ] {
            let seats = filled(&clients, &limits, &one);
            assert_eq!(seats.len(), 5);
            assert_eq!(clients.enter(&other, &limits).err(), Some(Full::Source(5)));
            let seat = clients.enter(&third, &limits).unwrap();
            clients.leave(&seat);
            assert!(clients.takes_http2(&seats[0], &limits).is_ok());
            assert!(clients.takes_http2(&seats[1], &limits).is_ok());
            assert_eq!(clients.takes_http2(&seats[2], &limits).err(), Some(Full::Http2(2)));
            seats.iter().for_each(|seat| clients.leave(seat));
        }
        assert!(clients.sources.borrow().is_empty());
        assert_eq!(clients.open.get(), 0);
    }

    #[test]
    fn short_of_memory_the_greedy_wait() {
        let limits = Limits::default();
        let clients = Clients::new(&limits);
        let (greedy, modest) = (flow("10.0.0.1", 0), flow("10.0.0.2", 0));
        let _seats: Vec<_> = (0..10).map(|_| clients.enter(&greedy, &limits).unwrap()).collect();
        clients.set_short_of_memory(true);
        assert_eq!(clients.enter(&greedy, &limits).err(), Some(Full::Memory));
        assert!(clients.enter(&modest, &limits).is_ok());
        clients.set_short_of_memory(false);
        assert!(clients.enter(&greedy, &limits).is_ok());
    }
}
