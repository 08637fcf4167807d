//! Reads the ring buffer.

mod ring;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

use aya::maps::MapData;
use tektin_abi::maps::{EVENTS, Event};

use self::ring::Ring;
use crate::{error::LoadError, table::maps_dir};

/// The one reader of a node's events. Its descriptor is readable while there are any.
pub struct EventReader {
    ring: Ring,
}

impl EventReader {
    /// Opens the pinned ring buffer. A second reader would take events from the first.
    pub fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        let data = MapData::from_pin(maps_dir(pin_dir).join(EVENTS))?;
        Ok(Self { ring: Ring::new(data)? })
    }

    /// The next event, if there is one now.
    ///
    /// # Errors
    /// Where the kernel does not let the buffer be read any further.
    #[allow(clippy::should_implement_trait)] // an iterator would end where this only waits
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            let event = self.ring.next(|record| {
                let whole = record.len() >= size_of::<Event>();
                // SAFETY: long enough; an Event may hold any bit pattern and is read unaligned.
                whole.then(|| unsafe { std::ptr::read_unaligned(record.as_ptr().cast()) })
            })?;
            match event {
                Some(None) => {}
                Some(event) => return Ok(event),
                None => return Ok(None),
            }
        }
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_fd().as_raw_fd()
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
