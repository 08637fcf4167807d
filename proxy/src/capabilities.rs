//! What the proxy may still do once it reads bytes from the network.

use std::{collections::HashSet, fs};

use caps::{CapSet, Capability, errors::CapsError};

/// Transparent sockets and marks; source ports below 1024.
const KEPT: [Capability; 2] = [Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE];

/// Gives up every other capability for good, children included.
///
/// # Errors
/// Where the kernel refuses; the proxy must not go on with more than it needs.
pub(crate) fn drop_others() -> Result<(), CapsError> {
    let mut kept: HashSet<Capability> = KEPT.into();
    let kernel = kernel_version();
    if kernel < (5, 17) {
        // SO_MARK asks for this one there.
        kept.insert(Capability::CAP_NET_ADMIN);
    }
    if maps_need_bpf(kernel) {
        kept.insert(Capability::CAP_BPF);
    }
    let held = caps::read(None, CapSet::Permitted)?;
    kept.retain(|capability| held.contains(capability));
    caps::clear(None, CapSet::Ambient)?;
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)? {
            if !kept.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    caps::set(None, CapSet::Inheritable, &HashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    nix::sys::prctl::set_no_new_privs().map_err(|errno| CapsError::from(errno.to_string()))
}

/// Since Linux 6.5 a map's descriptor is all that reading and writing it takes. Before, a system
/// that forbids unprivileged bpf() asks for the capability at each call.
fn maps_need_bpf(kernel: (u32, u32)) -> bool {
    let unprivileged = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    if unprivileged.is_ok_and(|value| value.trim() == "0") {
        return false;
    }
    kernel < (6, 5)
}

/// (0, 0) where it cannot be read, as the oldest one.
fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
