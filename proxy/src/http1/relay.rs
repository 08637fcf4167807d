//! A message's body on its way from one connection to the other. It goes at the pace of the slower
//! side, and through memory of the thread: only what the receiver does not take is kept.

use std::{cell::Cell, io, io::Write, pin::Pin, task::Poll, task::ready, time::Duration};

use l7_parsers::http1::{Body, Limits, Part, Refusal, Scanner, Step, trailers};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    call::Call,
    client::{consume, is_complete, poll_write_all},
    clock::{Clock, Limit},
};
use crate::{
    grpc::Side,
    sends::{self, Socket},
    worker::Worker,
};

/// Reads after which the other connections of the thread have their turn.
const ROUNDS: usize = 8;

/// Where a body's octets come from, and what says where it ends.
pub(super) enum Reading<'a> {
    Request(&'a mut Scanner),
    Response(Body, Limits),
}

/// How the receiver is told where the body ends.
pub(super) enum Encoding {
    /// By a length that its head has, or by the end of the connection.
    Plain,
    /// `trailers`: which may follow, lower case.
    Chunked { trailers: Vec<String> },
}

/// One direction of an exchange.
pub(super) struct Relay<'a> {
    reading: Reading<'a>,
    encoding: Encoding,
    /// To be written; the head comes first.
    pub(super) output: Vec<u8>,
    ended: bool,
    /// Of a gRPC call, and which of its directions this is.
    call: Option<(&'a Call, Side)>,
    /// Counts the writes of both directions of the exchange.
    moved: &'a Cell<usize>,
}

/// How long one read and one write may take.
pub(super) struct Times {
    pub(super) read: Duration,
    pub(super) write: Duration,
}

#[derive(Debug)]
pub(super) enum RelayError {
    /// The sender's connection is broken.
    Read,
    ReadTime,
    /// The sender's connection ended within the body.
    Truncated,
    Malformed(Refusal),
    /// The receiver's connection is broken.
    Write,
    /// The receiver takes nothing.
    WriteTime,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        reading: Reading<'a>,
        encoding: Encoding,
        output: Vec<u8>,
        call: Option<(&'a Call, Side)>,
        moved: &'a Cell<usize>,
    ) -> Self {
        Self { reading, encoding, output, ended: false, call, moved }
    }

    /// Notes content that passes.
    fn note(&self, octets: &[u8]) {
        if let Some((call, side)) = self.call {
            call.counted.passes(side, octets);
            if side == Side::Answer {
                call.writes();
            }
        }
    }

    /// Whether nothing is left to read or to write.
    pub(super) fn is_done(&self) -> bool {
        self.output.is_empty() && self.has_read_all()
    }

    fn has_read_all(&self) -> bool {
        self.ended
            || match &self.reading {
                Reading::Request(scanner) => is_complete(scanner),
                Reading::Response(body, _) => body.is_complete(),
            }
    }

    /// Takes what it can of some octets. Returns how many these were.
    pub(super) fn digest(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while !self.has_read_all() {
            match self.reading.advance(&input[at..])? {
                Part::More => break,
                Part::Content { octets } => {
                    self.note(&input[at..at + octets]);
                    self.content(&input[at..at + octets]);
                    at += octets;
                }
                Part::Framing { octets } => at += octets,
                Part::Trailers { octets } => {
                    self.last_chunk(&input[at..at + octets]);
                    at += octets;
                }
            }
        }
        Ok(at)
    }

    fn content(&mut self, octets: &[u8]) {
        match self.encoding {
            Encoding::Plain => self.output.extend_from_slice(octets),
            Encoding::Chunked { .. } => {
                // Writing to memory does not fail.
                let _ = write!(self.output, "{:X}\r\n", octets.len());
                self.output.extend_from_slice(octets);
                self.output.extend_from_slice(b"\r\n");
            }
        }
    }

    fn last_chunk(&mut self, section: &[u8]) {
        let Encoding::Chunked { trailers: announced } = &self.encoding else { return };
        self.output.extend_from_slice(b"0\r\n");
        for field in trailers(section) {
            let name = field.name.to_ascii_lowercase();
            if announced.contains(&name) {
                self.output.extend_from_slice(name.as_bytes());
                self.output.extend_from_slice(b": ");
                self.output.extend_from_slice(field.value);
                self.output.extend_from_slice(b"\r\n");
            }
        }
        self.output.extend_from_slice(b"\r\n");
    }

