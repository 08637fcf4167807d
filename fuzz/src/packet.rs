//! A packet from its network header on: what is read is what a second parser reads, and depends on
//! nothing behind the headers.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use tektin_abi::{
    DropReason,
    maps::{Addr, FlowKey, drop, proto, v4_mapped},
    packet::{Fragment, Kind, Packet, Ports, ethertype, glance::Frame},
};

pub fn run(data: &[u8]) {
    let Some((ether, bytes)) = frame(data) else { return };
    glanced(ether, bytes);
    let mut packet = Packet { kind: Kind::Nd, hop_limit: 9, ..Packet::default() };
    let result = packet.parse(bytes, ether);
    if let Err(DropReason(reason)) = result {
        assert!(reason != drop::NONE && reason < drop::COUNT);
        return;
    }
    well_formed(&packet, ether);
    if ether != ethertype::ARP {
        addresses(&packet, ether, bytes);
        second_opinion(&packet, bytes);
    }
    longer(&packet, bytes, ether);
    shorter(&packet, bytes, ether);
}

/// What the short way reads is what the long way reads.
fn glanced(ether: u16, bytes: &[u8]) {
    struct Linear<'a>(&'a [u8]);
    impl Frame for Linear<'_> {
        fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
            assert_eq!(offset % 4, 14 % 4, "on a boundary");
            let at = offset as usize - 14;
            let octets = self.0.get(at..at + 4 * N)?;
            let mut words = [0; N];
            for (word, octets) in words.iter_mut().zip(octets.chunks_exact(4)) {
                *word = u32::from_ne_bytes(octets.try_into().expect("4 octets"));
            }
            Some(words)
        }
    }
    let mut short = Packet { kind: Kind::IcmpError, tcp_flags: 9, ..Packet::default() };
    short.keys.reverse.sport = 9;
    if !short.glance(&Linear(bytes), ether) {
        return;
    }
    let mut long = Packet::default();
    assert_eq!(long.parse(bytes, ether), Ok(()), "a glance passes only what a parse passes");
    assert_eq!((short.keys, short.ports, short.kind), (long.keys, long.ports, long.kind));
    assert_eq!(
        (short.fragment, short.hop_limit, short.tcp_flags),
        (long.fragment, long.hop_limit, long.tcp_flags)
    );
    assert_eq!((short.network_len, short.transport_len), (long.network_len, long.transport_len));
}

/// The first octet says what the link says; the rest is the packet.
pub(crate) fn frame(data: &[u8]) -> Option<(u16, &[u8])> {
    let (link, bytes) = data.split_first()?;
    let ether = match link {
        0 => ethertype::IPV4,
        1 => ethertype::IPV6,
        2 => ethertype::ARP,
        other => u16::from(*other) << 8,
    };
    Some((ether, bytes))
}

/// What holds for every packet that was read.
fn well_formed(packet: &Packet, ether: u16) {
    let Packet { kind, fragment, keys, .. } = *packet;
    let link_only = matches!(kind, Kind::Arp | Kind::Nd | Kind::Mld);
    assert_eq!(kind == Kind::Arp, ether == ethertype::ARP);
    assert_eq!(kind == Kind::LaterFragment, fragment == Fragment::Later);
    assert!(kind != Kind::Nd || fragment == Fragment::Whole);
    let icmp = matches!(keys.forward.proto, proto::ICMP | proto::ICMPV6);
    match kind {
        Kind::Transport => {
            assert!(matches!(keys.forward.proto, proto::TCP | proto::UDP | proto::SCTP));
            assert_eq!(keys.reverse, keys.forward.reversed());
            assert_eq!([keys.forward.sport, keys.forward.dport], packet.ports);
        }
        Kind::EchoReply => assert_eq!((keys.reverse.dport, keys.reverse.sport), (0, packet.ports[0])),
        // Requests and messages answer nothing.
        _ => assert_eq!(keys.reverse, FlowKey::default()),
    }
    // The two spaces of ICMP keys do not meet: an identifier stands before 0, a type never does.
    if icmp && kind != Kind::LaterFragment {
        assert_eq!(keys.forward.dport == 0, kind == Kind::EchoRequest);
        assert!(kind == Kind::EchoRequest || keys.forward.sport == 0);
    }
    assert!(packet.opens_connection() as u8 <= (keys.forward.proto == proto::TCP) as u8);
    assert!(!link_only || keys.reverse.proto == 0);
    if kind == Kind::LaterFragment && packet.fragment_proto == proto::UDP {
        let mut resolved = *packet;
        resolved.resolve(Kind::Transport, Ports(5, 6));
        assert_eq!((resolved.keys.forward.sport, resolved.keys.reverse.sport), (5, 6));
    }
}

