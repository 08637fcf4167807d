//! The client's side of a connection: its octets up to the next request head, and answers to it.

use std::{
    io,
    task::{Context, Poll, ready},
};

use l7_parsers::http1::{Head, Scanner, Step};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::{
    Session,
    clock::{Clock, Limit},
    refused::Refused,
};
use crate::{
    response::Answer,
    sends,
    upstream::Kept,
    worker::{Stage, Worker},
};

/// Octets that wait for their turn are kept in memory of this size at most between requests.
const KEPT: usize = 1 << 10;

pub(super) struct Client {
    pub(super) stream: TcpStream,
    /// Read and not consumed. Has no memory while nothing is under way.
    pub(super) held: Vec<u8>,
    pub(super) scanner: Scanner,
    pub(super) clock: Clock,
    /// It has closed its sending side.
    pub(super) ended: bool,
}

/// What a client sent next.
pub(super) enum Arrival {
    /// A head: the first `octets` of what is held.
    Head {
        octets: usize,
        head: Head,
    },
    Refused(Refused),
    /// Nothing more.
    Silence,
    /// Nothing for too long.
    Idle,
    /// The connection is gone.
    Lost,
}

/// What can be read ends here, or has come.
enum Heard {
    Octets,
    End,
    Draining,
}

impl Client {
    pub(super) fn new(stream: TcpStream, held: Vec<u8>, worker: &Worker) -> Self {
        let scanner = Scanner::new(worker.limits.http1);
        Self { stream, held, scanner, clock: Clock::default(), ended: false }
    }

    /// Reads up to the end of the next head. Meanwhile an idle upstream that its server closes goes.
    pub(super) async fn next(&mut self, session: &Session, kept: &Kept) -> Arrival {
        let limits = &session.worker.limits;
        let mut head_time = Limit::of(limits.head_time);
        let mut idle_time = Limit::of(limits.idle_time);
        loop {
            match self.scanner.step(&self.held) {
                Step::Head { octets, head } => return Arrival::Head { octets, head },
                Step::Refused(refusal) => return Arrival::Refused(Refused::Malformed(refusal)),
                Step::Skip { octets } => {
                    consume(&mut self.held, octets);
                    continue;
                }
                Step::Undecided => {
                    // Whoever switches does not come back here.
                    self.scanner.go_on();
                    continue;
                }
                Step::More if self.ended && self.scanner.in_head() => {
                    return Arrival::Refused(Refused::CutOff);
                }
                Step::More if self.ended => return Arrival::Silence,
                Step::More => {}
                // A body is read to its end before the next head is looked for.
                Step::Body { .. } | Step::Framing { .. } | Step::Trailers { .. } | Step::Opaque { .. } => {
                    return Arrival::Lost;
                }
            }
            let idle = self.held.is_empty();
            if idle && self.held.capacity() > KEPT {
                self.held = Vec::new();
            }
            let limit = if idle { &mut idle_time } else { &mut head_time };
            let (stream, held) = (&mut self.stream, &mut self.held);
            let heard = self.clock.within(limit, |cx| {
                kept.watch(cx);
                match session.worker.poll_read_more(stream, held, cx) {
                    Poll::Ready(octets) => {
                        Poll::Ready(octets.map(|octets| if octets == 0 { Heard::End } else { Heard::Octets }))
                    }
                    // A request that has come is still answered.
                    Poll::Pending if idle && session.stage.get() >= Stage::IdleEnds => {
                        Poll::Ready(Ok(Heard::Draining))
                    }
                    Poll::Pending => Poll::Pending,
                }
            });
            match heard.await {
                Ok(Ok(Heard::Octets)) => {}
                Ok(Ok(Heard::End)) => self.ended = true,
                Ok(Ok(Heard::Draining)) => return Arrival::Silence,
                Ok(Err(_)) => return Arrival::Lost,
                Err(_) if idle => return Arrival::Idle,
                Err(_) => return Arrival::Refused(Refused::HeadTime),
            }
        }
    }

    /// Sends an answer of the proxy's own.
    pub(super) async fn answer(
        &mut self,
        answer: &Answer,
        closes: bool,
        is_head: bool,
        session: &Session,
    ) -> io::Result<()> {
        let mut out = encode(answer, closes, is_head);
        let octets = sends::send(&self.stream, &out).await?;
        consume(&mut out, octets);
        let (stream, mut limit) = (&mut self.stream, Limit::of(session.worker.limits.stall_time));
        let writing = self.clock.within(&mut limit, |cx| poll_write_all(stream, &mut out, cx));
        writing.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads the body of a denied request and throws it away, up to a bound. `None`: there is more, or
    /// it is not well-formed.
    pub(super) async fn discard_body(&mut self, session: &Session) -> Option<()> {
        let limits = &session.worker.limits;
        let mut left = limits.drain_octets;
        let mut limit = Limit::of(limits.stall_time);
        while !is_complete(&self.scanner) {
            match self.scanner.step(&self.held) {
                Step::Body { octets } | Step::Framing { octets } | Step::Trailers { octets } => {
                    left = left.checked_sub(octets)?;
                    consume(&mut self.held, octets);
                }
                Step::More => {
                    let (stream, held) = (&mut self.stream, &mut self.held);
                    let reading =
                        self.clock.within(&mut limit, |cx| session.worker.poll_read_more(stream, held, cx));
                    if reading.await.ok()?.ok()? == 0 {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }
}

/// Forgets the first octets that are held.
pub(super) fn consume(held: &mut Vec<u8>, octets: usize) {
    if octets == held.len() {
        held.clear();
    } else {
        held.drain(..octets);
    }
}

/// Whether the last request's body has been read to its end.
pub(super) fn is_complete(scanner: &Scanner) -> bool {
    scanner.between_requests() || scanner.is_undecided()
}

/// Writes all of `out` and leaves it empty.
pub(super) fn poll_write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    out: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !out.is_empty() {
        let octets = ready!(std::pin::Pin::new(&mut *stream).poll_write(cx, out))?;
        if octets == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.drain(..octets);
    }
    Poll::Ready(Ok(()))
}

fn encode(answer: &Answer, closes: bool, is_head: bool) -> Vec<u8> {
    let reason = answer.status.canonical_reason().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", answer.status.as_str()).into_bytes();
    for (name, value) in &answer.fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", answer.body.len()).as_bytes());
    if !is_head {
        out.extend_from_slice(&answer.body);
    }
    out
}
