use proptest::prelude::*;

use super::{
    build::{DST6, SRC6, fragment, icmp, ipv4, ipv6, sctp, tcp, transport, udp},
    *,
};
use crate::maps::{drop, v4_mapped};

fn parse(octets: &[u8], ether: u16) -> Result<Packet, DropReason> {
    let mut packet = Packet::default();
    packet.parse(octets, ether).map(|()| packet)
}

fn v4(octets: &[u8]) -> Packet {
    parse(octets, ethertype::IPV4).unwrap()
}

fn v6(octets: &[u8]) -> Packet {
    parse(octets, ethertype::IPV6).unwrap()
}

fn refused(octets: &[u8], ether: u16) -> u8 {
    parse(octets, ether).unwrap_err().0
}

#[test]
fn ports_of_all_protocols_in_both_families() {
    for (protocol, header) in
        [(proto::TCP, tcp(1000, 80, 2)), (proto::UDP, udp(1000, 80)), (proto::SCTP, sctp(1000, 80))]
    {
        let packet = v4(&ipv4(protocol, 0x4000, &[], &header));
        let expected = FlowKey {
            src: v4_mapped([10, 0, 0, 1]),
            dst: v4_mapped([10, 0, 0, 2]),
            sport: 1000,
            dport: 80,
            proto: protocol,
            _pad: [0; 3],
        };
        assert_eq!(packet.keys.forward, expected);
        assert_eq!(packet.keys.reverse, expected.reversed());
        let packet = v6(&ipv6(protocol, 64, &header));
        assert_eq!(packet.keys.forward, FlowKey { src: SRC6, dst: DST6, ..expected });
        assert!(!packet.is_fragment());
        assert_eq!(packet.opens_connection(), protocol == proto::TCP);
    }
}

#[test]
fn header_options_are_skipped_and_source_routes_refused() {
    let packet = v4(&ipv4(proto::TCP, 0, &[1, 1, 1, 0], &tcp(1, 2, 16)));
    assert_eq!((packet.keys.forward.dport, packet.tcp_flags), (2, 16));
    for kind in [131, 137] {
        let route = [kind, 7, 4, 10, 0, 0, 9, 0];
        assert_eq!(
            refused(&ipv4(proto::TCP, 0, &route, &tcp(1, 2, 2)), ethertype::IPV4),
            drop::INVALID_PACKET
        );
    }
}

#[test]
fn extension_headers_are_walked() {
    let hop_by_hop = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[43, 0, 0, 0, 0, 0, 0, 0]].concat();
    let routing = [51, 0, 2, 0, 0, 0, 0, 0];
    let authentication = [proto::UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let chain = [&hop_by_hop[..], &routing, &authentication, &udp(5, 6)].concat();
    let packet = v6(&ipv6(0, 64, &chain));
    assert_eq!((packet.keys.forward.proto, packet.keys.forward.dport), (proto::UDP, 6));
}

#[test]
fn endless_extension_headers_and_routes_not_finished_are_refused() {
    let padding: Vec<u8> = [60, 0, 0, 0, 0, 0, 0, 0].repeat(20);
    assert_eq!(refused(&ipv6(60, 64, &padding), ethertype::IPV6), drop::EXTENSION_HEADERS);
    let most: Vec<u8> = [60, 0, 0, 0, 0, 0, 0, 0].repeat(ip::MAX_EXTENSIONS as usize - 2);
    let last = [proto::UDP, 0, 0, 0, 0, 0, 0, 0];
    let packet = v6(&ipv6(60, 64, &[&most[..], &last, &udp(1, 2)].concat()));
    assert_eq!(packet.keys.forward.dport, 2);
    let routing = [&[proto::UDP, 0, 0, 1, 0, 0, 0, 0][..], &udp(1, 2)].concat();
    assert_eq!(refused(&ipv6(43, 64, &routing), ethertype::IPV6), drop::EXTENSION_HEADERS);
    let twice = fragment(44, 0, false, &fragment(proto::UDP, 0, false, &udp(1, 2)));
    assert_eq!(refused(&ipv6(44, 64, &twice), ethertype::IPV6), drop::EXTENSION_HEADERS);
}

