//! What a workload sends: taken for its own only with its own addresses, read here from the octets
//! once more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tektin_abi::{
    antispoof::{Claim, GATEWAY_V6, check},
    maps::{EndpointValue, drop, v4_mapped},
    packet::{Kind, Packet, ethertype},
};

use crate::packet::frame;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const V4: [u8; 4] = [10, 0, 0, 1];
const V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub fn run(data: &[u8]) {
    let Some((ether, bytes)) = frame(data) else { return };
    let mut packet = Packet::default();
    if packet.parse(bytes, ether).is_err() {
        return;
    }
    // With both addresses, with one of them, with none.
    for families in 0..4 {
        let endpoint = EndpointValue {
            id: 1,
            identity: 256,
            ipv4: if families & 1 == 0 { v4_mapped(V4) } else { [0; 16] },
            ipv6: if families & 2 == 0 { V6 } else { [0; 16] },
            mac: MAC,
            _pad: [0; 2],
        };
        assert!(matches!(check(&packet, &[2, 0, 0, 0, 0, 2], &endpoint), Claim::Refused(_)));
        match check(&packet, &MAC, &endpoint) {
            Claim::Genuine => {
                assert!(!matches!(packet.kind, Kind::Arp | Kind::Nd | Kind::Mld));
                let (src, dst) = ends(ether, bytes);
                assert!(is_own(src, families), "{src}");
                assert!(may_be_routed(dst), "{dst}");
            }
            Claim::Link if ether == ethertype::ARP => {
                assert_eq!(bytes[8..14], MAC);
                let sender = &bytes[14..18];
                let claimed = if sender == [0; 4] { &bytes[24..28] } else { sender };
                assert_eq!((claimed, families & 1), (&V4[..], 0));
            }
            Claim::Link => {
                discovery(&packet, bytes, families);
                assert!(stays_on_link(&bytes[24..40]));
            }
            Claim::LinkToHost => {
                discovery(&packet, bytes, families);
                assert!(!stays_on_link(&bytes[24..40]));
            }
            Claim::Noise => assert_eq!(packet.kind, Kind::Mld),
            Claim::Refused(reason) => assert!(reason.0 != drop::NONE && reason.0 < drop::COUNT),
        }
    }
}

fn ends(ether: u16, bytes: &[u8]) -> (IpAddr, IpAddr) {
    if ether == ethertype::IPV4 {
        let at = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).expect("4 octets"));
        (at(12).into(), at(16).into())
    } else {
        let at = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).expect("16 octets"));
        (at(8).into(), at(24).into())
    }
}

fn stays_on_link(dst: &[u8]) -> bool {
    (dst[0] == 0xfe && (0x80..0xc0).contains(&dst[1])) || (dst[0] == 0xff && dst[1] & 15 == 2)
}

fn is_own(addr: IpAddr, families: u8) -> bool {
    match addr {
        IpAddr::V4(v4) => families & 1 == 0 && v4.octets() == V4,
        IpAddr::V6(v6) => families & 2 == 0 && v6.octets() == V6,
    }
}

fn may_be_routed(addr: IpAddr) -> bool {
    let special = addr.is_loopback() || addr.is_multicast() || addr.is_unspecified();
    match addr {
        IpAddr::V4(v4) => !special && !v4.is_broadcast() && v4.octets()[0] != 0 && v4.octets()[0] < 240,
        IpAddr::V6(v6) => !special && v6.to_ipv4_mapped().is_none(),
    }
}

/// A solicitation or advertisement that passes claims no address and no MAC but the workload's.
fn discovery(packet: &Packet, bytes: &[u8], families: u8) {
    assert_eq!((packet.kind, packet.hop_limit, bytes[7]), (Kind::Nd, 255, 255));
    assert!(matches!(packet.icmp_type, 133 | 135 | 136), "no router's words");
    let (IpAddr::V6(src), _) = ends(ethertype::IPV6, bytes) else { panic!("IPv6") };
    let may_claim = |addr: Ipv6Addr| {
        is_own(addr.into(), families) || (addr.is_unicast_link_local() && addr.octets() != GATEWAY_V6)
    };
    assert!(src.is_unspecified() || may_claim(src), "{src}");
    assert!(packet.link_address == [0; 6] || packet.link_address == MAC);
    let target = Ipv6Addr::from(packet.target);
    let claims_target = packet.icmp_type == 136 || (packet.icmp_type == 135 && src.is_unspecified());
    assert!(!claims_target || may_claim(target), "{target}");
    assert!(packet.icmp_type != 136 || !src.is_unspecified());
}
