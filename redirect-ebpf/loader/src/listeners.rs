//! The registry of the proxy's listening sockets (a SOCKMAP).

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd, RawFd},
    path::Path,
};

use nix::libc;
use tektin_abi::maps::{LISTENERS, LISTENERS_MAX};

use crate::{
    error::{LoadError, MapError},
    sys,
    table::{self, Layout},
};

/// A slot whose socket is closed empties itself; one that is overwritten goes over to the new
/// socket without a gap.
#[derive(Debug)]
pub struct Listeners {
    fd: OwnedFd,
}

impl Listeners {
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        let (fd, _) = table::open(pin_dir, LISTENERS, &Layout { key: 4, value: 8 })?;
        Ok(Self { fd })
    }

    /// Puts a listening TCP socket into a slot: IPv4 thread i in i, IPv6 in `LISTENERS_V6 + i`.
    pub fn set(&self, slot: u32, socket: RawFd) -> Result<(), MapError> {
        let value = u64::from(socket.cast_unsigned());
        // SAFETY: the key is 4 octets and the value 8, as checked when the map was opened.
        access(unsafe {
            sys::map_update(self.fd.as_fd(), (&raw const slot).cast(), (&raw const value).cast())
        })
    }

    /// Whether a socket was there.
    pub fn clear(&self, slot: u32) -> Result<bool, MapError> {
        // SAFETY: the key is 4 octets.
        match unsafe { sys::map_delete(self.fd.as_fd(), (&raw const slot).cast()) } {
            // How a SOCKMAP says that a slot is empty.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && slot < LISTENERS_MAX => Ok(false),
            other => access(other),
        }
    }

    /// Whether a live socket is in the slot.
    pub fn is_set(&self, slot: u32) -> Result<bool, MapError> {
        let mut cookie = 0u64;
        // SAFETY: the key is 4 octets, the value 8.
        access(unsafe {
            sys::map_lookup(self.fd.as_fd(), (&raw const slot).cast(), (&raw mut cookie).cast())
        })
    }
}

fn access<T>(result: io::Result<T>) -> Result<T, MapError> {
    result.map_err(|source| MapError::Access { map: LISTENERS, source })
}
