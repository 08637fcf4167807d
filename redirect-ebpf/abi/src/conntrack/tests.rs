use proptest::prelude::*;

use super::*;
use crate::{
    maps::action,
    packet::{Bytes as _, build, ethertype},
};

const NOW: u64 = 1_000_000 * SECOND_NS;
const REVISION: u32 = 7;
const ENDS: (End, End) = (End { identity: 256, endpoint: 1 }, End { identity: 257, endpoint: 2 });

fn tcp_packet(flags: u8) -> Packet {
    packet(proto::TCP, &build::tcp(1000, 80, flags))
}

fn packet(protocol: u8, payload: &[u8]) -> Packet {
    let octets = build::ipv4(protocol, 0, &[], payload);
    assert!(octets[..].load::<1>(0).is_some());
    let mut packet = Packet::default();
    packet.parse(&octets[..], ethertype::IPV4).unwrap();
    packet
}

fn judgement(ingress_action: u8) -> Judgement {
    Judgement { egress_action: action::NONE, ingress_action, egress_rule: 0, ingress_rule: 5 }
}

fn opened(packet: &Packet, ingress_action: u8) -> (CtValue, Admission) {
    let mut entry = CtValue::default();
    let admission =
        open(&mut entry, packet, ENDS, judgement(ingress_action), Sender::Network, (REVISION, NOW));
    (entry, admission)
}

fn stands(entry: &CtValue, direction: Direction, packet: &Packet, now: u64) -> Standing {
    standing(entry, direction, Passing::Elsewhere, packet, (REVISION, now))
}

const SYN: u8 = tcp::SYN;
const ACK: u8 = tcp::ACK;

#[test]
fn timeouts_follow_the_connection() {
    let syn = tcp_packet(SYN);
    let (mut entry, admission) = opened(&syn, action::ALLOW);
    assert_eq!(admission, Admission::Pass);
    assert_eq!(entry.expires_ns, NOW + SYN_NS);
    note(&mut entry, Direction::Reply, &tcp_packet(SYN | ACK), NOW + 1);
    assert_eq!(entry.expires_ns, NOW + 1 + ESTABLISHED_NS);
    note(&mut entry, Direction::Forward, &tcp_packet(tcp::FIN | ACK), NOW + 2);
    assert_eq!(entry.flags & ct_flag::CLOSING, 0, "the other end may go on");
    note(&mut entry, Direction::Reply, &tcp_packet(tcp::FIN | ACK), NOW + 3);
    assert_ne!(entry.flags & ct_flag::CLOSING, 0);
    assert_eq!(entry.expires_ns, NOW + 3 + CLOSING_NS);

    for (protocol, payload, lifetime) in [
        (proto::UDP, build::udp(1, 2), DATAGRAM_NS),
        (proto::SCTP, build::sctp(1, 2), DATAGRAM_NS),
        (proto::ICMP, build::icmp(8, 1, b""), ICMP_NS),
    ] {
        let (entry, _) = opened(&packet(protocol, &payload), action::ALLOW);
        assert_eq!(entry.expires_ns, NOW + lifetime);
    }
}

#[test]
fn a_reset_closes() {
    let (mut entry, _) = opened(&tcp_packet(SYN), action::ALLOW);
    note(&mut entry, Direction::Reply, &tcp_packet(tcp::RST | ACK), NOW);
    assert_eq!(entry.expires_ns, NOW + CLOSING_NS);
    assert_eq!(stands(&entry, Direction::Forward, &tcp_packet(ACK), NOW), Standing::Pass);
    assert_eq!(stands(&entry, Direction::Forward, &tcp_packet(SYN), NOW), Standing::Absent);
}

