//! Octets on their way from one socket to another that never come into the process: their pages are handed
//! on by a pipe (splice(2)).

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    task::{Poll, ready},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice},
    unistd::pipe2,
};
use tokio::{io::Interest, net::TcpStream};

/// Pipes of a thread. One is taken only while it holds octets that its reader does not take; with all of
/// them taken, octets are copied.
pub(crate) const PIPES: usize = 16;

/// Size of a pipe, where the kernel grants it: a page of the sender's takes a page's place, however little
/// is in it.
const SIZE: i32 = 256 << 10;

/// Octets that a pipe holds at most: pages of the kernel may be larger than those that it counts.
const MOST: usize = 512 << 10;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { made: 0, spare: Vec::new() }) };
}

struct Pool {
    made: usize,
    spare: Vec<Ends>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A way for one direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// None while there is nothing in it.
    ends: Option<Ends>,
    held: usize,
}

/// What became of an attempt to fill a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Holds,
    /// The stream has ended.
    End,
    /// No pipe, or none between these two: octets have to be copied.
    Impossible,
}

/// Whether more of the same message comes behind what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    More,
    Nothing,
}

impl Pipe {
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `most` octets out of the socket. Only for an empty pipe: a full one looks like an
    /// empty socket.
    ///
    /// # Errors
    /// The stream's own.
    pub(super) async fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<Filled> {
        debug_assert_eq!(self.held, 0);
        poll_fn(|cx| {
            loop {
                ready!(from.poll_read_ready(cx))?;
                if self.ends.is_none() {
                    self.ends = Pool::take();
                }
                let Some(ends) = &self.ends else { return Poll::Ready(Ok(Filled::Impossible)) };
                let moved = from.try_io(Interest::READABLE, || {
                    moved(from.as_fd(), ends.write.as_fd(), most.min(MOST), Behind::Nothing)
                });
                return Poll::Ready(match moved {
                    Ok(0) => {
                        self.put_back();
                        Ok(Filled::End)
                    }
                    Ok(octets) => {
                        self.held = octets;
                        Ok(Filled::Holds)
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Nobody is to wait with a pipe in hand.
                        self.put_back();
                        continue;
                    }
                    Err(error) if is_impossible(&error) => {
                        self.put_back();
                        Ok(Filled::Impossible)
                    }
                    Err(error) => Err(error),
                });
            }
        })
        .await
    }

    /// Puts octets of it into the socket, and says how many.
    ///
    /// # Errors
    /// The stream's own.
    pub(super) async fn empty(&mut self, to: &TcpStream, behind: Behind) -> io::Result<usize> {
        poll_fn(|cx| {
            loop {
                let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
                ready!(to.poll_write_ready(cx))?;
                let moved =
                    to.try_io(Interest::WRITABLE, || moved(ends.read.as_fd(), to.as_fd(), self.held, behind));
                return Poll::Ready(match moved {
                    Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                    Ok(octets) => {
                        self.held -= octets.min(self.held);
                        if self.held == 0 {
                            self.put_back();
                        }
                        Ok(octets)
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => Err(error),
                });
            }
        })
        .await
    }

    fn put_back(&mut self) {
        if let Some(ends) = self.ends.take() {
            POOL.with_borrow_mut(|pool| pool.spare.push(ends));
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.held == 0 {
            return self.put_back();
        }
        // What is in it is nobody else's.
        if self.ends.take().is_some() {
            POOL.with_borrow_mut(|pool| pool.made -= 1);
        }
    }
}

impl Pool {
    fn take() -> Option<Ends> {
        POOL.with_borrow_mut(|pool| {
            if let Some(ends) = pool.spare.pop() {
                return Some(ends);
            }
            if pool.made == PIPES {
                return None;
            }
            let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).ok()?;
            // A smaller one does the same with more calls.
            let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE));
            pool.made += 1;
            Some(Ends { read, write })
        })
    }
}

fn moved(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize, behind: Behind) -> io::Result<usize> {
    let mut flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    flags.set(SpliceFFlags::SPLICE_F_MORE, behind == Behind::More);
    Ok(splice(from, None, to, None, most, flags)?)
}

/// The kernel, or who watches over system calls, does not have it.
fn is_impossible(error: &io::Error) -> bool {
    [Errno::EINVAL, Errno::ENOSYS, Errno::EPERM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}
