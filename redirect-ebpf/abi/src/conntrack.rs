//! The life of a connection entry: when it speaks for a packet, how packets change it, and what a
//! judgement makes of it.

use crate::{
    DropReason,
    judge::{End, Judgement, Verdict},
    maps::{CT_LAYOUT, CtValue, FlowKey, ct_flag, drop, identity, proto},
    packet::{Packet, tcp},
};

pub const SECOND_NS: u64 = 1_000_000_000;
/// A TCP flow nobody has answered yet.
pub const SYN_NS: u64 = 60 * SECOND_NS;
pub const ESTABLISHED_NS: u64 = 6 * 3600 * SECOND_NS;
/// After RST, or FIN from both ends.
pub const CLOSING_NS: u64 = 10 * SECOND_NS;
/// UDP and SCTP.
pub const DATAGRAM_NS: u64 = 60 * SECOND_NS;
pub const ICMP_NS: u64 = 30 * SECOND_NS;
/// A flow refused from its start: long enough that a flood costs one look-up a packet.
pub const DENIED_NS: u64 = 10 * SECOND_NS;
/// Ports of a first fragment are remembered this long, as Linux keeps a half-assembled datagram.
pub const FRAGMENT_NS: u64 = 30 * SECOND_NS;

/// Which end of the entry's flow sent the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Reply,
}

/// What an entry says about a packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it is over, or the packet begins a flow of its own.
    Absent,
    /// It was judged under another revision: judge the flow again.
    Stale,
    Pass,
    /// To a socket of the proxy, or from one.
    Proxied,
    Drop(DropReason),
}

/// The device that a packet passes while an entry is asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// Sent by the endpoint of this id.
    From(u32),
    /// On its way to the endpoint of this id.
    To(u32),
    /// No endpoint's device.
    Elsewhere,
}

/// Whether the entry was made for the endpoint at whose device the packet is. It was not where the
/// address was nobody's, or somebody else's, when the flow was judged.
#[inline(always)]
fn concerns(entry: &CtValue, direction: Direction, passing: Passing) -> bool {
    match (passing, direction) {
        (Passing::From(id), Direction::Forward) | (Passing::To(id), Direction::Reply) => {
            entry.src_endpoint == id
        }
        (Passing::From(id), Direction::Reply) | (Passing::To(id), Direction::Forward) => {
            entry.dst_endpoint == id
        }
        (Passing::Elsewhere, _) => true,
    }
}

/// What `entry`, found under the packet's forward or reverse key, says about it.
#[inline(always)]
pub fn standing(
    entry: &CtValue,
    direction: Direction,
    passing: Passing,
    packet: &Packet,
    (revision, now): (u32, u64),
) -> Standing {
    if entry.layout != CT_LAYOUT || now > entry.expires_ns {
        return Standing::Absent;
    }
    let stale = entry.revision != revision || !concerns(entry, direction, passing);
    if packet.opens_connection() {
        // A SYN begins anew where the old connection is over, where it comes from the other end,
        // and where what was judged is out of date or was never about a beginning.
        let over = entry.flags & ct_flag::CLOSING != 0;
        let midstream = entry.flags & ct_flag::DENIED != 0
            && !matches!(Judgement::of_entry(entry).verdict(), Verdict::Deny(_));
        if over || stale || midstream || matches!(direction, Direction::Reply) {
            return Standing::Absent;
        }
    }
    if entry.flags & (ct_flag::DENIED | ct_flag::REPLY_SEEN) == ct_flag::DENIED {
        // Nobody received what a reply would answer: it is the other end's own flow. A TCP packet that
        // begins nothing may itself have made the entry, and either end may have begun what it belongs
        // to: once that judgement is out of date, the packet is judged as one that no entry knows.
        let own = match packet.keys.forward.proto {
            proto::TCP => stale,
            _ => matches!(direction, Direction::Reply),
        };
        if own {
            return Standing::Absent;
        }
    }
    if stale {
        return Standing::Stale;
    }
    settled(entry)
}

/// What an entry of the current revision says, whatever the packet.
#[inline(always)]
pub fn settled(entry: &CtValue) -> Standing {
    if entry.flags & ct_flag::DENIED != 0 {
        return Standing::Drop(denial(entry));
    }
    if entry.flags & ct_flag::PROXIED != 0 { Standing::Proxied } else { Standing::Pass }
}

/// Why a denied entry is one.
#[inline(always)]
pub fn denial(entry: &CtValue) -> DropReason {
    match Judgement::of_entry(entry).verdict() {
        Verdict::Deny(reason) => reason,
        _ => DropReason(drop::NEEDS_PROXY_MIDSTREAM),
    }
}

/// Notes a packet that passes: flags and expiry. Skips stores that would change little, because
/// the entry is shared by all CPUs.
#[inline(always)]
pub fn note(entry: &mut CtValue, direction: Direction, packet: &Packet, now: u64) {
    let protocol = packet.keys.forward.proto;
    let mut flags = entry.flags;
    if matches!(direction, Direction::Reply) {
        flags |= ct_flag::REPLY_SEEN;
    }
    if protocol == proto::TCP {
        if packet.tcp_flags & tcp::FIN != 0 {
            flags |= match direction {
                Direction::Forward => ct_flag::FIN_ORIGINATOR,
                Direction::Reply => ct_flag::FIN_RESPONDER,
            };
        }
        let both = ct_flag::FIN_ORIGINATOR | ct_flag::FIN_RESPONDER;
        if packet.tcp_flags & tcp::RST != 0 || flags & both == both {
            flags |= ct_flag::CLOSING;
        }
    }
    let changed = flags != entry.flags;
    if changed {
        entry.flags = flags;
    }
    let expires = now + lifetime(protocol, flags);
    if changed || expires > entry.expires_ns.saturating_add(SECOND_NS) {
        entry.expires_ns = expires;
    }
}

