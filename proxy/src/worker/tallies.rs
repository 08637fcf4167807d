//! Totals of verdicts since the last flush, by identity pair and port.

use std::{cell::RefCell, collections::HashMap};

use nix::time::{ClockId, clock_gettime};
use tektin_abi::maps::{VerdictKey, proto};

use crate::{capture::Flow, record::Tally};

/// What has come since the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub allowed: u64,
    pub denied: u64,
    /// CLOCK_MONOTONIC ns; 0: none.
    pub last_denied_ns: u64,
}

#[derive(Default)]
pub struct Tallies(RefCell<HashMap<VerdictKey, Totals>>);

impl Tallies {
    pub(crate) fn count(&self, flow: &Flow, tally: Tally) {
        let key = VerdictKey {
            src_identity: flow.steered.src_identity,
            dst_identity: flow.steered.dst_identity,
            dport: flow.original_dst.0.port(),
            proto: proto::TCP,
            _pad: 0,
        };
        let mut tallies = self.0.borrow_mut();
        let totals = tallies.entry(key).or_default();
        match tally {
            Tally::Allowed => totals.allowed += 1,
            Tally::Denied => {
                totals.denied += 1;
                totals.last_denied_ns = monotonic_ns();
            }
        }
    }

    /// Takes what was counted.
    #[must_use]
    pub fn take(&self) -> HashMap<VerdictKey, Totals> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

/// The kernel programs' clock.
fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs())
}