#[test]
fn a_syn_begins_anew_where_the_old_flow_cannot_speak_for_it() {
    let (entry, _) = opened(&tcp_packet(SYN), action::ALLOW);
    let syn = tcp_packet(SYN);
    assert_eq!(stands(&entry, Direction::Forward, &syn, NOW), Standing::Pass, "a retransmission");
    assert_eq!(stands(&entry, Direction::Reply, &syn, NOW), Standing::Absent, "the other end's own");
    assert_eq!(stands(&entry, Direction::Forward, &syn, NOW + SYN_NS + 1), Standing::Absent);
    assert_eq!(
        standing(&entry, Direction::Forward, Passing::Elsewhere, &syn, (REVISION + 1, NOW)),
        Standing::Absent
    );
    assert_eq!(
        standing(&entry, Direction::Forward, Passing::Elsewhere, &tcp_packet(ACK), (REVISION + 1, NOW)),
        Standing::Stale
    );
}

#[test]
fn an_entry_of_another_layout_is_none() {
    let (mut entry, _) = opened(&tcp_packet(SYN), action::ALLOW);
    entry.layout += 1;
    assert_eq!(stands(&entry, Direction::Forward, &tcp_packet(ACK), NOW), Standing::Absent);
}

#[test]
fn denials_hold_for_their_own_direction() {
    let datagram = packet(proto::UDP, &build::udp(1, 2));
    let (mut entry, admission) = opened(&datagram, action::DENY);
    assert_eq!(admission, Admission::Drop(DropReason(drop::POLICY_DENY)));
    let denied = Standing::Drop(DropReason(drop::POLICY_DENY));
    assert_eq!(stands(&entry, Direction::Forward, &datagram, NOW), denied);
    assert_eq!(stands(&entry, Direction::Reply, &datagram, NOW), Standing::Absent);
    // Answers of a flow that was allowed before end with it.
    entry.flags |= ct_flag::REPLY_SEEN;
    assert_eq!(stands(&entry, Direction::Reply, &datagram, NOW), denied);
    let (entry, _) = opened(&tcp_packet(SYN), action::DENY);
    assert_eq!(stands(&entry, Direction::Reply, &tcp_packet(SYN | ACK), NOW), denied);
}

#[test]
fn only_a_beginning_is_steered() {
    let (entry, admission) = opened(&tcp_packet(SYN), action::REDIRECT);
    assert_eq!((admission, entry.flags), (Admission::Steer, ct_flag::PROXIED));
    let (entry, admission) = opened(&tcp_packet(ACK), action::REDIRECT);
    let midstream = DropReason(drop::NEEDS_PROXY_MIDSTREAM);
    assert_eq!(admission, Admission::Drop(midstream));
    assert_eq!(stands(&entry, Direction::Forward, &tcp_packet(ACK), NOW), Standing::Drop(midstream));
    assert_eq!(
        stands(&entry, Direction::Forward, &tcp_packet(SYN), NOW),
        Standing::Absent,
        "it may begin again"
    );
}

#[test]
fn the_proxy_may_send_what_may_pass_at_all() {
    let mut entry = CtValue::default();
    for (ingress, expected) in [
        (action::ALLOW, Admission::Pass),
        (action::REDIRECT, Admission::Pass),
        (action::DENY, Admission::Drop(DropReason(drop::POLICY_DENY))),
    ] {
        let admission =
            open(&mut entry, &tcp_packet(SYN), ENDS, judgement(ingress), Sender::Proxy, (REVISION, NOW));
        assert_eq!(admission, expected);
        let from_proxy = entry.flags == ct_flag::PROXIED | ct_flag::FROM_PROXY;
        assert_eq!(from_proxy, expected == Admission::Pass);
    }
}

#[test]
fn judging_again_keeps_or_ends_a_flow() {
    let flow = tcp_packet(ACK).keys.forward;
    let again =
        |entry: &mut CtValue, ingress| rejudge(entry, &flow, ENDS, judgement(ingress), (REVISION + 1, NOW));
    let (mut plain, _) = opened(&tcp_packet(SYN), action::ALLOW);
    assert_eq!(again(&mut plain, action::ALLOW), Standing::Pass);
    assert_eq!(plain.revision, REVISION + 1);
    let midstream = Standing::Drop(DropReason(drop::NEEDS_PROXY_MIDSTREAM));
    assert_eq!(again(&mut plain, action::REDIRECT), midstream);
    assert_eq!(again(&mut plain, action::DENY), Standing::Drop(DropReason(drop::POLICY_DENY)));
    assert_eq!(again(&mut plain, action::ALLOW), Standing::Pass);

    let (mut proxied, _) = opened(&tcp_packet(SYN), action::REDIRECT);
    assert_eq!(again(&mut proxied, action::ALLOW), Standing::Proxied, "its bytes are in the proxy");
    assert!(matches!(again(&mut proxied, action::DENY), Standing::Drop(_)));
    assert_eq!(again(&mut proxied, action::REDIRECT), Standing::Proxied);
}

