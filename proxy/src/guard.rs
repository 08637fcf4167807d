//! The strict scan between the client's socket and the HTTP/1 library: the library reads only
//! octets that the scan has let through, and whole heads at a time.

mod shared;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use l7_parsers::http1::{Scanner, Step};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

pub(crate) use shared::{Arrival, Refused, Shared};

use crate::options::Limits;

/// A well-formed head in place of a refused one: it makes the library ask for a response at the
/// right place among pipelined ones. Never leaves the proxy; it is told from a client's own head by
/// its place in [`Shared`], not by its text.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// How much is read at a time where the library's own buffer cannot be used.
const READ_SIZE: usize = 8 << 10;

/// The client's socket as the HTTP/1 library sees it.
pub(crate) struct Guard {
    stream: TcpStream,
    scanner: Scanner,
    /// Read and not judged yet: the beginning of a head, or what follows a possible switch.
    held: BytesMut,
    /// Judged and not taken by the library yet.
    passed: Bytes,
    shared: Shared,
    /// The head that came last has not been followed by the end of its body.
    in_body: bool,
    ended: Option<End>,
    limits: Limits,
    last_octet: Instant,
    head_began: Option<Instant>,
    read_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

/// How reading ended.
#[derive(Clone, Copy)]
enum End {
    /// With a head to refuse, whose stand-in is still to be passed.
    StandIn,
    /// As by the client's FIN.
    Quiet,
    /// In the middle of a body.
    Broken,
}

/// What a scan of the held or just read octets came to.
struct Scan {
    /// Octets at the front that may pass.
    pass: usize,
    /// Octets behind them that are to be thrown away.
    skip: usize,
    refused: Option<Refused>,
}

impl Guard {
    pub(crate) fn new(stream: TcpStream, read: BytesMut, limits: Limits, shared: Shared) -> Self {
        let now = Instant::now();
        Self {
            stream,
            scanner: Scanner::new(limits.http1),
            head_began: (!read.is_empty()).then_some(now),
            held: read,
            passed: Bytes::new(),
            shared,
            in_body: false,
            ended: None,
            limits,
            last_octet: now,
            read_timer: None,
            write_timer: None,
        }
    }

    /// The socket, and what was read from it but not passed on.
    pub(crate) fn into_parts(self) -> (TcpStream, BytesMut) {
        let mut read = BytesMut::from(&self.passed[..]);
        read.extend_from_slice(&self.held);
        (self.stream, read)
    }

    /// Judges `input` and tells the service of each head in it.
    fn scan(&mut self, input: &[u8]) -> Scan {
        let mut scan = Scan { pass: 0, skip: 0, refused: None };
        loop {
            match self.scanner.step(&input[scan.pass..]) {
                Step::Head { octets, head } => {
                    scan.pass += octets;
                    self.shared.arrived(Arrival::Head(head));
                    self.head_began = None;
                    self.in_body = true;
                }
                Step::Body { octets }
                | Step::Framing { octets }
                | Step::Trailers { octets }
                | Step::Opaque { octets } => scan.pass += octets,
                Step::Skip { octets } => {
                    scan.skip = octets;
                    return scan;
                }
                Step::More => break,
                Step::Undecided => match self.shared.take_decision() {
                    Some(_) => self.scanner.go_on(),
                    None => break,
                },
                Step::Refused(refusal) => {
                    scan.refused = Some(Refused::Malformed(refusal));
                    return scan;
                }
            }
            if self.scanner.between_requests() || self.scanner.is_undecided() {
                self.in_body = false;
            }
        }
        if self.scanner.in_head() && self.head_began.is_none() {
            self.head_began = Some(Instant::now());
        }
        scan
    }

    fn scan_held(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let scan = self.scan(&held);
        self.passed = held.split_to(scan.pass).freeze();
        held.advance(scan.skip);
        self.held = held;
        if let Some(refused) = scan.refused {
            self.refuse(refused);
        }
    }

    /// Ends reading with an answer to come: in order where a head was refused, at once where the
    /// body of a request that is being served was.
    fn refuse(&mut self, refused: Refused) {
        if self.in_body {
            self.shared.broke(refused);
            self.ended = Some(End::Broken);
        } else {
            self.shared.arrived(Arrival::Refused(refused));
            self.ended = Some(End::StandIn);
        }
        self.held.clear();
    }

