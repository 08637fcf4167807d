use proptest::prelude::*;

use super::*;
use crate::packet::{build, tcp};

/// A frame without its link header.
impl Frame for [u8] {
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        let mut words = [0; N];
        for (index, word) in words.iter_mut().enumerate() {
            let at = (offset - ETHERNET_LEN) as usize + index * 4;
            *word = u32::from_ne_bytes(self.get(at..at + 4)?.try_into().ok()?);
        }
        Some(words)
    }
}

/// What an earlier packet may have left behind.
fn used() -> Packet {
    let mut packet = Packet::default();
    packet.parse(&build::ipv6(58, 255, &[3, 1, 0, 0, 0, 0, 0, 0, 0x60])[..], ethertype::IPV6).ok();
    (packet.tcp_flags, packet.fragment_id, packet.keys.forward._pad) = (0xff, 7, [1; 3]);
    packet
}

/// Reads both ways. The short way may say nothing, but never anything else than the long one.
fn agree(bytes: &[u8], ether: u16) -> bool {
    let mut short = used();
    let plain = short.glance(bytes, ether);
    if plain {
        let mut long = Packet::default();
        long.parse(bytes, ether).expect("the long way reads it as well");
        // Of plain packets nobody reads these.
        (long.fragment_proto, long.fragment_id) = (0, 0);
        (short.quoted, short.target, short.link_address) = (long.quoted, long.target, long.link_address);
        assert_eq!(short, long);
    }
    plain
}

#[test]
fn plain_packets_are_read_and_others_are_not() {
    let segment = build::tcp(1, 80, tcp::ACK);
    assert!(agree(&build::ipv4(proto::TCP, 0, &[], &segment), ethertype::IPV4));
    assert!(agree(&build::ipv4(proto::TCP, 0x4000, &[], &segment), ethertype::IPV4), "do not fragment");
    assert!(agree(&build::ipv6(proto::TCP, 64, &segment), ethertype::IPV6));
    assert!(agree(&build::ipv4(proto::UDP, 0, &[], &build::udp(1, 53)), ethertype::IPV4));
    assert!(agree(&build::ipv6(proto::UDP, 64, &build::udp(1, 53)), ethertype::IPV6));
    for fragment in [0x2000, 1, 0x2001] {
        assert!(!agree(&build::ipv4(proto::TCP, fragment, &[], &segment), ethertype::IPV4));
    }
    assert!(!agree(&build::ipv4(proto::TCP, 0, &[1; 4], &segment), ethertype::IPV4), "options");
    assert!(!agree(&build::ipv4(proto::TCP, 0, &[], &segment[..16]), ethertype::IPV4), "cut off");
    assert!(!agree(&build::ipv4(proto::ICMP, 0, &[], &[8, 0, 0, 0, 0, 1, 0, 1]), ethertype::IPV4));
    assert!(!agree(
        &build::ipv6(0, 64, &[&[proto::TCP, 0, 1, 4, 0, 0, 0, 0][..], &segment].concat()),
        0x86dd
    ));
    assert!(!agree(&build::ipv4(proto::TCP, 0, &[], &segment), ethertype::IPV6), "of another family");
}

proptest! {
    #[test]
    fn the_short_way_says_what_the_long_one_says(
        v6: bool,
        udp: bool,
        len in 0usize..80,
        changes in prop::collection::vec((0usize..80, any::<u8>()), 0..6),
    ) {
        let payload = if udp { build::udp(5, 6) } else { build::tcp(5, 6, 0x10) };
        let protocol = if udp { proto::UDP } else { proto::TCP };
        let mut bytes = if v6 { build::ipv6(protocol, 9, &payload) } else { build::ipv4(protocol, 0, &[], &payload) };
        bytes.resize(bytes.len().max(len), 0);
        for (at, value) in changes {
            if let Some(octet) = bytes.get_mut(at) {
                *octet = value;
            }
        }
        agree(&bytes, if v6 { ethertype::IPV6 } else { ethertype::IPV4 });
    }
}
