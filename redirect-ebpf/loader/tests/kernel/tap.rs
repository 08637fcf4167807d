//! What arrives in a namespace, frame by frame.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;

use super::world::{Place, World, wait_until};

/// Hears every frame that the devices of one namespace receive or send.
pub(crate) struct Tap(OwnedFd);

impl Tap {
    pub(crate) fn open(world: &World, at: Place) -> Self {
        world
            .at(at, || {
                // SAFETY: plain system calls; the descriptor is ours.
                let fd = unsafe {
                    let protocol = i32::from((libc::ETH_P_ALL as u16).to_be());
                    libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, protocol)
                };
                assert!(fd >= 0, "packet socket");
                // SAFETY: just opened.
                Self(unsafe { OwnedFd::from_raw_fd(fd) })
            })
            .join()
            .unwrap()
    }

    /// The frames so far that contain `marker`.
    pub(crate) fn heard(&self, marker: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0u8; 65536];
        loop {
            // SAFETY: the buffer is as long as is said.
            let len = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let Ok(len) = usize::try_from(len) else { return frames };
            let frame = &buffer[..len];
            if frame.windows(marker.len()).any(|part| part == marker) {
                frames.push(frame.to_vec());
            }
        }
    }

    /// The next frame that contains `marker`.
    pub(crate) fn wait(&self, marker: &[u8]) -> Vec<u8> {
        let mut frame = None;
        wait_until("a frame", || {
            frame = self.heard(marker).into_iter().next();
            frame.is_some()
        });
        frame.unwrap()
    }
}
