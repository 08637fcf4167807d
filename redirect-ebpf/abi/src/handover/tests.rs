use super::*;
use crate::{
    maps::v4_mapped,
    packet::{build, ethertype, tcp},
};

fn device(mtu: u32) -> DeviceValue {
    DeviceValue { ifindex: 7, mtu, ipv4: v4_mapped([10, 0, 0, 2]), ipv6: build::DST6, ..Default::default() }
}

fn parsed(bytes: &[u8], ether: u16) -> Packet {
    let mut packet = Packet::default();
    packet.parse(bytes, ether).unwrap();
    packet
}

fn v4(options: &[u8], payload: &[u8]) -> Packet {
    parsed(&build::ipv4(proto::TCP, 0, options, payload), ethertype::IPV4)
}

fn one(frame: u32) -> Size {
    Size { frame, segment: 0 }
}

#[test]
fn plain_packets_of_both_families_may_go() {
    assert!(may_hand_over(&v4(&[], &build::tcp(1, 2, tcp::ACK)), &device(1500), one(54)));
    let packet = parsed(&build::ipv6(proto::TCP, 64, &build::tcp(1, 2, tcp::ACK)), ethertype::IPV6);
    assert!(may_hand_over(&packet, &device(1500), one(74)));
}

#[test]
fn what_a_router_must_look_into_may_not() {
    let payload = build::tcp(1, 2, tcp::ACK);
    assert!(!may_hand_over(&v4(&[1, 1, 1, 1], &payload), &device(1500), one(58)), "options");
    let extended = [&[proto::TCP, 0, 1, 4, 0, 0, 0, 0][..], &payload].concat();
    let packet = parsed(&build::ipv6(0, 64, &extended), ethertype::IPV6);
    assert!(!may_hand_over(&packet, &device(1500), one(82)), "extension header");
    let packet = parsed(&build::ipv4(proto::TCP, 0x2000, &[], &payload), ethertype::IPV4);
    assert!(!may_hand_over(&packet, &device(1500), one(54)), "first fragment");
    for hop_limit in [0, 1] {
        let packet = parsed(&build::ipv6(proto::TCP, hop_limit, &payload), ethertype::IPV6);
        assert!(!may_hand_over(&packet, &device(1500), one(74)), "hop limit {hop_limit}");
    }
}

#[test]
fn only_a_device_that_has_the_address_takes_it() {
    let packet = v4(&[], &build::tcp(1, 2, tcp::ACK));
    assert!(!may_hand_over(&packet, &DeviceValue::default(), one(54)), "none");
    let other = DeviceValue { ipv4: v4_mapped([10, 0, 0, 3]), ..device(1500) };
    assert!(!may_hand_over(&packet, &other, one(54)));
    let nameless = DeviceValue { ipv4: [0; 16], ..device(1500) };
    assert!(!may_hand_over(&packet, &nameless, one(54)));
    let gone = DeviceValue { ifindex: 0, ..device(1500) };
    assert!(!may_hand_over(&packet, &gone, one(54)));
}

#[test]
fn the_mtu_holds_for_packets_and_for_segments() {
    let packet = v4(&[], &build::tcp(1, 2, tcp::ACK));
    assert!(may_hand_over(&packet, &device(1500), one(1514)));
    assert!(!may_hand_over(&packet, &device(1500), one(1515)));
    let of = |segment| Size { frame: 60_000, segment };
    assert!(may_hand_over(&packet, &device(1500), of(1460)));
    assert!(!may_hand_over(&packet, &device(1500), of(1461)));
    let mut datagrams = packet;
    datagrams.keys.forward.proto = proto::SCTP;
    assert!(!may_hand_over(&datagrams, &device(1500), of(100)));
}

#[test]
fn the_checksum_stays_right() {
    for ttl in 2..=255u8 {
        for id in [0u8, 1, 0x7f, 0xfe, 0xff] {
            let mut header = build::ipv4(proto::TCP, 0, &[], &[]);
            (header[4], header[8]) = (id, ttl);
            let before = checksum(&header);
            header[8] -= 1;
            assert_eq!(checksum_after_hop(before), checksum(&header), "TTL {ttl}, id {id}");
        }
    }
}

/// RFC 791, over a header whose checksum field is 0.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}
