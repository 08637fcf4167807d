//! Hands packets to the sockets of the proxy.

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, bpf_sock},
    cty::c_void,
    helpers::{bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_fullsock, bpf_sk_release, bpf_skc_lookup_tcp},
};
use tektin_abi::{
    DropReason,
    maps::*,
    packet::{Packet, is_v4_mapped},
};

use crate::{
    maps::{LISTENERS, STEERED, VERDICTS},
    skb::Skb,
};

const TCP_ESTABLISHED: u32 = 1;
const TCP_TIME_WAIT: u32 = 6;
const TCP_LISTEN: u32 = 10;

/// What became of a packet that belongs to a proxied flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// To a socket of its own connection.
    Done,
    /// There is none.
    NoSocket,
    /// A new beginning meets what an earlier connection of the same ports left in TIME_WAIT.
    Waiting,
    Failed,
}

/// Whether only sockets that bear the proxy's mark count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    AnySocket,
    MarkedSocket,
}

/// Gives the packet to the socket of its own connection, if one exists in this network namespace.
#[inline(always)]
pub(crate) fn to_existing(skb: Skb, packet: &Packet, trust: Trust) -> Delivery {
    // SAFETY: `tuple` is laid out as bpf_sock_tuple; a found socket is released on every path.
    unsafe {
        let sk = lookup(skb, &packet.keys.forward);
        if sk.is_null() {
            return Delivery::NoSocket;
        }
        let state = (*sk).state;
        // A listener is not this connection's. What is in TIME_WAIT answers all but a new beginning.
        let waiting = state == TCP_TIME_WAIT;
        if state == TCP_LISTEN || (waiting && packet.opens_connection()) {
            bpf_sk_release(sk.cast());
            return if waiting { Delivery::Waiting } else { Delivery::NoSocket };
        }
        if trust == Trust::MarkedSocket {
            let full = bpf_sk_fullsock(sk);
            let marked = !full.is_null() && (*full).mark & mark::MASK == mark::FROM_PROXY;
            if !marked {
                bpf_sk_release(sk.cast());
                return Delivery::NoSocket;
            }
        }
        // Reassembly and TIME_WAIT find their socket by the addresses: the mark brings them there. So
        // does the kernel's early look for an established connection, which finds its route with it:
        // a packet with a socket assigned would be routed once more.
        let established = state == TCP_ESTABLISHED && !packet.opens_connection();
        let failed = if waiting || established || packet.is_fragment() {
            false
        } else {
            bpf_sk_assign(skb.raw.cast(), sk.cast(), 0) != 0
        };
        bpf_sk_release(sk.cast());
        if failed {
            return Delivery::Failed;
        }
    }
    skb.set_mark(mark::TO_PROXY);
    Delivery::Done
}

/// The socket that the packet's addresses lead to; to be released. Runs sk_lookup programs.
#[inline(always)]
unsafe fn lookup(skb: Skb, flow: &FlowKey) -> *mut bpf_sock {
    // Both ports as they lie in memory, the source first (bpfel is little-endian).
    let ports = u32::from(flow.dport.to_be()) << 16 | u32::from(flow.sport.to_be());
    let netns = BPF_F_CURRENT_NETNS as i64 as u64;
    // SAFETY: the caller's.
    unsafe {
        if is_v4_mapped(&flow.src) {
            let mut tuple = [word(&flow.src, 12), word(&flow.dst, 12), ports];
            bpf_skc_lookup_tcp(skb.raw.cast(), tuple.as_mut_ptr().cast(), 12, netns, 0)
        } else {
            let (s, d) = (&flow.src, &flow.dst);
            let mut tuple = [
                word(s, 0),
                word(s, 4),
                word(s, 8),
                word(s, 12),
                word(d, 0),
                word(d, 4),
                word(d, 8),
                word(d, 12),
                ports,
            ];
            bpf_skc_lookup_tcp(skb.raw.cast(), tuple.as_mut_ptr().cast(), 36, netns, 0)
        }
    }
}

/// Four octets as they lie in memory.
#[inline(always)]
pub(crate) fn word(addr: &Addr, at: usize) -> u32 {
    u32::from_ne_bytes([addr[at], addr[at + 1], addr[at + 2], addr[at + 3]])
}

/// Writes down why a connection goes to the proxy, unless the proxy asked to hold such ones.
#[inline(always)]
pub(crate) fn announce(flow: &FlowKey, entry: &CtValue, now: u64) -> Result<(), DropReason> {
    let pair = VerdictKey {
        src_identity: entry.src_identity,
        dst_identity: entry.dst_identity,
        dport: flow.dport,
        proto: flow.proto,
        _pad: 0,
    };
    // SAFETY: one 8-octet read.
    if let Some(verdict) = unsafe { VERDICTS.get(pair) }
        && now < verdict.drop_until_ns
    {
        return Err(DropReason(drop::VERDICT_HOLD));
    }
    let why = SteeredValue {
        src_identity: entry.src_identity,
        dst_identity: entry.dst_identity,
        src_endpoint: entry.src_endpoint,
        dst_endpoint: entry.dst_endpoint,
        egress_rule: entry.egress_rule,
        ingress_rule: entry.ingress_rule,
        egress_action: entry.egress_action,
        ingress_action: entry.ingress_action,
        _pad: [0; 2],
        revision: entry.revision,
    };
    STEERED.insert(flow, why, 0).map_err(|_| DropReason(drop::MAP_FULL))
}

/// Assigns a listener to `ctx` (a packet or a socket look-up): the flow's own by hash, or the next
/// one that is there.
#[inline(always)]
pub(crate) fn to_listener(ctx: *mut c_void, flow: &FlowKey, listeners: u32) -> Result<(), DropReason> {
    let base = if is_v4_mapped(&flow.dst) { 0 } else { LISTENERS_V6 };
    let slots = listeners.min(LISTENERS_V6);
    if slots == 0 {
        return Err(DropReason(drop::NO_PROXY));
    }
    let hash = hash(flow);
    for step in 0..LISTENERS_V6 {
        if step >= slots {
            break;
        }
        let slot = base + hash.wrapping_add(step) % slots;
        // SAFETY: the map is a SOCKMAP, whose values are sockets; a found one is released.
        unsafe {
            let map = (&raw const LISTENERS).cast_mut().cast::<c_void>();
            let sk = bpf_map_lookup_elem(map, (&raw const slot).cast());
            if !sk.is_null() {
                let failed = bpf_sk_assign(ctx, sk, 0) != 0;
                bpf_sk_release(sk);
                if failed {
                    return Err(DropReason(drop::ASSIGN_FAILED));
                }
                return Ok(());
            }
        }
    }
    Err(DropReason(drop::NO_PROXY))
}

/// Spreads flows over listeners; not secret, a workload may choose its thread.
#[inline(always)]
fn hash(flow: &FlowKey) -> u32 {
    let ports = u32::from(flow.sport) << 16 | u32::from(flow.dport);
    let mut mixed = word(&flow.src, 12) ^ word(&flow.dst, 12).rotate_left(16) ^ ports;
    // Every bit must count in the low ones: clients take even ports only, and those are the high half.
    for (shift, factor) in [(16, 0x85eb_ca6b_u32), (13, 0xc2b2_ae35)] {
        mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
    }
    mixed ^ (mixed >> 16)
}
