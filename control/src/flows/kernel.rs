//! From the kernel's ring buffer to records.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use tektin_abi::maps::{Addr, Event, drop, event_kind, hook, proto};

use super::{
    decision::deciding,
    drops,
    record::{Action, Decision, End, FlowRecord, Hook, Icmp, L4, Layer, Mac, Protocol, TcpFlags, Verdict},
    resolve::{Direction, Resolve},
};

mod reader;

pub use reader::{spawn_loss_count, spawn_reader};

/// Distance from CLOCK_MONOTONIC to the wall clock, ns. Taken anew for each batch of events, so
/// that a step of the wall clock shows in the next records.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    offset_ns: i128,
}

impl WallClock {
    #[must_use]
    pub fn now() -> Self {
        let ns = |clock| {
            let time = clock_gettime(clock);
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        Self { offset_ns: ns(ClockId::Realtime) - ns(ClockId::Monotonic) }
    }

    fn at(self, monotonic_ns: u64) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(monotonic_ns) + self.offset_ns).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The record of one event.
#[must_use]
pub fn record(event: &Event, clock: WallClock, resolve: &dyn Resolve) -> FlowRecord {
    let judged = |endpoint, direction, action, rule| {
        if drops::policy_was_asked(event.reason) {
            Decision::new(resolve, endpoint, direction, Action::from_number(action), rule)
        } else {
            Decision::not_asked()
        }
    };
    let egress = judged(event.src_endpoint, Direction::Egress, event.egress_action, event.egress_rule);
    let ingress = judged(event.dst_endpoint, Direction::Ingress, event.ingress_action, event.ingress_rule);
    let verdict = verdict(event);
    FlowRecord {
        time: clock.at(event.time_ns),
        node: resolve.node(),
        layer: Layer::L4,
        verdict,
        reason: if verdict == Verdict::Dropped { drops::text(event.reason).into() } else { Arc::default() },
        source: end(
            resolve,
            event.src_identity,
            event.src_endpoint,
            event.flow.src,
            source_port(event),
            event.src_mac,
        ),
        destination: end(
            resolve,
            event.dst_identity,
            event.dst_endpoint,
            event.flow.dst,
            destination_port(event),
            event.dst_mac,
        ),
        l4: L4 {
            protocol: Protocol::from_number(event.flow.proto),
            flags: TcpFlags(event.tcp_flags),
            icmp: is_icmp(event).then_some(Icmp { kind: event.icmp_type, code: event.icmp_code }),
        },
        http: None,
        grpc: None,
        kafka: None,
        hook: match event.hook {
            hook::FROM_WORKLOAD => Some(Hook::FromWorkload),
            hook::TO_WORKLOAD => Some(Hook::ToWorkload),
            hook::FROM_OUTSIDE => Some(Hook::FromOutside),
            hook::SK_LOOKUP => Some(Hook::SkLookup),
            _ => None,
        },
        rule: deciding(verdict, &egress, &ingress),
        egress,
        ingress,
        revision: event.revision,
        length: event.len,
    }
}

/// An event that is not plainly a pass is a drop.
fn verdict(event: &Event) -> Verdict {
    let actions = [event.egress_action, event.ingress_action].map(Action::from_number);
    let passes = matches!(event.kind, event_kind::NEW | event_kind::CHANGED) && event.reason == drop::NONE;
    if !passes || actions.contains(&Action::Deny) {
        Verdict::Dropped
    } else if actions.contains(&Action::Redirect) {
        Verdict::Redirected
    } else {
        Verdict::Forwarded
    }
}

fn is_icmp(event: &Event) -> bool {
    matches!(event.flow.proto, proto::ICMP | proto::ICMPV6)
}

/// The flow key of ICMP carries identifier and type in the place of ports.
fn source_port(event: &Event) -> u16 {
    if is_icmp(event) { 0 } else { event.flow.sport }
}

fn destination_port(event: &Event) -> u16 {
    if is_icmp(event) { 0 } else { event.flow.dport }
}

fn end(resolve: &dyn Resolve, identity: u32, endpoint: u32, addr: Addr, port: u16, mac: [u8; 6]) -> End {
    End {
        mac: (mac != [0; 6]).then_some(Mac(mac)),
        ..named_end(resolve, identity, endpoint, Some(address(addr)), port)
    }
}

/// An end by its numbers; what is not known stays empty.
#[must_use]
pub fn named_end(resolve: &dyn Resolve, identity: u32, endpoint: u32, ip: Option<IpAddr>, port: u16) -> End {
    let name = (endpoint != 0).then(|| resolve.endpoint(endpoint)).flatten();
    let (name, namespace) = name.map(|name| (name.name, name.namespace)).unwrap_or_default();
    let labels = resolve.identity_labels(identity).unwrap_or_default();
    End { identity, labels, endpoint, name, namespace, ip, port, mac: None }
}

/// Undoes the v4-mapped form.
#[must_use]
pub fn address(addr: Addr) -> IpAddr {
    IpAddr::from(addr).to_canonical()
}

#[cfg(test)]
mod tests;
