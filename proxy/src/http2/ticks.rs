//! The time for what need not be exact.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Since some beginning, as of the kernel's last tick: some ms late, and far cheaper to ask than the time.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}
