//! The policy maps as `tektin_abi::judge` wants them, and who is at an address.

use aya_ebpf::maps::lpm_trie::Key;
use tektin_abi::{
    antispoof,
    judge::{End, Tables},
    maps::*,
};

use crate::maps::{IPCACHE, PEER_CLASS, POLICY, POLICY_ROOT};

pub(crate) struct KernelTables;

impl Tables for KernelTables {
    #[inline(always)]
    fn policy_root(&self, endpoint: u32) -> Option<PolicyRoot> {
        // One 8-octet load, as the agent writes it in one store: never half of each policy.
        let root = POLICY_ROOT.get_ptr(endpoint)?.cast::<u64>();
        // SAFETY: the value is 8 octets, aligned to 8, and lives as long as the map.
        let both = unsafe { core::ptr::read_volatile(root) }.to_le_bytes();
        Some(PolicyRoot {
            ingress: u32::from_le_bytes([both[0], both[1], both[2], both[3]]),
            egress: u32::from_le_bytes([both[4], both[5], both[6], both[7]]),
        })
    }

    #[inline(always)]
    fn peer_class(&self, policy: u32, identity: u32) -> u32 {
        // SAFETY: 4 octets that are never changed in place while their policy is in force.
        unsafe { PEER_CLASS.get(PeerClassKey { policy, identity }) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        // SAFETY: the two types are the same 16 octets, a length and what it is the length of.
        unsafe { POLICY.get(&*core::ptr::from_ref(key).cast::<Key<[u8; 12]>>()) }.copied()
    }
}

/// Who is at `addr`, by the ipcache.
#[inline(always)]
pub(crate) fn end_at(addr: &Addr) -> End {
    let key = IpcacheKey { prefix_len: 128, addr: *addr };
    // SAFETY: the two types are the same 20 octets; ours is aligned, so that it is copied by words.
    let found = unsafe { IPCACHE.get(&*(&raw const key).cast::<Key<Addr>>()) };
    match found {
        Some(value) => End { identity: value.identity, endpoint: value.endpoint },
        None => End { identity: identity::UNKNOWN, endpoint: 0 },
    }
}

/// Who is at `addr`, `local` being known already.
#[inline(always)]
pub(crate) fn end_of(addr: &Addr, local: Option<&EndpointValue>) -> End {
    match local {
        Some(endpoint) if antispoof::is_own(addr, endpoint) => {
            End { identity: endpoint.identity, endpoint: endpoint.id }
        }
        // On a workload's link there is nobody else but this host.
        Some(_) if antispoof::is_link_local(addr) => End { identity: identity::HOST, endpoint: 0 },
        _ => end_at(addr),
    }
}
