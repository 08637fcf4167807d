//! Octets that came and are not looked at yet.

use bytes::{Bytes, BytesMut};

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) octets: BytesMut,
    /// Of the frame in front, which is held until it is whole: its octets with its length, come or not.
    /// 0: there is none.
    frame: usize,
    admission: Admission,
    pub(super) way: Way,
}

/// How the frame in front goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Unknown,
    /// So far too little of it is here to tell.
    Awaited,
    /// It is to be held whole.
    Whole,
}

/// Whether a frame may be held whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Admission {
    #[default]
    Awaited,
    Given,
}

impl Inbox {
    /// The length in front of a frame, without its own 4 octets.
    pub(super) fn frame_length(&self) -> Option<Result<usize, std::num::TryFromIntError>> {
        let octets = self.octets.first_chunk::<4>()?;
        Some(usize::try_from(i32::from_be_bytes(*octets)))
    }

    /// The first `frame` octets, once they are here. Until it is admitted room is made for as many again as
    /// there are, so that a length that is only claimed costs nothing.
    pub(super) fn take(&mut self, frame: usize) -> Option<Bytes> {
        const LEAST: usize = 16 << 10;
        if self.octets.len() < frame {
            self.frame = frame;
            if self.admission == Admission::Awaited {
                self.octets.reserve((frame - self.octets.len()).min(self.octets.len().max(LEAST)));
            }
            return None;
        }
        (self.frame, self.admission, self.way) = (0, Admission::Awaited, Way::Unknown);
        Some(self.octets.split_to(frame).freeze())
    }

    /// Up to so many of the octets that are here, of a frame that is not held whole.
    pub(super) fn take_some(&mut self, most: usize) -> Bytes {
        self.way = Way::Unknown;
        self.octets.split_to(most.min(self.octets.len())).freeze()
    }

    pub(super) fn admission(&self) -> Admission {
        self.admission
    }

    /// The frame in front, if there is one, may be read to its end: there is room for all of it at once,
    /// so that no octet is moved again.
    pub(super) fn admit(&mut self) {
        if self.frame > 0 && self.admission == Admission::Awaited {
            self.admission = Admission::Given;
            self.octets.reserve(self.frame.saturating_sub(self.octets.len()));
        }
    }

    /// Octets that it takes, or may take without asking again.
    pub(super) fn held(&self) -> usize {
        match self.admission {
            Admission::Awaited => self.octets.capacity(),
            Admission::Given => self.octets.capacity().max(self.frame),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
