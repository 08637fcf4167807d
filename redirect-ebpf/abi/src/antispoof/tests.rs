use proptest::prelude::*;

use super::*;
use crate::{
    maps::v4_mapped,
    packet::{build, ethertype},
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 10];

fn endpoint() -> EndpointValue {
    EndpointValue {
        id: 1,
        identity: 256,
        ipv4: v4_mapped([10, 0, 0, 1]),
        ipv6: build::SRC6,
        mac: MAC,
        _pad: [0; 2],
    }
}

fn packet(octets: &[u8], ether: u16) -> Packet {
    let mut packet = Packet::default();
    packet.parse(octets, ether).unwrap();
    packet
}

#[test]
fn own_addresses_pass_and_others_do_not() {
    let (udp, mac) = (build::udp(1, 2), MAC);
    let v4 = packet(&build::ipv4(17, 0, &[], &udp), ethertype::IPV4);
    let v6 = packet(&build::ipv6(17, 64, &udp), ethertype::IPV6);
    for genuine in [&v4, &v6] {
        assert_eq!(check(genuine, &mac, &endpoint()), Claim::Genuine);
        let refused = Claim::Refused(DropReason(drop::SPOOFED_SOURCE_MAC));
        assert_eq!(check(genuine, &[2; 6], &endpoint()), refused);
        let nobody = EndpointValue { ipv4: [0; 16], ipv6: [0; 16], ..endpoint() };
        let refused = Claim::Refused(DropReason(drop::SPOOFED_SOURCE_IP));
        assert_eq!(check(genuine, &mac, &nobody), refused);
    }
    // An endpoint without IPv6 does not own the unspecified address.
    let mut unspecified = v6;
    unspecified.keys.forward.src = [0; 16];
    let v4_only = EndpointValue { ipv6: [0; 16], ..endpoint() };
    assert_eq!(check(&unspecified, &mac, &v4_only), Claim::Refused(DropReason(drop::SPOOFED_SOURCE_IP)));
}

#[test]
fn destinations() {
    for good in [[10, 0, 0, 2], [169, 254, 1, 1], [223, 255, 255, 255]] {
        assert!(is_unicast(&v4_mapped(good)));
    }
    for bad in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 9, 9, 9], [224, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!is_unicast(&v4_mapped(bad)));
    }
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    for good in ["fd00::2", "fe80::1", "::2", "::100", "2001:db8::1"] {
        assert!(is_unicast(&v6(good)), "{good}");
    }
    for bad in ["::", "::1", "ff02::1", "ffff::"] {
        assert!(!is_unicast(&v6(bad)), "{bad}");
    }
}

#[test]
fn mld_is_noise() {
    let report = packet(&build::ipv6(58, 1, &build::icmp(143, 0, &[0; 4])), ethertype::IPV6);
    assert_eq!(check(&report, &MAC, &endpoint()), Claim::Noise);
}

#[test]
fn arp_probes_may_ask_for_its_own_address_only() {
    let arp = |sender: [u8; 4], target: [u8; 4]| {
        let mut octets = vec![0, 1, 8, 0, 6, 4, 0, 1];
        octets.extend(MAC);
        octets.extend(sender);
        octets.extend([0; 6]);
        octets.extend(target);
        check(&packet(&octets, ethertype::ARP), &MAC, &endpoint())
    };
    let spoofed = Claim::Refused(DropReason(drop::SPOOFED_ARP));
    assert_eq!(arp([10, 0, 0, 1], [169, 254, 1, 1]), Claim::Link);
    assert_eq!(arp([0; 4], [10, 0, 0, 1]), Claim::Link);
    assert_eq!(arp([0; 4], [10, 0, 0, 2]), spoofed);
    assert_eq!(arp([10, 0, 0, 2], [10, 0, 0, 1]), spoofed);
}

proptest! {
    /// Whatever a workload sends, nothing with another's address is genuine.
    #[test]
    fn nothing_foreign_is_genuine(octets: Vec<u8>, ether in prop_oneof![Just(0x800u16), Just(0x806), Just(0x86dd)], source: [u8; 6]) {
        let mut parsed = Packet::default();
        if parsed.parse(&octets[..], ether).is_ok() {
            let claim = check(&parsed, &source, &endpoint());
            if claim == Claim::Genuine {
                prop_assert_eq!(source, MAC);
                prop_assert!(is_own(&parsed.keys.forward.src, &endpoint()));
                prop_assert!(is_unicast(&parsed.keys.forward.dst));
            }
        }
    }

    #[test]
    fn only_the_own_address_is_genuine(address: [u8; 4]) {
        let mut octets = build::ipv4(17, 0, &[], &build::udp(1, 2));
        octets[12..16].copy_from_slice(&address);
        let claim = check(&packet(&octets, ethertype::IPV4), &MAC, &endpoint());
        prop_assert_eq!(claim == Claim::Genuine, address == [10, 0, 0, 1]);
    }
}
