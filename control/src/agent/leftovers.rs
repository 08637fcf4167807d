//! What the kernel's tables remember about an endpoint that is gone. None of it decides anything once
//! the policy has changed, but its address may be another's soon, who shall inherit nothing.

use std::collections::BTreeSet;

use tektin_loader::{MapError, Maps};

/// Forgets connections that the proxy has not accepted yet, and connections known by conntrack, in
/// which the endpoint is an end.
pub fn forget(maps: &Maps, endpoint: u32) -> Result<(), MapError> {
    for (flow, why) in maps.steered.entries()? {
        if why.src_endpoint == endpoint || why.dst_endpoint == endpoint {
            maps.steered.remove(&flow)?;
        }
    }
    for (flow, entry) in maps.ct.entries()? {
        if entry.src_endpoint == endpoint || entry.dst_endpoint == endpoint {
            maps.ct.remove(&flow)?;
        }
    }
    Ok(())
}

/// Forgets what the proxy has counted and held back for identities whose numbers are free again.
pub fn forget_identities(maps: &Maps, gone: &[u32]) -> Result<(), MapError> {
    if gone.is_empty() {
        return Ok(());
    }
    let gone: BTreeSet<u32> = gone.iter().copied().collect();
    for (pair, _) in maps.verdicts.entries()? {
        if gone.contains(&pair.src_identity) || gone.contains(&pair.dst_identity) {
            maps.verdicts.remove(&pair)?;
        }
    }
    Ok(())
}