#[test]
fn fragments_of_both_families() {
    let first = v4(&ipv4(proto::UDP, 0x2000, &[], &udp(1, 2)));
    assert_eq!((first.fragment, first.fragment_id, first.keys.forward.dport), (Fragment::First, 0xabcd, 2));
    let mut later = v4(&ipv4(proto::UDP, 4, &[], &[0; 8]));
    assert_eq!((later.fragment, later.kind), (Fragment::Later, Kind::LaterFragment));
    later.resolve(Kind::Transport, Ports(1, 2));
    assert_eq!(later.keys, first.keys);

    let first = v6(&ipv6(44, 64, &fragment(proto::UDP, 0, true, &udp(1, 2))));
    assert_eq!((first.fragment, first.fragment_id, first.fragment_proto), (Fragment::First, 9, proto::UDP));
    let later = v6(&ipv6(44, 64, &fragment(proto::UDP, 64, false, &[0; 8])));
    assert_eq!((later.fragment, later.fragment_id, later.fragment_proto), (Fragment::Later, 9, proto::UDP));
    // An atomic fragment (RFC 6946) is a whole packet.
    let atomic = v6(&ipv6(44, 64, &fragment(proto::UDP, 0, false, &udp(1, 2))));
    assert_eq!((atomic.fragment, atomic.keys.forward.dport), (Fragment::Whole, 2));
}

#[test]
fn fragments_that_reach_into_a_tcp_header_are_refused() {
    for units in [1, 2] {
        assert_eq!(refused(&ipv4(proto::TCP, units, &[], &[0; 32]), ethertype::IPV4), drop::INVALID_PACKET);
    }
    assert_eq!(v4(&ipv4(proto::TCP, 3, &[], &[0; 32])).kind, Kind::LaterFragment);
    assert_eq!(
        refused(&ipv4(proto::TCP, 0x2000, &[], &tcp(1, 2, 2)[..16]), ethertype::IPV4),
        drop::INVALID_PACKET
    );
}

#[test]
fn an_echo_and_its_answer_are_one_flow() {
    for (family, request, reply) in [(4, 8, 0), (6, 128, 129)] {
        let build = |icmp_type| {
            let message = icmp(icmp_type, 77, b"payload");
            if family == 4 { v4(&ipv4(proto::ICMP, 0, &[], &message)) } else { v6(&ipv6(58, 64, &message)) }
        };
        let (request, reply) = (build(request), build(reply));
        assert_eq!((request.kind, reply.kind), (Kind::EchoRequest, Kind::EchoReply));
        assert_eq!((request.keys.forward.sport, request.keys.forward.dport), (77, 0));
        assert_eq!(request.keys.reverse, FlowKey::default(), "a request answers nothing");
        let FlowKey { src, dst, .. } = request.keys.forward;
        assert_eq!(reply.keys.reverse, FlowKey { src: dst, dst: src, ..request.keys.forward });
    }
}

#[test]
fn other_icmp_never_reads_as_an_echo() {
    let timestamp = v4(&ipv4(proto::ICMP, 0, &[], &icmp(13, 77, b"")));
    assert_eq!((timestamp.keys.forward.sport, timestamp.keys.forward.dport), (0, 13));
    assert_eq!(timestamp.keys.reverse, FlowKey::default());
    let reply = v4(&ipv4(proto::ICMP, 0, &[], &icmp(0, 0, b"")));
    let request = v4(&ipv4(proto::ICMP, 0, &[], &icmp(8, 0, b"")));
    assert_ne!(reply.keys.forward, request.keys.forward);
}

#[test]
fn errors_carry_the_flow_that_they_quote() {
    let inner = ipv4(proto::TCP, 0x4000, &[], &tcp(1000, 80, 2)[..8]);
    let packet = v4(&ipv4(proto::ICMP, 0, &[], &icmp(3, 0, &inner)));
    assert_eq!(packet.kind, Kind::IcmpError);
    assert_eq!((packet.quoted.forward.sport, packet.quoted.forward.dport), (1000, 80));
    assert_eq!(packet.quoted.reverse, packet.quoted.forward.reversed());

    let inner = ipv6(60, 64, &[&[proto::UDP, 0, 0, 0, 0, 0, 0, 0][..], &udp(1, 2)].concat());
    let packet = v6(&ipv6(58, 64, &icmp(1, 0, &inner)));
    assert_eq!((packet.kind, packet.quoted.forward.dport), (Kind::IcmpError, 2));

    let inner = ipv4(proto::ICMP, 0, &[], &icmp(8, 5, b""));
    let packet = v4(&ipv4(proto::ICMP, 0, &[], &icmp(11, 0, &inner)));
    assert_eq!((packet.quoted.forward.sport, packet.quoted.forward.dport), (5, 0));

    // Nothing readable in it: a message like any other.
    let later = ipv4(proto::UDP, 9, &[], &[0; 8]);
    for quoted in [&later[..], &[1, 2, 3], &ipv4(47, 0, &[], &[0; 8])] {
        assert_eq!(v4(&ipv4(proto::ICMP, 0, &[], &icmp(3, 0, quoted))).kind, Kind::IcmpOther);
    }
}

