//! All that belongs to one client's connection: its side, the servers' sides, and the streams between
//! them. One task polls all of it, so that a frame goes from one socket to the other in one go.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    hash::{BuildHasherDefault, Hasher},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use l7_parsers::http2::frame::{Setting, put_goaway, put_ping};
use tokio::net::TcpStream;

use super::{
    PATIENCE, clock::Clock, fault::Ended, fields::Fields, half::Half, holding::Holding, stream::Stream,
    upstream::Upstream,
};
use crate::{
    capture::Flow,
    grpc::Side,
    policy::Governing,
    upstream::{UpstreamError, UpstreamSocket},
    worker::{Share, Wanted, Worker},
};

pub(super) type Streams = HashMap<u32, Box<Stream>, BuildHasherDefault<Numbers>>;
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<UpstreamSocket, UpstreamError>>>>;

pub(super) struct Session {
    pub(super) flow: Flow,
    pub(super) worker: Rc<Worker>,
    pub(super) share: Holding,
    pub(super) stream: TcpStream,
    pub(super) client: Half,
    /// Those that take requests, and those that end when their last stream does.
    pub(super) upstreams: Vec<Upstream>,
    /// When a further one may be tried.
    pub(super) further_from: Duration,
    pub(super) connecting: Option<Connecting>,
    pub(super) streams: Streams,
    /// Requests that cannot be sent yet, in the order in which they came.
    pub(super) parked: VecDeque<u32>,
    /// What the heads of these take.
    pub(super) parked_octets: usize,
    /// Of the head that is being read; kept for its memory.
    pub(super) fields: Fields,
    /// The last stream that the client has opened.
    pub(super) last_stream: u32,
    /// Streams that were reset last: what the client sent before it knew is thrown away.
    pub(super) reset: VecDeque<u32>,
    pub(super) stream_errors: usize,
    pub(super) answered: u64,
    pub(super) given_up: u64,
    pub(super) leaving: Leaving,
    /// The client has said that it opens no more streams.
    pub(super) client_leaves: bool,
    /// What the open streams were judged by.
    pub(super) governing: Governing,
    pub(super) clock: Clock,
}

/// How far the proxy is with ending a connection without harm (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was told, and what it sent before it heard is on its way still.
    Told,
    /// Nothing new is taken.
    Last,
}

/// Of the PING behind the first GOAWAY: when its answer comes the client has heard.
pub(super) const LEAVING: [u8; 8] = *b"leaving\0";

impl Session {
    pub(super) fn new(stream: TcpStream, flow: Flow, worker: Rc<Worker>, share: Arc<Share>) -> Self {
        let governing = worker.with_policy(|policy| policy.governing(&worker.ends_now(&flow)));
        let mut client = Half::new(0);
        let streams = u32::try_from(worker.limits.streams).unwrap_or(u32::MAX);
        client.greet((Setting::MaxConcurrentStreams, streams), worker.limits.http1.head_octets);
        Self {
            flow,
            share: Holding::of(share),
            stream,
            client,
            upstreams: Vec::new(),
            further_from: Duration::ZERO,
            connecting: None,
            streams: Streams::default(),
            parked: VecDeque::new(),
            parked_octets: 0,
            fields: Fields::default(),
            last_stream: 0,
            reset: VecDeque::new(),
            stream_errors: 0,
            answered: 0,
            given_up: 0,
            leaving: Leaving::No,
            client_leaves: false,
            governing,
            clock: Clock::new(&worker.limits),
            worker,
        }
    }

