//! A BPF ring buffer (Documentation/bpf/ringbuf.rst), read through a window: the kernel maps such pages
//! at once and for good, and all of the buffer, which it shows twice in a row, would count as memory of
//! this process.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use aya::maps::{MapData, MapError};
use nix::libc;

/// Octets that are mapped at a time, and behind them room for a record that begins there. A multiple of
/// the page size.
const WINDOW: usize = 64 << 10;

/// What begins each record: its length with two flags, and a word of the kernel's own.
const HEADER: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;

pub(super) struct Ring {
    map: MapData,
    /// Octets of the buffer, a power of two.
    size: usize,
    page: usize,
    /// Position of the next record to read; ours to write.
    consumer: Mapping,
    /// Position behind the last record.
    producer: Mapping,
    window: Mapping,
    /// Offset of the window in the buffer.
    from: usize,
}

struct Mapping {
    at: NonNull<libc::c_void>,
    octets: usize,
}

// SAFETY: memory of the process, which no thread owns.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, octets: usize, offset: usize, access: libc::c_int) -> io::Result<Self> {
        let (fd, offset) = (map.as_raw_fd(), libc::off_t::try_from(offset).map_err(io::Error::other)?);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), octets, access, libc::MAP_SHARED, fd, offset) };
        match NonNull::new(at) {
            Some(at) if at.as_ptr() != libc::MAP_FAILED => Ok(Self { at, octets }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn number(&self) -> &AtomicU64 {
        // SAFETY: at the beginning of a page that lives as long as `self`; the kernel changes it as we do.
        unsafe { self.at.cast().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing borrowed from it outlives it.
        unsafe { libc::munmap(self.at.as_ptr(), self.octets) };
    }
}

impl Ring {
    pub(super) fn new(map: MapData) -> Result<Self, MapError> {
        let size = map.info()?.max_entries() as usize;
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
        let page = page.ok().flatten().and_then(|page| usize::try_from(page).ok()).unwrap_or(4096);
        let fd = map.fd().as_fd();
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let consumer = Mapping::new(fd, page, 0, both).map_err(MapError::IoError)?;
        let producer = Mapping::new(fd, page, page, libc::PROT_READ).map_err(MapError::IoError)?;
        let from = consumer.number().load(Ordering::Relaxed) as usize & (size - 1) & !(page - 1);
        let window = window(fd, size, page, from).map_err(MapError::IoError)?;
        Ok(Self { size, page, consumer, producer, window, from, map })
    }

    /// Gives the next record to `read`, if there is one now.
    ///
    /// # Errors
    /// Where the kernel maps no more.
    pub(super) fn next<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> io::Result<Option<T>> {
        loop {
            let position = self.consumer.number().load(Ordering::Relaxed);
            // Ordered behind our last store: the kernel wakes us if it has seen that one, and else
            // we see what it has added.
            if position >= self.producer.number().load(Ordering::SeqCst) {
                return Ok(None);
            }
            let record = self.at(position as usize & (self.size - 1))?;
            // SAFETY: within the window, and aligned to eight octets.
            let header = unsafe { record.cast::<AtomicU32>().as_ref() }.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return Ok(None);
            }
            let length = (header & !DISCARD) as usize;
            if HEADER + length > WINDOW.min(self.size) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let next = position + (HEADER + length).next_multiple_of(8) as u64;
            if header & DISCARD != 0 {
                self.consumer.number().store(next, Ordering::SeqCst);
                continue;
            }
            // SAFETY: the window shows a whole record; the kernel does not touch it before it is consumed.
            let value = read(unsafe { std::slice::from_raw_parts(record.as_ptr().add(HEADER), length) });
            self.consumer.number().store(next, Ordering::SeqCst);
            return Ok(Some(value));
        }
    }

    /// The record at this offset of the buffer.
    fn at(&mut self, offset: usize) -> io::Result<NonNull<u8>> {
        if !(self.from..self.from + WINDOW.min(self.size)).contains(&offset) {
            let from = offset & !(self.page - 1);
            self.window = window(self.map.fd().as_fd(), self.size, self.page, from)?;
            self.from = from;
        }
        // SAFETY: within the window.
        Ok(unsafe { self.window.at.cast().add(offset - self.from) })
    }
}

/// The buffer lies twice behind the pages of the two positions, so that no window and no record is in two
/// parts. Twice [`WINDOW`]: what begins within the first half is there as a whole.
fn window(map: BorrowedFd<'_>, size: usize, page: usize, from: usize) -> io::Result<Mapping> {
    Mapping::new(map, (2 * WINDOW).min(size), 2 * page + from, libc::PROT_READ)
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}
