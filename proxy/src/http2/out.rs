//! What is to be written to a peer: the frames of one turn go in one system call.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use l7_parsers::http2::frame::put_ping_ack;
use tokio::{io::AsyncWrite, net::TcpStream};

/// Octets from which on no more bodies are put behind them, and nothing is read that asks for answers.
const MOST: usize = 64 << 10;

/// Buffers of a thread that wait for their next use: a connection has one only while it writes.
const SPARE: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
pub(super) struct Out {
    octets: Vec<u8>,
    written: usize,
    /// All of it are answers to PINGs, which can wait for something to go along with: gRPC peers send a
    /// PING with nearly every batch of messages, and the answers to these follow soon.
    patient: bool,
}

impl Out {
    pub(super) fn len(&self) -> usize {
        self.octets.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of bodies that may be put in.
    pub(super) fn free(&self) -> i64 {
        i64::try_from(MOST.saturating_sub(self.len())).unwrap_or(0)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= MOST
    }

    /// For frames that are not to wait.
    pub(super) fn octets(&mut self) -> &mut Vec<u8> {
        self.patient = false;
        self.buffer()
    }

    pub(super) fn pong(&mut self, payload: [u8; 8]) {
        self.patient |= self.is_empty();
        put_ping_ack(self.buffer(), payload);
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        if self.octets.capacity() == 0 {
            self.octets = POOL.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
        }
        &mut self.octets
    }

    /// Something may wait here for a while.
    pub(super) fn is_patient(&self) -> bool {
        self.patient && !self.is_empty()
    }

    pub(super) fn hurry(&mut self) {
        self.patient = false;
    }

    /// Writes what the peer takes. Ready with how much that was.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() || self.patient {
            return Poll::Ready(Ok(0));
        }
        let mut all = 0;
        while !self.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &self.octets[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(octets)) => {
                    self.written += octets;
                    all += octets;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // What is written need not be kept until the end.
                    self.octets.drain(..self.written);
                    self.written = 0;
                    return if all > 0 { Poll::Ready(Ok(all)) } else { Poll::Pending };
                }
            }
        }
        self.recycle();
        Poll::Ready(Ok(all))
    }

    fn recycle(&mut self) {
        self.written = 0;
        let mut octets = std::mem::take(&mut self.octets);
        octets.clear();
        POOL.with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < SPARE && octets.capacity() <= 2 * MOST {
                pool.push(octets);
            }
        });
    }
}