/// Notes a packet that a denied flow goes on sending. A flow that was answered before it was denied
/// stays known while it is alive: forgotten, its next answer would pass for a flow of the other end.
#[inline(always)]
pub fn note_denied(entry: &mut CtValue, protocol: u8, now: u64) {
    if entry.flags & ct_flag::REPLY_SEEN == 0 {
        return;
    }
    let expires = now + lifetime(protocol, entry.flags);
    if expires > entry.expires_ns.saturating_add(SECOND_NS) {
        entry.expires_ns = expires;
    }
}

#[must_use]
#[inline(always)]
fn lifetime(protocol: u8, flags: u8) -> u64 {
    if flags & (ct_flag::DENIED | ct_flag::REPLY_SEEN) == ct_flag::DENIED {
        return DENIED_NS;
    }
    match protocol {
        proto::TCP if flags & ct_flag::CLOSING != 0 => CLOSING_NS,
        proto::TCP if flags & ct_flag::REPLY_SEEN != 0 => ESTABLISHED_NS,
        proto::TCP => SYN_NS,
        proto::ICMP | proto::ICMPV6 => ICMP_NS,
        _ => DATAGRAM_NS,
    }
}

/// Who sent a flow's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A workload, the host, or a device.
    Network,
    /// A socket of the local proxy: the requests in it have been, or will be, judged.
    Proxy,
}

/// What becomes of a flow's first packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// To a listener of the proxy.
    Steer,
    Drop(DropReason),
}

/// Writes the entry of a new flow, over whatever `entry` held, and says what to do.
#[inline(always)]
pub fn open(
    entry: &mut CtValue,
    packet: &Packet,
    (src, dst): (End, End),
    judgement: Judgement,
    sender: Sender,
    (revision, now): (u32, u64),
) -> Admission {
    let (flags, admission) = match (judgement.verdict(), sender) {
        (Verdict::Deny(reason), _) => (ct_flag::DENIED, Admission::Drop(reason)),
        (_, Sender::Proxy) => (ct_flag::PROXIED | ct_flag::FROM_PROXY, Admission::Pass),
        (Verdict::Allow, Sender::Network) => (0, Admission::Pass),
        (Verdict::Redirect, Sender::Network) if packet.opens_connection() => {
            (ct_flag::PROXIED, Admission::Steer)
        }
        // Its beginning went past the proxy, so nobody can say where its requests begin.
        (Verdict::Redirect, Sender::Network) => {
            (ct_flag::DENIED, Admission::Drop(DropReason(drop::NEEDS_PROXY_MIDSTREAM)))
        }
    };
    *entry = CtValue::default();
    entry.layout = CT_LAYOUT;
    entry.flags = flags;
    entry.expires_ns = now + lifetime(packet.keys.forward.proto, flags);
    stamp(entry, (src, dst), judgement, revision);
    admission
}

/// Enters a new judgement of a flow that exists, whose `flow.proto` is its protocol. A flow that
/// was not proxied from its start cannot become so; one that was stays with the proxy, unless an end is
/// [`other`] now.
#[inline(always)]
pub fn rejudge(
    entry: &mut CtValue,
    flow: &FlowKey,
    ends: (End, End),
    judgement: Judgement,
    (revision, now): (u32, u64),
) -> Standing {
    let (src, dst) = (
        End { identity: entry.src_identity, endpoint: entry.src_endpoint },
        End { identity: entry.dst_identity, endpoint: entry.dst_endpoint },
    );
    let estranged = entry.flags & ct_flag::PROXIED != 0 && (other(src, ends.0) || other(dst, ends.1));
    if estranged {
        entry.flags &= !ct_flag::PROXIED;
    }
    let refused = match judgement.verdict() {
        Verdict::Deny(_) => true,
        Verdict::Allow => estranged,
        Verdict::Redirect => entry.flags & ct_flag::PROXIED == 0,
    };
    entry.flags = if refused { entry.flags | ct_flag::DENIED } else { entry.flags & !ct_flag::DENIED };
    entry.expires_ns = now + lifetime(flow.proto, entry.flags);
    stamp(entry, ends, judgement, revision);
    settled(entry)
}

/// Whether an end is somebody else than it was. Far from this node an identity only says which prefixes rules
/// name: it may change while the peer stays who it is, and the proxy looks it up with each new policy.
#[inline(always)]
fn other(before: End, now: End) -> bool {
    let has_a_prefix = |end: End| end.endpoint == 0 && end.identity != identity::HOST;
    (before.identity, before.endpoint) != (now.identity, now.endpoint)
        && !(has_a_prefix(before) && has_a_prefix(now))
}

/// The facts of a judgement alone, for a connection that needs no entry.
#[must_use]
#[inline(always)]
pub fn announcement(src: End, dst: End, judgement: Judgement, revision: u32) -> CtValue {
    let mut entry = CtValue::default();
    stamp(&mut entry, (src, dst), judgement, revision);
    entry
}

#[inline(always)]
fn stamp(entry: &mut CtValue, (src, dst): (End, End), judgement: Judgement, revision: u32) {
    entry.src_identity = src.identity;
    entry.dst_identity = dst.identity;
    entry.src_endpoint = src.endpoint;
    entry.dst_endpoint = dst.endpoint;
    entry.egress_action = judgement.egress_action;
    entry.ingress_action = judgement.ingress_action;
    entry.egress_rule = judgement.egress_rule;
    entry.ingress_rule = judgement.ingress_rule;
    entry.revision = revision;
}

#[cfg(test)]
mod tests;
