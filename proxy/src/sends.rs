//! Small writes of a thread's turn leave together, in few system calls of io_uring.
//!
//! A write to a peer on the same core wakes it, and the kernel mostly runs it at once: for one request,
//! after which the thread goes on to the next one. Where the writes of a turn are one system call, the peer
//! finds all its requests there when it runs, and both have their code and data in the caches for longer.
//! Where the kernel offers no io_uring, each write is a system call of its own, as all larger ones are.

mod ring;

use std::{
    cell::RefCell,
    convert::Infallible,
    future::poll_fn,
    io, mem,
    ops::Range,
    os::fd::{AsRawFd, RawFd},
    task::{Poll, Waker},
};

use nix::libc;
use tokio::net::{TcpStream, tcp::WriteHalf};

use crate::upstream::UpstreamSocket;
use ring::{Entry, Ring};

/// Writes that wait at most.
const MOST: usize = 64;
/// Writes of one system call: nobody else has the core meanwhile, also not who brings a new policy.
const AT_ONCE: usize = 16;
/// Octets of a write that is copied to wait for the others.
const SMALL: usize = 4 << 10;

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
}

/// A socket that can be written to.
pub(crate) trait Socket {
    fn fd(&self) -> RawFd;
}

impl Socket for TcpStream {
    fn fd(&self) -> RawFd {
        self.as_raw_fd()
    }
}

impl Socket for WriteHalf<'_> {
    fn fd(&self) -> RawFd {
        self.as_ref().as_raw_fd()
    }
}

impl Socket for UpstreamSocket {
    fn fd(&self) -> RawFd {
        self.as_raw_fd()
    }
}

/// The writes of a thread that have not left yet.
#[derive(Default)]
struct Waiting {
    /// `None`: nobody gathers, and nothing waits.
    gatherer: Option<Gatherer>,
    /// What they write, one behind the other.
    octets: Vec<u8>,
    /// Tickets stand for places in here.
    writes: Vec<Write>,
    unused: Vec<usize>,
    /// In the order in which they came.
    order: Vec<usize>,
}

struct Gatherer {
    ring: Ring,
    /// Of the task.
    waker: Waker,
}

enum Write {
    Unused,
    Waits {
        fd: RawFd,
        octets: Range<usize>,
        writer: Waker,
    },
    /// Nobody waits for it any more, and it does not leave.
    Recalled,
    /// What the kernel said: octets, or an error's number below 0.
    Left(i32),
}

/// A write that waits. Dropped before it left, it does not happen.
struct Ticket(usize);

impl Drop for Ticket {
    fn drop(&mut self) {
        WAITING.with_borrow_mut(|waiting| waiting.recall(self.0));
    }
}

/// Writes to `stream` what it takes at once of `out`, with the other small writes of this turn. Returns how
/// many octets these were. The others are to be written as usual: that is all of them where they are not few,
/// and where nobody gathers.
pub(crate) async fn send(stream: &impl Socket, out: &[u8]) -> io::Result<usize> {
    if out.is_empty() || out.len() > SMALL {
        return Ok(0);
    }
    let mut ticket = None;
    poll_fn(|cx| {
        WAITING.with_borrow_mut(|waiting| match &ticket {
            Some(Ticket(at)) => waiting.result(*at, cx.waker()),
            None => {
                ticket = waiting.add(stream.fd(), out, cx.waker());
                if ticket.is_some() { Poll::Pending } else { Poll::Ready(Ok(0)) }
            }
        })
    })
    .await
}

