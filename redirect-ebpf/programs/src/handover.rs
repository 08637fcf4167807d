//! Hands a packet over to the workload that it is for: out of one network namespace of this node
//! into another, past the node's own stack and past `to_workload`. Both ends' verdicts are in the
//! connection's entry already.

use aya_ebpf::{
    bindings::{BPF_F_RECOMPUTE_CSUM, TC_ACT_REDIRECT},
    helpers::{bpf_redirect_peer, bpf_skb_store_bytes},
};
use tektin_abi::{
    handover::{checksum_after_hop, may_hand_over},
    maps::DeviceValue,
    packet::{Bytes as _, Packet, is_v4_mapped},
};

use crate::{
    event::Action,
    maps::{DEVICES, KERNEL},
    skb::Skb,
};

const TTL: u32 = 8;
const HOP_LIMIT: u32 = 7;

#[inline(always)]
fn device(endpoint: u32) -> Option<&'static DeviceValue> {
    // SAFETY: read-only data; volatile, because the loader writes it after compilation.
    if endpoint == 0 || unsafe { core::ptr::read_volatile(&raw const KERNEL.redirect_peer) } == 0 {
        return None;
    }
    DEVICES.get(endpoint)
}

/// Whether the agent says how packets get to that endpoint.
#[inline(always)]
pub(crate) fn is_open(endpoint: u32) -> bool {
    device(endpoint).is_some_and(|device| device.ifindex != 0)
}

/// The packet, one hop further, to the endpoint; `PASS` where the node's stack has to see to it.
#[inline(always)]
pub(crate) fn to_endpoint(skb: Skb, packet: &Packet, endpoint: u32) -> Action {
    let Some(device) = device(endpoint) else { return Action::PASS };
    if !skb.is_for_host() || !may_hand_over(packet, device, skb.size()) {
        return Action::PASS;
    }
    if hop(skb, packet, device).is_none() {
        return Action::PASS;
    }
    // SAFETY: no pointers. The device is looked up when the program has ended; a packet for one that
    // is gone is dropped.
    let redirected = unsafe { bpf_redirect_peer(device.ifindex, 0) };
    if redirected == i64::from(TC_ACT_REDIRECT) { Action::HANDED_OVER } else { Action::PASS }
}

/// What forwarding changes in a packet: both MACs and the hop limit. The first store makes the header
/// writable or fails; the others succeed after it.
#[inline(always)]
fn hop(skb: Skb, packet: &Packet, device: &DeviceValue) -> Option<()> {
    let (to, from) = (&device.mac, &device.host_mac);
    let macs =
        [to[0], to[1], to[2], to[3], to[4], to[5], from[0], from[1], from[2], from[3], from[4], from[5]];
    const ETHERNET: u32 = tektin_abi::packet::ETHERNET_LEN;
    if is_v4_mapped(&packet.keys.forward.dst) {
        // A sum over a valid header is the same before and after: nothing to recompute.
        let [_, protocol, high, low] = skb.load::<4>(TTL)?;
        let [high, low] = checksum_after_hop(u16::from_be_bytes([high, low])).to_be_bytes();
        store(skb, ETHERNET + TTL, &[packet.hop_limit - 1, protocol, high, low], 0)?;
    } else {
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        store(skb, ETHERNET + HOP_LIMIT, &[packet.hop_limit - 1], flags)?;
    }
    store(skb, 0, &macs, 0)
}

#[inline(always)]
fn store<const N: usize>(skb: Skb, offset: u32, octets: &[u8; N], flags: u64) -> Option<()> {
    // SAFETY: the helper reads N octets, and checks the offset.
    let result =
        unsafe { bpf_skb_store_bytes(skb.raw.cast(), offset, octets.as_ptr().cast(), N as u32, flags) };
    (result == 0).then_some(())
}
