//! A socket whose small writes wait for the end of the turn: the HTTP/2 library flushes after each read,
//! so that an answer to a PING, header blocks and DATA would each be a packet of their own.
//!
//! The thread's runtime calls [`end_turn`] before it waits for the kernel. On a thread whose runtime
//! does not ([`turns_end`] was not called) nothing waits.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// Octets of one socket that wait at most; more goes to the kernel with what waits.
const MOST: usize = 16 << 10;

/// Times that anybody's octets were told to wait within one turn: a thread that always has work never
/// waits for the kernel.
const DEFERRALS: usize = 64;

/// How long an answer to a PING waits for something to go along with. gRPC peers send a PING with nearly
/// every batch of messages, and the answers to these follow soon.
const PATIENCE: Duration = Duration::from_millis(1);

/// Slices of one system call, what waits included.
const SLICES: usize = 8;

thread_local! {
    static TURN: Turn = const { Turn { ends: Cell::new(false), deferrals: Cell::new(0), writers: RefCell::new(Vec::new()), timed: Cell::new(false) } };
}

struct Turn {
    ends: Cell<bool>,
    deferrals: Cell<usize>,
    writers: RefCell<Vec<Rc<Writer>>>,
    /// Somebody will come for what can wait for longer.
    timed: Cell<bool>,
}

/// This thread's runtime calls [`end_turn`].
pub(crate) fn turns_end() {
    TURN.with(|turn| turn.ends.set(true));
}

/// Writes what waits on this thread, but what can wait for longer.
pub(crate) fn end_turn() {
    write_all(|writer| writer.patient.get());
}

fn write_all(stays: impl Fn(&Writer) -> bool) {
    TURN.with(|turn| {
        turn.deferrals.set(0);
        let mut writers = turn.writers.take();
        writers.retain(|writer| {
            let stays = stays(writer);
            if !stays {
                writer.end_turn();
            }
            stays
        });
        // A waker may have listed others meanwhile; else its memory serves again.
        let mut listed = turn.writers.borrow_mut();
        writers.append(&mut listed);
        *listed = writers;
    });
}

/// Ends the patience of all.
fn time_out() {
    TURN.with(|turn| {
        if !turn.timed.replace(true) {
            tokio::task::spawn_local(async {
                tokio::time::sleep(PATIENCE).await;
                TURN.with(|turn| turn.timed.set(false));
                write_all(|_| false);
            });
        }
    });
}

pub(crate) struct Coalesced {
    stream: OwnedReadHalf,
    writer: Rc<Writer>,
}

struct Writer {
    /// `None`: closed.
    half: RefCell<Option<OwnedWriteHalf>>,
    waiting: RefCell<Vec<u8>>,
    /// Among those that the end of the turn writes.
    listed: Cell<bool>,
    /// Answers to PINGs are all that waits.
    patient: Cell<bool>,
    /// The kernel took no more when it was asked last.
    blocked: Cell<bool>,
    broken: RefCell<Option<io::Error>>,
    /// Whom to tell where the end of the turn could not write.
    waker: RefCell<Option<Waker>>,
}

impl Coalesced {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (stream, half) = stream.into_split();
        let writer = Rc::new(Writer {
            half: RefCell::new(Some(half)),
            waiting: RefCell::default(),
            listed: Cell::new(false),
            patient: Cell::new(false),
            blocked: Cell::new(false),
            broken: RefCell::default(),
            waker: RefCell::default(),
        });
        Self { stream, writer }
    }

    /// Whether the peer takes nothing although something waits for it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.writer.blocked.get()
    }
}

impl AsRef<TcpStream> for Coalesced {
    fn as_ref(&self) -> &TcpStream {
        self.stream.as_ref()
    }
}

impl Drop for Coalesced {
    fn drop(&mut self) {
        // The last words of a connection.
        self.writer.end_turn();
        if let Some(half) = self.writer.half.take() {
            // Closing says enough; a half that is dropped would end its direction first.
            half.forget();
        }
    }
}

impl Writer {
    fn end_turn(&self) {
        self.listed.set(false);
        if self.blocked.get() || self.waiting.borrow().is_empty() {
            return;
        }
        match self.try_write(&[]) {
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked.set(true),
            Err(error) => *self.broken.borrow_mut() = Some(error),
        }
        // It was told that all is written, and has to hear otherwise.
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Writes what waits and then `more`. Returns how much of `more` is written once nothing waits any more.
    fn try_write(&self, more: &[IoSlice<'_>]) -> io::Result<usize> {
        let half = self.half.borrow();
        let Some(half) = half.as_ref() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut waiting = self.waiting.borrow_mut();
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&waiting);
            let count = more.len().min(SLICES - 1);
            slices[1..=count].copy_from_slice(&more[..count]);
            let slices = if waiting.is_empty() { &slices[1..=count] } else { &slices[..=count] };
            let written = half.try_write_vectored(slices)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if written < waiting.len() {
                waiting.drain(..written);
                continue;
            }
            let of_more = written - waiting.len();
            waiting.clear();
            if of_more > 0 || more.is_empty() {
                return Ok(of_more);
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, more: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(more) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked.set(true);
                    let half = self.half.borrow();
                    let Some(half) = half.as_ref() else { return Poll::Ready(Err(error)) };
                    ready!(half.as_ref().poll_write_ready(cx))?;
                }
                result => {
                    self.blocked.set(false);
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn poll_flush(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        if self.waiting.borrow().is_empty() {
            return Poll::Ready(Ok(()));
        }
        let waits = TURN.with(|turn| {
            if self.blocked.get() || !turn.ends.get() {
                return false;
            }
            let deferrals = turn.deferrals.get() + 1;
            turn.deferrals.set(deferrals);
            if !self.listed.replace(true) {
                turn.writers.borrow_mut().push(Rc::clone(self));
            }
            if self.patient.get() {
                time_out();
            }
            deferrals <= DEFERRALS
        });
        if !waits {
            if !self.blocked.get() {
                end_turn();
            }
            return self.poll_rest(cx);
        }
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|old| !old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        if self.waiting.borrow().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(cx, &[]).map_ok(|_| ())
    }
}

impl AsyncRead for Coalesced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Coalesced {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let writer = &self.writer;
        if let Some(error) = writer.broken.take() {
            return Poll::Ready(Err(error));
        }
        let octets = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let mut waiting = writer.waiting.borrow_mut();
        if octets == 0 || (!writer.blocked.get() && waiting.len() + octets <= MOST) {
            let patient = waiting.is_empty() || writer.patient.get();
            writer.patient.set(patient && bufs.iter().all(|buf| is_pong(buf)));
            bufs.iter().for_each(|buf| waiting.extend_from_slice(buf));
            return Poll::Ready(Ok(octets));
        }
        drop(waiting);
        writer.poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.writer.poll_rest(cx))?;
        match SockRef::from(self.stream.as_ref()).shutdown(std::net::Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

/// Whether this is an answer to a PING and nothing else (RFC 9113 §6.7), or nothing at all.
fn is_pong(octets: &[u8]) -> bool {
    const HEADER: [u8; 9] = [0, 0, 8, 6, 1, 0, 0, 0, 0];
    octets.is_empty() || (octets.len() == HEADER.len() + 8 && octets.starts_with(&HEADER))
}

#[cfg(test)]
mod tests;
