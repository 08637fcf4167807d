//! The window of a whole connection, and whom its octets count for.

use std::sync::Arc;

use crate::worker::{Held, Share};

/// The library gives it back only as bodies are read, so it is what streams that nobody reads may fill
/// before the others wait, too; and half of it is what small DATA frames may cost until somebody reads
/// them (256 octets each), then the library ends the connection.
const WIDE: u32 = 512 << 10;
/// Where the source holds too much for that.
const NARROW: u32 = 256 << 10;

/// Of a connection, towards its client and towards its server alike.
pub(crate) struct Window {
    octets: u32,
    _held: Option<Held>,
}

impl Window {
    /// A wide one counts as filled on both sides for as long as the connection lives.
    pub(super) fn of(share: &Arc<Share>) -> Self {
        let held = share.reserve(2 * WIDE as usize);
        Self { octets: if held.is_some() { WIDE } else { NARROW }, _held: held }
    }

    pub(crate) fn octets(&self) -> u32 {
        self.octets
    }
}
