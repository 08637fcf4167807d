//! What a connection holds for its source.

use std::{ops::Deref, sync::Arc};

use crate::worker::Share;

/// Octets that wait in lanes, counted until they go on, or the connection is gone.
pub(super) struct Holding {
    share: Arc<Share>,
    octets: usize,
}

impl Holding {
    pub(super) fn of(share: Arc<Share>) -> Self {
        Self { share, octets: 0 }
    }

    pub(super) fn hold(&mut self, octets: usize) {
        if octets > 0 {
            self.octets += octets;
            self.share.hold(octets);
        }
    }

    pub(super) fn release(&mut self, octets: usize) {
        if octets > 0 {
            self.octets -= octets;
            self.share.release(octets);
        }
    }
}

impl Deref for Holding {
    type Target = Arc<Share>;

    fn deref(&self) -> &Arc<Share> {
        &self.share
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.release(self.octets);
    }
}
