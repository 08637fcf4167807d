//! Events for the agent, and the end of a packet's way through a program.

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC};
use tektin_abi::{DropReason, conntrack::SECOND_NS, maps::*, packet};

use crate::{
    maps::{EVENTS, Scratch, THROTTLE, count, precise_now},
    skb::Skb,
};

/// What a hook does with a packet. Both fields are always set: the unset half of an enum would be an
/// unset register to the kernel's verifier, which refuses to copy it.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Action {
    verb: Verb,
    reason: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Pass,
    HandedOver,
    ToProxy,
    Drop,
    DropReported,
    Ignore,
}

impl Action {
    pub(crate) const PASS: Self = Self { verb: Verb::Pass, reason: drop::NONE };
    /// The kernel was told into which namespace it goes.
    pub(crate) const HANDED_OVER: Self = Self { verb: Verb::HandedOver, reason: drop::NONE };
    /// To a local socket of the proxy: marked, and assigned where that is possible.
    pub(crate) const TO_PROXY: Self = Self { verb: Verb::ToProxy, reason: drop::NONE };
    /// Drop without counting: noise.
    pub(crate) const IGNORE: Self = Self { verb: Verb::Ignore, reason: drop::NONE };

    /// Drop, and report it unless that was done within this second.
    #[inline(always)]
    pub(crate) fn drop(DropReason(reason): DropReason) -> Self {
        Self { verb: Verb::Drop, reason }
    }

    /// Drop; what is to be reported was.
    #[inline(always)]
    pub(crate) fn drop_reported(DropReason(reason): DropReason) -> Self {
        Self { verb: Verb::DropReported, reason }
    }

    #[inline(always)]
    pub(crate) fn passes(self) -> bool {
        matches!(self.verb, Verb::Pass | Verb::HandedOver | Verb::ToProxy)
    }
}

/// Counts, reports and turns the action into tc's code.
#[inline(always)]
pub(crate) fn finish(skb: Skb, area: &mut Scratch, hook: u8, action: Action, now: u64) -> i32 {
    match action.verb {
        Verb::Pass => {
            count(metric::FORWARDED);
            // Not OK: other programs on this hook get their turn.
            TC_ACT_UNSPEC
        }
        Verb::HandedOver => {
            count(metric::FORWARDED);
            TC_ACT_REDIRECT
        }
        Verb::ToProxy => TC_ACT_OK,
        Verb::Drop => {
            count(u32::from(action.reason));
            report_throttled(skb, area, hook, DropReason(action.reason), now);
            TC_ACT_SHOT
        }
        Verb::DropReported => {
            count(u32::from(action.reason));
            TC_ACT_SHOT
        }
        Verb::Ignore => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn report_throttled(skb: Skb, area: &mut Scratch, hook: u8, reason: DropReason, now: u64) {
    area.throttle.flow = area.packet.keys.forward;
    area.throttle.ifindex = skb.ifindex();
    area.throttle.reason = reason.0;
    area.throttle._pad = [0; 3];
    if let Some(last) = THROTTLE.get_ptr_mut(&area.throttle) {
        // SAFETY: a live map value; a race costs one event more.
        unsafe {
            if now < *last + SECOND_NS {
                return;
            }
            *last = now;
        }
    } else if THROTTLE.insert(&area.throttle, &now, 0).is_err() {
        // Nowhere to remember it: better one event too many.
    }
    report(skb, area, &area.packet.keys.forward, (hook, event_kind::DROP, reason.0));
}

/// Sends an event about the packet in `area` and the entry there, whose flow is `flow`.
#[inline(always)]
pub(crate) fn report(skb: Skb, area: &Scratch, flow: &FlowKey, (hook, kind, reason): (u8, u8, u8)) {
    let Some(mut slot) = EVENTS.reserve::<Event>(0) else {
        count(metric::EVENT_LOST);
        return;
    };
    let macs = skb.macs().unwrap_or([0; 12]);
    let parsed = &area.packet;
    let event = slot.as_mut_ptr();
    // SAFETY: the reservation is an Event's size and alignment, and every field is written.
    unsafe {
        describe(event, flow, &area.entry, (hook, kind, reason));
        (*event).ifindex = skb.ifindex();
        (*event).len = skb.len();
        (*event).tcp_flags = parsed.tcp_flags;
        (*event).icmp_type = parsed.icmp_type;
        (*event).icmp_code = parsed.icmp_code;
        (*event).dst_mac = [macs[0], macs[1], macs[2], macs[3], macs[4], macs[5]];
        (*event).src_mac = [macs[6], macs[7], macs[8], macs[9], macs[10], macs[11]];
    }
    slot.submit(0);
}

/// Sends an event about a host process's SYN, of which no packet is at hand.
#[inline(always)]
pub(crate) fn report_lookup(flow: &FlowKey, entry: &CtValue, ifindex: u32, reason: u8) {
    let Some(mut slot) = EVENTS.reserve::<Event>(0) else {
        count(metric::EVENT_LOST);
        return;
    };
    let kind = if reason == drop::NONE { event_kind::NEW } else { event_kind::DROP };
    let event = slot.as_mut_ptr();
    // SAFETY: the reservation is an Event's size and alignment, and every field is written.
    unsafe {
        describe(event, flow, entry, (hook::SK_LOOKUP, kind, reason));
        (*event).ifindex = ifindex;
        (*event).len = 0;
        (*event).tcp_flags = packet::tcp::SYN;
        (*event).icmp_type = 0;
        (*event).icmp_code = 0;
        (*event).dst_mac = [0; 6];
        (*event).src_mac = [0; 6];
    }
    slot.submit(0);
}

/// Writes what every event has.
///
/// # Safety
/// `event` is valid for writing.
#[inline(always)]
unsafe fn describe(event: *mut Event, flow: &FlowKey, entry: &CtValue, (hook, kind, reason): (u8, u8, u8)) {
    // SAFETY: the caller's.
    unsafe {
        (*event).time_ns = precise_now();
        (*event).flow = *flow;
        (*event).src_identity = entry.src_identity;
        (*event).dst_identity = entry.dst_identity;
        (*event).src_endpoint = entry.src_endpoint;
        (*event).dst_endpoint = entry.dst_endpoint;
        (*event).egress_rule = entry.egress_rule;
        (*event).ingress_rule = entry.ingress_rule;
        (*event).kind = kind;
        (*event).reason = reason;
        (*event).egress_action = entry.egress_action;
        (*event).ingress_action = entry.ingress_action;
        (*event).hook = hook;
        (*event).revision = entry.revision;
    }
}