#[test]
fn an_entry_speaks_only_for_the_endpoints_it_was_made_for() {
    let (entry, _) = opened(&tcp_packet(SYN), action::ALLOW);
    let at = |direction, passing| standing(&entry, direction, passing, &tcp_packet(ACK), (REVISION, NOW));
    for (direction, passing) in [
        (Direction::Forward, Passing::From(1)),
        (Direction::Forward, Passing::To(2)),
        (Direction::Reply, Passing::From(2)),
        (Direction::Reply, Passing::To(1)),
    ] {
        assert_eq!(at(direction, passing), Standing::Pass, "{passing:?}");
    }
    for (direction, passing) in [
        (Direction::Forward, Passing::From(3)),
        (Direction::Forward, Passing::To(1)),
        (Direction::Reply, Passing::From(1)),
        (Direction::Reply, Passing::To(3)),
    ] {
        assert_eq!(at(direction, passing), Standing::Stale, "{passing:?}");
    }
}

#[test]
fn a_denied_flow_that_was_answered_stays_known_while_it_is_alive() {
    let (mut entry, _) = opened(&tcp_packet(SYN), action::ALLOW);
    note(&mut entry, Direction::Reply, &tcp_packet(SYN | ACK), NOW);
    let flow = tcp_packet(ACK).keys.forward;
    let standing = rejudge(&mut entry, &flow, ENDS, judgement(action::DENY), (REVISION, NOW));
    assert!(matches!(standing, Standing::Drop(_)));
    assert_eq!(entry.expires_ns, NOW + ESTABLISHED_NS);
    note_denied(&mut entry, proto::TCP, NOW + 60 * SECOND_NS);
    assert_eq!(entry.expires_ns, NOW + 60 * SECOND_NS + ESTABLISHED_NS);
    let (mut unanswered, _) = opened(&tcp_packet(SYN), action::DENY);
    note_denied(&mut unanswered, proto::TCP, NOW + 5 * SECOND_NS);
    assert_eq!(unanswered.expires_ns, NOW + DENIED_NS);
}

#[test]
fn a_proxied_flow_ends_when_an_end_becomes_somebody_else() {
    let flow = tcp_packet(ACK).keys.forward;
    for (now_is, allowed) in [
        (End { identity: 258, endpoint: 2 }, action::REDIRECT),
        (End { identity: 257, endpoint: 3 }, action::ALLOW),
    ] {
        let (mut entry, _) = opened(&tcp_packet(SYN), action::REDIRECT);
        let changed = (ENDS.0, now_is);
        let standing = rejudge(&mut entry, &flow, changed, judgement(allowed), (REVISION + 1, NOW));
        assert_eq!(standing, Standing::Drop(DropReason(drop::NEEDS_PROXY_MIDSTREAM)));
        // And the next revision does not bring it back to the proxy, which knows it by the old name.
        let standing = rejudge(&mut entry, &flow, changed, judgement(action::REDIRECT), (REVISION + 2, NOW));
        assert!(matches!(standing, Standing::Drop(_)));
    }
}

