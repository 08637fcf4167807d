//! tc egress of a host-side veth: everything that a workload is sent.
//!
//! Most of it was judged where it entered the node. What was not comes from the host itself or
//! from a device without `from_outside`, and is judged here. L7 needs the proxy, and it is too late
//! to steer: such flows pass only from the proxy's own sockets.

use tektin_abi::{
    DropReason, antispoof,
    maps::{drop, hook},
    packet::Kind,
};

use crate::{
    event::{Action, finish},
    maps::{ENDPOINTS, Scratch, now, scratch},
    pipeline::{self, Run},
    skb::Skb,
};

#[inline(always)]
pub(crate) fn run(skb: Skb) -> i32 {
    let Some(area) = scratch() else { return aya_ebpf::bindings::TC_ACT_SHOT };
    let now = now();
    let action = decide(skb, area, now);
    finish(skb, area, hook::TO_WORKLOAD, action, now)
}

#[inline(always)]
fn decide(skb: Skb, area: &mut Scratch, now: u64) -> Action {
    area.entry = Default::default();
    let parsed = skb.parse(&mut area.packet);
    // SAFETY: the agent replaces values as a whole.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(skb.ifindex()) }) else {
        return Action::drop(DropReason(drop::UNKNOWN_ENDPOINT));
    };
    area.entry.dst_identity = endpoint.identity;
    area.entry.dst_endpoint = endpoint.id;
    if let Err(reason) = parsed {
        return Action::drop(reason);
    }
    match area.packet.kind {
        // The host's own kernel, looking for its neighbour.
        Kind::Arp | Kind::Nd => return Action::PASS,
        Kind::Mld => return Action::IGNORE,
        _ => {}
    }
    if !antispoof::is_own(&area.packet.keys.forward.dst, endpoint) {
        return Action::drop(DropReason(drop::INVALID_DESTINATION));
    }
    let run = Run { skb, hook: hook::TO_WORKLOAD, local: Some(endpoint), now };
    pipeline::decide(&run, area)
}
