//! ICMP errors about a known flow follow that flow's verdict.

use tektin_abi::{
    DropReason,
    conntrack::{Standing, settled},
    maps::{CT_LAYOUT, FlowKey, drop, hook, mark},
    packet::{Kind, Packet},
};

use crate::{event::Action, maps::CT, skb::Skb};

/// `None`: no error, or about nothing that is known; it is judged as a message of its own.
#[inline(always)]
pub(crate) fn follow(skb: Skb, packet: &Packet, at: u8, revision: u32, now: u64) -> Option<Action> {
    if !matches!(packet.kind, Kind::IcmpError) {
        return None;
    }
    let (outer, inner) = (&packet.keys.forward, &packet.quoted.forward);
    // An error goes to the sender of what it quotes.
    if outer.dst != inner.src {
        return Some(Action::drop(DropReason(drop::INVALID_PACKET)));
    }
    // A workload is no router: it may complain only about what was sent to itself.
    if at == hook::FROM_WORKLOAD && outer.src != inner.dst {
        return None;
    }
    let standing = match of_flow(inner, revision, now) {
        Some(standing) => standing,
        None if packet.quoted.reverse.proto != 0 => of_flow(&packet.quoted.reverse, revision, now)?,
        None => return None,
    };
    Some(match standing {
        Standing::Pass => Action::PASS,
        Standing::Proxied if at != hook::TO_WORKLOAD => {
            // The flow ends in a local socket, although its address is elsewhere.
            skb.set_mark(mark::TO_PROXY);
            Action::TO_PROXY
        }
        Standing::Proxied => Action::drop(DropReason(drop::NOT_FROM_PROXY)),
        Standing::Drop(reason) => Action::drop(reason),
        Standing::Absent | Standing::Stale => return None,
    })
}

#[inline(always)]
fn of_flow(flow: &FlowKey, revision: u32, now: u64) -> Option<Standing> {
    // SAFETY: only read; a torn value fails closed at the next packet of the flow.
    let entry = unsafe { CT.get(flow) }?;
    if entry.layout != CT_LAYOUT || now > entry.expires_ns || entry.revision != revision {
        return None;
    }
    Some(settled(entry))
}