fn addresses(packet: &Packet, ether: u16, bytes: &[u8]) {
    let (src, dst): (Addr, Addr) = if ether == ethertype::IPV4 {
        let at = |at: usize| v4_mapped([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        (at(12), at(16))
    } else {
        let at = |at: usize| bytes[at..at + 16].try_into().expect("16 octets");
        (at(8), at(24))
    };
    assert_eq!((packet.keys.forward.src, packet.keys.forward.dst), (src, dst));
    let mapped = |addr: &Addr| std::net::Ipv6Addr::from(*addr).to_ipv4_mapped().is_some();
    assert_eq!([mapped(&src), mapped(&dst)], [ether == ethertype::IPV4; 2], "the families do not mix");
}

/// Where a strict general parser reads a transport header, it is the same one.
fn second_opinion(packet: &Packet, bytes: &[u8]) {
    let Ok(sliced) = SlicedPacket::from_ip(bytes) else { return };
    let fragmented = match &sliced.net {
        Some(NetSlice::Ipv4(v4)) => v4.is_payload_fragmented(),
        Some(NetSlice::Ipv6(v6)) => v6.is_payload_fragmented(),
        _ => panic!("an IP packet for one parser only"),
    };
    // Extension headers that this one does not know end its reading.
    let Some(transport) = sliced.transport else {
        let known = matches!(packet.kind, Kind::Transport) && packet.fragment == Fragment::Whole;
        assert!(!known || !fragmented);
        return;
    };
    let (protocol, ports) = match &transport {
        TransportSlice::Tcp(tcp) => (proto::TCP, Some([tcp.source_port(), tcp.destination_port()])),
        TransportSlice::Udp(udp) => (proto::UDP, Some([udp.source_port(), udp.destination_port()])),
        TransportSlice::Icmpv4(_) => (proto::ICMP, None),
        TransportSlice::Icmpv6(_) => (proto::ICMPV6, None),
        _ => return,
    };
    assert_eq!(packet.keys.forward.proto, protocol);
    assert_eq!(packet.fragment != Fragment::Whole, fragmented);
    if let Some(ports) = ports {
        assert_eq!((packet.kind, packet.ports), (Kind::Transport, ports));
    }
    match transport {
        TransportSlice::Tcp(tcp) => {
            let (syn, ack) = (tcp.syn(), tcp.ack());
            assert_eq!(packet.opens_connection(), syn && !ack);
        }
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!((packet.icmp_type, packet.icmp_code), (icmp.type_u8(), icmp.code_u8()));
        }
        TransportSlice::Icmpv6(icmp) => {
            assert_eq!((packet.icmp_type, packet.icmp_code), (icmp.type_u8(), icmp.code_u8()));
        }
        _ => {}
    }
}

/// Whether what stands behind the transport header is part of what is read.
fn reads_on(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::IcmpError | Kind::IcmpOther | Kind::Nd)
}

/// Padding behind a packet changes nothing.
fn longer(packet: &Packet, bytes: &[u8], ether: u16) {
    if reads_on(packet) {
        return;
    }
    let padded = [bytes, &[0xa5; 48]].concat();
    let mut again = Packet::default();
    assert_eq!(again.parse(&padded[..], ether), Ok(()));
    assert_eq!(again, *packet);
}

/// Cut short it is refused or the same; never another flow.
fn shorter(packet: &Packet, bytes: &[u8], ether: u16) {
    for left in [bytes.len() / 2, bytes.len().saturating_sub(8), bytes.len().saturating_sub(1)] {
        let mut again = Packet::default();
        if again.parse(&bytes[..left], ether).is_ok() {
            assert_eq!(again.keys, packet.keys);
            assert!(reads_on(packet) || again == *packet);
        }
    }
}
