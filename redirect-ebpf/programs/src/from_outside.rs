//! tc ingress of every device that is not a workload's: the uplinks.
//!
//! Sees all of the node's traffic, so whatever concerns no local endpoint leaves after two
//! look-ups, untouched.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use tektin_abi::{
    DropReason,
    maps::{drop, hook, identity, v4_mapped},
    packet::{Bytes, Kind, ethertype},
};

use crate::{
    event::{Action, finish},
    maps::{Scratch, now, scratch},
    pipeline::{self, Run},
    skb::Skb,
    tables::end_at,
};

#[inline(always)]
pub(crate) fn run(skb: Skb) -> i32 {
    match skb.vlan() {
        // A tagged frame comes again on its VLAN device.
        Some(1..) => return TC_ACT_UNSPEC,
        // A priority tag names no VLAN: the kernel takes the frame as if it had none. It would do
        // so with another tag behind this one, which these programs do not look behind.
        Some(0) if matches!(skb.ether_type(), ethertype::VLAN | ethertype::SERVICE_VLAN) => {
            return TC_ACT_SHOT;
        }
        Some(0) | None => {}
    }
    let Some(area) = scratch() else { return TC_ACT_SHOT };
    let flow = &mut area.packet.keys.forward;
    let read = match skb.ether_type() {
        ethertype::IPV4 => skb.load::<8>(12).map(|ends| {
            flow.src = v4_mapped([ends[0], ends[1], ends[2], ends[3]]);
            flow.dst = v4_mapped([ends[4], ends[5], ends[6], ends[7]]);
        }),
        ethertype::IPV6 => skb.read(8, &mut flow.src).and(skb.read(24, &mut flow.dst)),
        _ => None,
    };
    if read.is_none() {
        return TC_ACT_UNSPEC;
    }
    let (src, dst) = (end_at(&flow.src), end_at(&flow.dst));
    let own_source = src.endpoint != 0 || src.identity == identity::HOST;
    if !own_source && dst.endpoint == 0 {
        return TC_ACT_UNSPEC;
    }
    let now = now();
    area.entry = Default::default();
    (area.entry.src_identity, area.entry.src_endpoint) = (src.identity, src.endpoint);
    (area.entry.dst_identity, area.entry.dst_endpoint) = (dst.identity, dst.endpoint);
    let action = decide(skb, area, own_source, now);
    finish(skb, area, hook::FROM_OUTSIDE, action, now)
}

#[inline(always)]
fn decide(skb: Skb, area: &mut Scratch, own_source: bool, now: u64) -> Action {
    let parsed = skb.parse(&mut area.packet);
    match (parsed, area.packet.kind) {
        // Before anything else, so that these words of the link are not taken for spoofing: the
        // host's link-local addresses are its own on every link.
        (Ok(()), Kind::Nd | Kind::Mld) => return Action::PASS,
        _ if own_source => return Action::drop(DropReason(drop::SPOOFED_SOURCE_IP)),
        (Err(reason), _) => return Action::drop(reason),
        _ => {}
    }
    skb.set_mark(0);
    let run = Run { skb, hook: hook::FROM_OUTSIDE, local: None, now };
    pipeline::decide(&run, area)
}