#[test]
fn refusals() {
    let good = ipv4(proto::TCP, 0, &[], &tcp(1, 2, 2));
    assert_eq!(refused(&good, ethertype::VLAN), drop::UNSUPPORTED_L3);
    assert_eq!(refused(&good, ethertype::IPV6), drop::INVALID_PACKET);
    assert_eq!(refused(&ipv4(47, 0, &[], &[0; 8]), ethertype::IPV4), drop::UNSUPPORTED_L4);
    assert_eq!(refused(&ipv4(58, 0, &[], &icmp(128, 0, b"")), ethertype::IPV4), drop::UNSUPPORTED_L4);
    assert_eq!(refused(&ipv6(1, 64, &icmp(8, 0, b"")), ethertype::IPV6), drop::UNSUPPORTED_L4);
    assert_eq!(refused(&ipv6(59, 64, &[]), ethertype::IPV6), drop::UNSUPPORTED_L4);
    let mut mapped = ipv6(proto::TCP, 64, &tcp(1, 2, 2));
    mapped[8..24].copy_from_slice(&v4_mapped([10, 0, 0, 1]));
    assert_eq!(refused(&mapped, ethertype::IPV6), drop::INVALID_PACKET);
    let mut mapped = ipv6(proto::TCP, 64, &tcp(1, 2, 2));
    mapped[24..40].copy_from_slice(&v4_mapped([10, 0, 0, 1]));
    assert_eq!(refused(&mapped, ethertype::IPV6), drop::INVALID_DESTINATION);
}

#[test]
fn neighbour_discovery_is_strict() {
    let solicit = |options: &[u8]| {
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend(DST6);
        message.extend(options);
        message
    };
    let packet = v6(&ipv6(58, 255, &solicit(&[1, 1, 2, 0, 0, 0, 0, 5])));
    assert_eq!((packet.kind, packet.target, packet.link_address), (Kind::Nd, DST6, [2, 0, 0, 0, 0, 5]));
    let twice = solicit(&[1, 1, 2, 0, 0, 0, 0, 5, 2, 1, 2, 0, 0, 0, 0, 6]);
    for (hops, message) in [(64, solicit(&[])), (255, twice), (255, solicit(&[1, 0, 0, 0, 0, 0, 0, 0]))] {
        assert_eq!(refused(&ipv6(58, hops, &message), ethertype::IPV6), drop::INVALID_PACKET);
    }
    let fragmented = fragment(58, 0, true, &solicit(&[]));
    assert_eq!(refused(&ipv6(44, 255, &fragmented), ethertype::IPV6), drop::INVALID_PACKET);
}

proptest! {
    #[test]
    fn no_octets_panic(octets: Vec<u8>, ether in prop_oneof![Just(0x800u16), Just(0x806), Just(0x86dd), any::<u16>()]) {
        let _ = parse(&octets, ether);
    }

    /// Random octets seldom get past the first check: these begin like a packet.
    #[test]
    fn no_near_packet_panics(protocol: u8, place: u16, hops: u8, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&ipv4(protocol, place, &[], &rest), ethertype::IPV4);
        let _ = parse(&ipv6(protocol, hops, &rest), ethertype::IPV6);
        let _ = parse(&ipv4(1, 0, &[], &icmp(3, 0, &ipv4(protocol, place, &[], &rest))), ethertype::IPV4);
        let _ = parse(&ipv6(58, hops, &icmp(1, 0, &ipv6(protocol, hops, &rest))), ethertype::IPV6);
    }

    #[test]
    fn built_packets_read_back(
        protocol in prop_oneof![Just(proto::TCP), Just(proto::UDP), Just(proto::SCTP)],
        sport: u16, dport: u16, words in 0usize..=10,
    ) {
        let header = transport(protocol, sport, dport);
        let options = vec![1u8; words * 4];
        for packet in [v4(&ipv4(protocol, 0, &options, &header)), v6(&ipv6(protocol, 64, &header))] {
            prop_assert_eq!(packet.keys.forward.proto, protocol);
            prop_assert_eq!((packet.keys.forward.sport, packet.keys.forward.dport), (sport, dport));
            prop_assert_eq!(packet.keys.reverse.reversed(), packet.keys.forward);
        }
    }

    /// A packet that was cut short anywhere is refused, or read as what is left of it says.
    #[test]
    fn truncated_packets_are_refused(protocol in prop_oneof![Just(proto::TCP), Just(proto::UDP), Just(proto::SCTP)], cut in 0usize..28) {
        let whole = ipv4(protocol, 0, &[], &transport(protocol, 1, 2));
        let end = whole.len().saturating_sub(1).min(cut);
        prop_assert!(parse(&whole[..end], ethertype::IPV4).is_err());
    }
}