    /// Writes what is to be written.
    pub(super) async fn flush(
        &mut self,
        to: &mut (impl AsyncWrite + Socket + Unpin),
        clock: &mut Clock,
        times: &Times,
    ) -> Result<(), RelayError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let output = &mut self.output;
        let octets = sends::send(to, output).await.map_err(|_| RelayError::Write)?;
        consume(output, octets);
        match clock.within(&mut Limit::of(times.write), |cx| poll_write_all(to, output, cx)).await {
            Ok(Ok(())) => {
                self.moved.set(self.moved.get() + 1);
                if let (Some((call, Side::Answer)), Encoding::Chunked { .. }) = (self.call, &self.encoding)
                    && !self.has_read_all()
                {
                    call.has_written_chunks();
                }
            }
            Ok(Err(_)) => return Err(RelayError::Write),
            Err(_) => return Err(RelayError::WriteTime),
        }
        Ok(())
    }

    /// Moves the body to its end. `held` has what was read from the sender before, and afterwards what
    /// was read of the next message.
    pub(super) async fn run(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Socket + Unpin),
        held: &mut Vec<u8>,
        clock: &mut Clock,
        times: &Times,
        worker: &Worker,
    ) -> Result<(), RelayError> {
        let mut rounds = 0;
        loop {
            if !held.is_empty() {
                let octets = self.digest(held).map_err(RelayError::Malformed)?;
                consume(held, octets);
            }
            self.flush(to, clock, times).await?;
            if self.has_read_all() {
                return Ok(());
            }
            rounds += 1;
            if rounds % ROUNDS == 0 {
                tokio::task::yield_now().await;
            }
            let before = self.moved.get();
            let mut limit = Limit::of(times.read);
            let reading = clock.within(&mut limit, |cx| {
                let mut scratch = worker.scratch.borrow_mut();
                let mut buffer = ReadBuf::new(&mut scratch);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).map_err(|_| RelayError::Read)?;
                Poll::Ready(match buffer.filled() {
                    [] => self.end(),
                    fresh if held.is_empty() => {
                        self.pass(fresh, held, |octets| match Pin::new(&mut *to).poll_write(cx, octets) {
                            Poll::Ready(result) => result,
                            Poll::Pending => Ok(0),
                        })
                    }
                    fresh => {
                        held.extend_from_slice(fresh);
                        Ok(())
                    }
                })
            });
            match reading.await {
                Ok(result) => result?,
                // Something moves the other way.
                Err(_) if self.moved.get() != before => {}
                Err(_) => return Err(RelayError::ReadTime),
            }
        }
    }

    /// Takes octets just read. Content that needs no other form goes to the receiver from where it is.
    fn pass(
        &mut self,
        fresh: &[u8],
        held: &mut Vec<u8>,
        write: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> Result<(), RelayError> {
        let mut at = 0;
        if let (Encoding::Plain, true) = (&self.encoding, self.reading.is_counted()) {
            let octets = match self.reading.advance(fresh).map_err(RelayError::Malformed)? {
                Part::Content { octets } => octets,
                Part::More | Part::Framing { .. } | Part::Trailers { .. } => 0,
            };
            self.note(&fresh[..octets]);
            let written = write(&fresh[..octets]).map_err(|_| RelayError::Write)?;
            self.moved.set(self.moved.get() + 1);
            self.output.extend_from_slice(&fresh[written..octets]);
            at = octets;
        }
        at += self.digest(&fresh[at..]).map_err(RelayError::Malformed)?;
        held.extend_from_slice(&fresh[at..]);
        Ok(())
    }

    /// The sender's connection has ended.
    fn end(&mut self) -> Result<(), RelayError> {
        let Reading::Response(body, _) = &self.reading else { return Err(RelayError::Truncated) };
        if !body.may_end() {
            return Err(RelayError::Truncated);
        }
        self.ended = true;
        self.last_chunk(b"\r\n");
        Ok(())
    }
}

impl Reading<'_> {
    /// Whether all octets up to the end are content.
    fn is_counted(&self) -> bool {
        match self {
            Self::Request(scanner) => scanner.in_counted_body(),
            Self::Response(body, _) => body.is_counted(),
        }
    }

    fn advance(&mut self, input: &[u8]) -> Result<Part, Refusal> {
        match self {
            Self::Response(body, limits) => body.advance(input, limits),
            Self::Request(scanner) => match scanner.step(input) {
                Step::Body { octets } => Ok(Part::Content { octets }),
                Step::Framing { octets } => Ok(Part::Framing { octets }),
                Step::Trailers { octets } => Ok(Part::Trailers { octets }),
                Step::Refused(refusal) => Err(refusal),
                // Not within a body.
                Step::More
                | Step::Skip { .. }
                | Step::Head { .. }
                | Step::Undecided
                | Step::Opaque { .. } => Ok(Part::More),
            },
        }
    }
}