    fn poll_judged(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.passed.is_empty() {
                let octets = self.passed.len().min(buf.remaining());
                buf.put_slice(&self.passed.split_to(octets));
                return Poll::Ready(Ok(()));
            }
            match self.ended {
                None => {}
                Some(End::StandIn) => {
                    self.passed = Bytes::from_static(STAND_IN);
                    self.ended = Some(End::Quiet);
                    continue;
                }
                Some(End::Quiet) => return Poll::Ready(Ok(())),
                Some(End::Broken) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "refused body")));
                }
            }
            if !self.held.is_empty() || self.scanner.is_undecided() {
                let before = self.held.len();
                self.scan_held();
                if !self.passed.is_empty() || self.ended.is_some() || self.held.len() < before {
                    continue;
                }
            }
            if self.scanner.is_undecided() {
                self.shared.wait_for_decision(cx);
                return Poll::Pending;
            }
            // The usual case: straight into the library's buffer, and all of it may pass.
            if self.held.is_empty() {
                let before = buf.filled().len();
                if Pin::new(&mut self.stream).poll_read(cx, buf)?.is_pending() {
                    ready!(self.poll_read_deadline(cx));
                    continue;
                }
                if buf.filled().len() == before {
                    self.end_of_stream();
                    continue;
                }
                self.last_octet = Instant::now();
                if self.judge_read(buf, before) > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let Poll::Ready(octets) = self.poll_hold_more(cx)? else {
                    ready!(self.poll_read_deadline(cx));
                    continue;
                };
                if octets == 0 {
                    self.end_of_stream();
                }
                self.last_octet = Instant::now();
            }
        }
    }

    /// Leaves in `buf` what may pass of the octets from `before` on, and says how many these are.
    fn judge_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> usize {
        let scan = self.scan(&buf.filled()[before..]);
        if scan.refused.is_none() {
            let rest = &buf.filled()[before + scan.pass + scan.skip..];
            self.held.extend_from_slice(rest);
        }
        buf.set_filled(before + scan.pass);
        if let Some(refused) = scan.refused {
            self.refuse(refused);
        }
        scan.pass
    }

    fn poll_hold_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // `held` is bounded: the scan refuses a head or trailer section over the limit.
        let before = self.held.len();
        self.held.resize(before + READ_SIZE, 0);
        let mut buf = ReadBuf::new(&mut self.held[before..]);
        let result = Pin::new(&mut self.stream).poll_read(cx, &mut buf);
        let octets = buf.filled().len();
        self.held.truncate(before + octets);
        result.map_ok(|()| octets)
    }

    /// The client has closed its side.
    fn end_of_stream(&mut self) {
        if self.in_body || self.scanner.in_head() {
            self.refuse(Refused::CutOff);
        } else {
            self.ended = Some(End::Quiet);
        }
    }

    /// Ready when time is up, with the consequence in `ended`.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match self.head_began {
            Some(began) => began + self.limits.head_time,
            None if self.in_body => self.last_octet + self.limits.stall_time,
            None => self.last_octet + self.limits.idle_time,
        };
        ready!(poll_until(&mut self.read_timer, deadline, cx));
        if self.head_began.is_some() {
            self.refuse(Refused::HeadTime);
        } else if self.in_body {
            self.refuse(Refused::Stalled);
        } else {
            self.ended = Some(End::Quiet);
        }
        Poll::Ready(())
    }

    /// Reading and writing share the clock: a long response keeps the connection from being idle.
    fn note_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.last_octet = Instant::now();
            self.write_timer = None;
            return result;
        }
        let deadline = self.last_octet + self.limits.stall_time;
        ready!(poll_until(&mut self.write_timer, deadline, cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client does not read")))
    }
}

/// A timer that has been armed for an earlier time is left to fire: most waits end long before, and
/// arming costs more than looking.
fn poll_until(timer: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
    if timer.deadline() > deadline {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(cx).is_ready() {
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_judged(cx, buf)
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