#[test]
fn a_proxied_flow_goes_on_when_a_rule_names_its_peers_prefix() {
    let flow = tcp_packet(ACK).keys.forward;
    let far = |identity| (End { identity, endpoint: 0 }, ENDS.1);
    let prefix = (1 << 24) | 7;
    for (before, now, stays) in [
        (far(9), far(prefix), true),
        (far(prefix), far(9), true),
        (far(9), far(1), false),
        (far(1), far(9), false),
        (far(9), (End { identity: 300, endpoint: 4 }, ENDS.1), false),
    ] {
        let (mut entry, _) = opened(&tcp_packet(SYN), action::REDIRECT);
        (entry.src_identity, entry.src_endpoint) = (before.0.identity, before.0.endpoint);
        let redirected = judgement(action::REDIRECT);
        let standing = rejudge(&mut entry, &flow, now, redirected, (REVISION + 1, NOW));
        assert_eq!(standing == Standing::Proxied, stays, "{before:?} {now:?}");
        let standing = rejudge(&mut entry, &flow, now, judgement(action::DENY), (REVISION + 2, NOW));
        assert!(matches!(standing, Standing::Drop(_)));
    }
}

proptest! {
    /// Whatever an entry holds, an expired one never lets a packet pass, and a denied one of this
    /// revision never lets anything pass that does not begin a flow of its own.
    #[test]
    fn no_entry_passes_what_it_must_not(
        flags: u8, egress in 0u8..5, ingress in 0u8..5, expires: u64, revision in 6u32..9, layout in 0u8..3,
        tcp_flags: u8, reply: bool,
    ) {
        let entry = CtValue {
            flags, egress_action: egress, ingress_action: ingress, expires_ns: expires, revision, layout,
            ..CtValue::default()
        };
        let direction = if reply { Direction::Reply } else { Direction::Forward };
        let standing = stands(&entry, direction, &tcp_packet(tcp_flags), NOW);
        let passes = matches!(standing, Standing::Pass | Standing::Proxied);
        if expires < NOW || layout != CT_LAYOUT || revision != REVISION || flags & ct_flag::DENIED != 0 {
            prop_assert!(!passes);
        }
        if flags & ct_flag::PROXIED != 0 {
            prop_assert!(standing != Standing::Pass);
        }
    }

    /// However packets come, the expiry lies ahead and never farther than an established flow's.
    #[test]
    fn expiry_stays_within_bounds(steps in prop::collection::vec((any::<u8>(), any::<bool>(), 0u64..100), 1..40)) {
        let (mut entry, _) = opened(&tcp_packet(SYN), action::ALLOW);
        let mut now = NOW;
        for (tcp_flags, reply, seconds) in steps {
            now += seconds * SECOND_NS;
            let direction = if reply { Direction::Reply } else { Direction::Forward };
            note(&mut entry, direction, &tcp_packet(tcp_flags), now);
            // Stores that would gain a second at most are skipped.
            prop_assert!(entry.expires_ns + SECOND_NS >= now + CLOSING_NS);
            prop_assert!(entry.expires_ns <= now + ESTABLISHED_NS);
            if tcp_flags & tcp::RST != 0 {
                prop_assert!(entry.flags & ct_flag::CLOSING != 0);
            }
        }
    }
}

/// A packet from the middle of nothing leaves a denial behind. When policy changes, that entry must
/// not make the packet's next one, or its answer, part of a flow that nobody has begun.
#[test]
fn a_denied_midstream_packet_has_begun_nothing() {
    let (mut entry, admission) = opened(&tcp_packet(ACK), action::DENY);
    assert!(matches!(admission, Admission::Drop(_)));
    for direction in [Direction::Forward, Direction::Reply] {
        assert!(matches!(stands(&entry, direction, &tcp_packet(ACK), NOW), Standing::Drop(_)));
        let later = (REVISION + 1, NOW);
        let standing = standing(&entry, direction, Passing::Elsewhere, &tcp_packet(ACK), later);
        assert_eq!(standing, Standing::Absent);
    }
    // A connection that was answered before it was denied goes on where policy allows it again.
    entry.flags |= ct_flag::REPLY_SEEN;
    let later = (REVISION + 1, NOW);
    let standing = standing(&entry, Direction::Reply, Passing::Elsewhere, &tcp_packet(ACK), later);
    assert_eq!(standing, Standing::Stale);
}
