//! Several writes in one system call.

use std::{io, os::fd::RawFd};

use io_uring::{IoUring, opcode, types};
use nix::libc;

pub(super) struct Ring(IoUring);

/// One write, and the number that its result bears.
pub(super) struct Entry<'a> {
    pub(super) number: usize,
    pub(super) fd: RawFd,
    pub(super) octets: &'a [u8],
}

impl Ring {
    /// For `most` writes at a time. Fails where the system has no io_uring, or forbids it.
    pub(super) fn new(most: usize) -> io::Result<Self> {
        let entries = u32::try_from(most).unwrap_or(u32::MAX);
        // Children have no use for it, and all that is ever done here is done within the call.
        IoUring::builder().setup_single_issuer().setup_coop_taskrun().dontfork().build(entries).map(Self)
    }

    /// Makes the writes, which never wait, and tells each one's result: octets, or an error's number below
    /// 0. After an error the ring is of no use; what was not told did not happen.
    pub(super) fn write(
        &mut self,
        entries: &[Entry<'_>],
        mut told: impl FnMut(usize, i32),
    ) -> io::Result<()> {
        for entry in entries {
            let length = u32::try_from(entry.octets.len()).unwrap_or(u32::MAX);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let send = opcode::Send::new(types::Fd(entry.fd), entry.octets.as_ptr(), length).flags(flags);
            let send = send.build().user_data(entry.number as u64);
            // SAFETY: the octets are borrowed until this returns, and what may not wait is over when the
            // kernel has taken it up: it keeps nothing. What it has not taken up goes with the ring.
            unsafe { self.0.submission().push(&send) }
                .map_err(|_| io::Error::other("more writes than the ring has room for"))?;
        }
        let mut left = entries.len();
        while left > 0 {
            let result = self.0.submit_and_wait(left);
            for done in self.0.completion() {
                told(done.user_data() as usize, done.result());
                left -= 1;
            }
            match result {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
