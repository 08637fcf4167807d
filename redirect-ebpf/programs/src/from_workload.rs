//! tc ingress of a host-side veth: everything that a workload sends.

use tektin_abi::{
    DropReason,
    antispoof::{self, Claim},
    maps::{drop, hook, identity},
};

use crate::{
    event::{Action, finish},
    maps::{ENDPOINTS, Scratch, now, scratch},
    pipeline::{self, Run},
    skb::Skb,
    tables::end_at,
};

#[inline(always)]
pub(crate) fn run(skb: Skb) -> i32 {
    let Some(area) = scratch() else { return aya_ebpf::bindings::TC_ACT_SHOT };
    let now = now();
    let action = decide(skb, area, now);
    finish(skb, area, hook::FROM_WORKLOAD, action, now)
}

#[inline(always)]
fn decide(skb: Skb, area: &mut Scratch, now: u64) -> Action {
    // A mark made by the workload must mean nothing here.
    skb.set_mark(0);
    area.entry = Default::default();
    let parsed = skb.parse(&mut area.packet);
    // SAFETY: the agent replaces values as a whole.
    let Some(endpoint) = (unsafe { ENDPOINTS.get(skb.ifindex()) }) else {
        return Action::drop(DropReason(drop::UNKNOWN_ENDPOINT));
    };
    area.entry.src_identity = endpoint.identity;
    area.entry.src_endpoint = endpoint.id;
    if skb.has_vlan() {
        return Action::drop(DropReason(drop::UNSUPPORTED_L3));
    }
    if let Err(reason) = parsed {
        return Action::drop(reason);
    }
    let Some(source) = skb.source_mac() else { return Action::drop(DropReason(drop::INVALID_PACKET)) };
    match antispoof::check(&area.packet, &source, endpoint) {
        Claim::Genuine => {}
        Claim::Link => return Action::PASS,
        Claim::LinkToHost if end_at(&area.packet.keys.forward.dst).identity == identity::HOST => {
            return Action::PASS;
        }
        Claim::LinkToHost => return Action::drop(DropReason(drop::INVALID_DESTINATION)),
        Claim::Noise => return Action::IGNORE,
        Claim::Refused(reason) => return Action::drop(reason),
    }
    let run = Run { skb, hook: hook::FROM_WORKLOAD, local: Some(endpoint), now };
    pipeline::decide(&run, area)
}