    /// Works until the connection ends, in one direction or both.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        match self.poll_all(cx) {
            Ok(()) => Poll::Pending,
            Err(ended) => Poll::Ready(ended),
        }
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            let mut moved = self.read_client(cx)?;
            moved |= self.poll_connecting(cx);
            moved |= self.read_servers(cx);
            let was_connecting = self.connecting.is_some();
            self.ask_parked(cx);
            // What has begun is to be polled, or nobody would hear of its end.
            moved |= self.connecting.is_some() && !was_connecting;
            self.drain();
            let has_room = self.give_back();
            moved |= self.write(cx)?;
            if self.has_left() {
                return Err(Ended::Left);
            }
            if !moved {
                if !has_room {
                    // Whoever frees some of the source's share wakes this.
                    let _ = self.share.poll_room(Wanted::More, cx);
                }
                break;
            }
        }
        self.poll_clock(cx)
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        if self.client.out.is_full() {
            return Ok(false);
        }
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        match self.client.poll_read(&mut self.stream, &mut scratch, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0) | Err(_)) => Err(Ended::Over),
            Poll::Ready(Ok(octets)) => {
                self.clock.heard();
                self.client_octets(&scratch[..octets])?;
                Ok(true)
            }
        }
    }

    fn read_servers(&mut self, cx: &mut Context<'_>) -> bool {
        let worker = Rc::clone(&self.worker);
        let mut scratch = worker.scratch.borrow_mut();
        let (mut moved, mut at) = (false, 0);
        while at < self.upstreams.len() {
            let upstream = &mut self.upstreams[at];
            // What it sends is for a client that takes nothing, or asks for answers that it does not take.
            if self.client.out.is_full() || upstream.half.out.is_full() {
                at += 1;
                continue;
            }
            let failed = match upstream.half.poll_read(&mut upstream.stream, &mut scratch, cx) {
                Poll::Pending => None,
                Poll::Ready(Ok(0)) => Some(UpstreamError::Closed),
                Poll::Ready(Err(error)) => Some(UpstreamError::Broken(error)),
                Poll::Ready(Ok(octets)) => {
                    moved = true;
                    self.server_octets(at, &scratch[..octets]).err()
                }
            };
            match failed {
                Some(error) => {
                    moved = true;
                    self.upstream_ended(at, &error);
                }
                None if self.upstreams[at].is_idle_at_last() => drop(self.upstreams.remove(at)),
                None => at += 1,
            }
        }
        moved
    }

    fn poll_connecting(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(connecting) = &mut self.connecting else { return false };
        let Poll::Ready(result) = connecting.as_mut().poll(cx) else { return false };
        self.connecting = None;
        match result {
            Ok(socket) => {
                let upstream = Upstream::new(&self.upstreams, socket, self.worker.limits.http1.head_octets);
                self.upstreams.push(upstream);
            }
            Err(error) => self.cannot_connect(&error),
        }
        true
    }

    /// Passes on what waits, one frame of each stream after the other.
    fn drain(&mut self) {
        while self.client.room > 0
            && self.client.out.free() > 0
            && let Some(id) = self.client.blocked.pop_front()
        {
            let Self { streams, client, upstreams, share, clock, .. } = self;
            let Some(stream) = streams.get_mut(&id) else { continue };
            stream.answer.listed = false;
            let log = &stream.log;
            let moved = stream.answer.drain(id, client, |octets| log.passes(Side::Answer, octets));
            stream.answer.list(id, client);
            share.release(moved);
            if let Some(upstream) = stream.upstream(upstreams) {
                upstream.half.waiting -= moved;
                upstream.half.give_back_stream(id, &mut stream.answer, moved);
            }
            if moved > 0 {
                clock.taken();
            }
            self.settle(id);
        }
        for at in 0..self.upstreams.len() {
            while self.upstreams[at].half.room > 0
                && self.upstreams[at].half.out.free() > 0
                && let Some(id) = self.upstreams[at].half.blocked.pop_front()
            {
                let Self { streams, client, upstreams, share, .. } = self;
                let Some(stream) = streams.get_mut(&id) else { continue };
                stream.upload.listed = false;
                // Its server's stream may be gone since.
                if !stream.is_at(upstreams[at].number) {
                    continue;
                }
                let half = &mut upstreams[at].half;
                let moved = stream.upload.drain(id, half, |_| ());
                stream.upload.list(id, half);
                share.release(moved);
                client.waiting -= moved;
                client.give_back_stream(id, &mut stream.upload, moved);
                self.settle(id);
            }
        }
    }

    /// False: the windows of a connection stay shut until its source holds less.
    fn give_back(&mut self) -> bool {
        let share = &self.share;
        let mut all = self.client.give_back(share);
        for upstream in &mut self.upstreams {
            all &= upstream.half.give_back(share);
        }
        all
    }

    /// Writes what there is. True: more can be put in.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Ended> {
        let mut freed = false;
        let was_full = self.client.out.is_full();
        match self.client.out.poll_write(&mut self.stream, cx) {
            Poll::Pending | Poll::Ready(Ok(0)) => {}
            Poll::Ready(Ok(octets)) => {
                self.client.meter.wrote(octets);
                self.clock.wrote();
                // Servers were not read while it was full.
                freed |= !self.client.blocked.is_empty() || was_full;
            }
            Poll::Ready(Err(_)) => return Err(Ended::Over),
        }
        let mut at = 0;
        while at < self.upstreams.len() {
            let upstream = &mut self.upstreams[at];
            let was_full = upstream.half.out.is_full();
            match upstream.half.out.poll_write(&mut upstream.stream, cx) {
                Poll::Pending | Poll::Ready(Ok(0)) => at += 1,
                Poll::Ready(Ok(octets)) => {
                    upstream.half.meter.wrote(octets);
                    freed |= !upstream.half.blocked.is_empty() || !self.parked.is_empty() || was_full;
                    at += 1;
                }
                Poll::Ready(Err(error)) => {
                    self.upstream_ended(at, &UpstreamError::Broken(error));
                    freed = true;
                }
            }
        }
        let is_patient = |half: &Half| half.out.is_patient();
        let waits =
            is_patient(&self.client) || self.upstreams.iter().any(|upstream| is_patient(&upstream.half));
        if waits && self.clock.poll_patience(PATIENCE, cx).is_ready() {
            self.client.out.hurry();
            self.upstreams.iter_mut().for_each(|upstream| upstream.half.out.hurry());
            return Ok(true);
        }
        Ok(freed)
    }

    /// Says that this connection takes no new streams, but for those on their way.
    pub(super) fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Told;
            let out = self.client.out.octets();
            put_goaway(out, (1 << 31) - 1, 0, b"");
            put_ping(out, LEAVING);
        }
    }

    /// The client knows it: what it sends from now on was sent after that.
    pub(super) fn leave_for_good(&mut self) {
        if self.leaving == Leaving::Told {
            self.leaving = Leaving::Last;
            put_goaway(self.client.out.octets(), self.last_stream, 0, b"");
        }
    }

    /// The client's socket, when all else of the connection has ended.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn has_left(&self) -> bool {
        (self.leaving == Leaving::Last || self.client_leaves)
            && self.streams.is_empty()
            && self.client.out.is_empty()
    }
}

/// Of streams: numbers that only count up.
#[derive(Default)]
pub(super) struct Numbers(u64);

impl Hasher for Numbers {
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.write_u32(u32::from(*octet) | (self.0 as u32) << 8);
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }
}