/// Gathers this thread's small writes for as long as it is polled, as a task of its own: the first write of
/// a turn wakes it, and it runs behind all tasks that were ready by then.
///
/// # Errors
/// Where the kernel offers no io_uring, or not any more; writes then leave one by one.
pub async fn gather() -> io::Result<Infallible> {
    let ring = Ring::new(AT_ONCE)?;
    let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    WAITING.with_borrow_mut(|waiting| waiting.gatherer = Some(Gatherer { ring, waker }));
    let _end = End;
    poll_fn(|_| match leave() {
        Ok(()) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// Lets go at once what waits.
///
/// # Errors
/// Where the ring is of no use any more: who still waits writes by itself, and nobody waits from now on.
pub(crate) fn leave() -> io::Result<()> {
    let mut writers = Vec::new();
    let result = WAITING.with_borrow_mut(|waiting| waiting.flush(&mut writers));
    writers.into_iter().for_each(Waker::wake);
    result
}

/// The end of gathering: who still waits writes by itself.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        let writers = WAITING.with_borrow_mut(|waiting| {
            waiting.gatherer = None;
            let order = mem::take(&mut waiting.order);
            waiting.octets.clear();
            order.into_iter().filter_map(|at| waiting.leaves(at, 0)).collect::<Vec<_>>()
        });
        writers.into_iter().for_each(Waker::wake);
    }
}

impl Waiting {
    fn add(&mut self, fd: RawFd, octets: &[u8], writer: &Waker) -> Option<Ticket> {
        let gatherer = self.gatherer.as_ref().filter(|_| self.order.len() < MOST)?;
        if self.order.is_empty() {
            gatherer.waker.wake_by_ref();
        }
        let start = self.octets.len();
        self.octets.extend_from_slice(octets);
        let at = self.unused.pop().unwrap_or_else(|| {
            self.writes.push(Write::Unused);
            self.writes.len() - 1
        });
        self.writes[at] = Write::Waits { fd, octets: start..self.octets.len(), writer: writer.clone() };
        self.order.push(at);
        Some(Ticket(at))
    }

    /// How many octets have left; 0: the socket takes none now.
    fn result(&mut self, at: usize, waker: &Waker) -> Poll<io::Result<usize>> {
        match &mut self.writes[at] {
            Write::Waits { writer, .. } => {
                writer.clone_from(waker);
                Poll::Pending
            }
            Write::Left(result) => Poll::Ready(match usize::try_from(*result) {
                Ok(octets) => Ok(octets),
                Err(_) if -*result == libc::EAGAIN => Ok(0),
                Err(_) => Err(io::Error::from_raw_os_error(-*result)),
            }),
            // Not while there is its ticket.
            Write::Unused | Write::Recalled => Poll::Ready(Ok(0)),
        }
    }

    fn recall(&mut self, at: usize) {
        self.writes[at] = match self.writes[at] {
            // Its place is free when the gatherer has come by.
            Write::Waits { .. } => Write::Recalled,
            _ => {
                self.unused.push(at);
                Write::Unused
            }
        };
    }

    /// Notes its result; whom to tell, if there is still somebody.
    fn leaves(&mut self, at: usize, result: i32) -> Option<Waker> {
        match mem::replace(&mut self.writes[at], Write::Left(result)) {
            Write::Waits { writer, .. } => Some(writer),
            _ => {
                self.writes[at] = Write::Unused;
                self.unused.push(at);
                None
            }
        }
    }

    /// Lets all leave, and puts those who wait for them into `writers`.
    fn flush(&mut self, writers: &mut Vec<Waker>) -> io::Result<()> {
        let (Some(gatherer), false) = (&mut self.gatherer, self.order.is_empty()) else { return Ok(()) };
        let order = mem::take(&mut self.order);
        let entries: Vec<Entry<'_>> = order
            .iter()
            .filter_map(|&number| match &self.writes[number] {
                Write::Waits { fd, octets, .. } => {
                    Some(Entry { number, fd: *fd, octets: &self.octets[octets.clone()] })
                }
                _ => None,
            })
            .collect();
        // Nothing has left of those whose result is not told.
        let mut results = vec![0; self.writes.len()];
        let result = entries
            .chunks(AT_ONCE)
            .try_for_each(|some| gatherer.ring.write(some, |number, result| results[number] = result));
        writers.extend(order.into_iter().filter_map(|at| self.leaves(at, results[at])));
        self.octets.clear();
        if result.is_err() {
            self.gatherer = None;
        }
        result
    }
}

#[cfg(test)]
mod tests;
