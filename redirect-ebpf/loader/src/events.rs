//! Reads the ring buffer.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use tektin_abi::maps::{EVENTS, Event};

use crate::{error::LoadError, table::maps_dir};

/// The one reader of a node's events. Its descriptor is readable while there are any.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    /// Opens the pinned ring buffer. A second reader would take events from the first.
    pub fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        let data = MapData::from_pin(maps_dir(pin_dir).join(EVENTS))?;
        Ok(Self { ring: RingBuf::try_from(Map::RingBuf(data))? })
    }

    /// The next event, if there is one now.
    #[allow(clippy::should_implement_trait)] // an iterator would end where this only waits
    pub fn next(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            if item.len() >= size_of::<Event>() {
                // SAFETY: long enough; an Event may hold any bit pattern and is read unaligned.
                return Some(unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) });
            }
        }
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor lives as long as the ring that is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}
