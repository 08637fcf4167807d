//! What a workload claims to be: its own addresses or nothing.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use tektin_loader::abi::maps::{drop, event_kind, metric};

use super::{
    raw::{arp, ethernet, ipv4, ipv6, neighbour, send, udp, v4, v6},
    world::{Place, World, wait_until},
};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

/// Sends a frame from A, waits until it is counted under `expected` (a drop reason or FORWARDED),
/// and checks that it was under no drop reason else. What the node's own kernel says meanwhile is
/// forwarded, so only drops can be told apart.
fn expect(world: &World, frame: Vec<u8>, expected: u32, about: &str) {
    let counters = |world: &World| world.datapath.maps.metrics.read().unwrap();
    let drops = |counters: &[u64]| counters[..usize::from(drop::COUNT)].to_vec();
    let before = counters(world);
    send(world, Place::A, vec![frame]);
    let index = expected as usize;
    wait_until(&format!("counter {expected} ({about})"), || counters(world)[index] != before[index]);
    let mut allowed = drops(&before);
    if let Some(counter) = allowed.get_mut(index) {
        *counter += 1;
    }
    assert_eq!(drops(&counters(world)), allowed, "{about}");
}

#[test]
fn addresses_that_are_not_its_own_are_refused() {
    let mut world = World::new();
    let (a, b, mac) = (v4(Place::A), v4(Place::B), Place::A.mac());
    let (a6, b6) = (v6(Place::A), v6(Place::B));
    let datagram = udp(1000, 9, b"x");
    world.drain();

    let other_mac = ethernet([2, 0, 0, 0, 0, 0x77], IPV4, &ipv4(a, b, 17, 0, &datagram));
    expect(&world, other_mac, u32::from(drop::SPOOFED_SOURCE_MAC), "spoofed source mac");
    let drops = world.events(|event| event.kind == event_kind::DROP);
    assert_eq!((drops[0].reason, drops[0].src_endpoint), (drop::SPOOFED_SOURCE_MAC, 1));
    assert_eq!(drops[0].src_mac, [2, 0, 0, 0, 0, 0x77]);

    let spoofed = |src| ethernet(mac, IPV4, &ipv4(src, b, 17, 0, &datagram));
    for src in [b, v4(Place::Node), Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 1, 2)]
    {
        expect(&world, spoofed(src), u32::from(drop::SPOOFED_SOURCE_IP), &src.to_string());
    }
    for src in [b6, v6(Place::Node), Ipv6Addr::UNSPECIFIED, "fe80::5".parse().unwrap()] {
        let frame = ethernet(mac, IPV6, &ipv6(src, b6, 17, 64, &datagram));
        expect(&world, frame, u32::from(drop::SPOOFED_SOURCE_IP), &src.to_string());
    }
    let mapped = ethernet(mac, IPV6, &ipv6(a.to_ipv6_mapped(), b6, 17, 64, &datagram));
    expect(&world, mapped, u32::from(drop::INVALID_PACKET), "invalid packet");
    let mapped = ethernet(mac, IPV6, &ipv6(a6, b.to_ipv6_mapped(), 17, 64, &datagram));
    expect(&world, mapped, u32::from(drop::INVALID_DESTINATION), "invalid destination");
}

#[test]
fn destinations_that_nobody_may_send_to_are_refused() {
    let world = World::new();
    let (a, a6, mac) = (v4(Place::A), v6(Place::A), Place::A.mac());
    let datagram = udp(1000, 9, b"x");
    for dst in ["127.0.0.1", "0.0.0.0", "224.0.0.251", "255.255.255.255"] {
        let frame = ethernet(mac, IPV4, &ipv4(a, dst.parse().unwrap(), 17, 0, &datagram));
        expect(&world, frame, u32::from(drop::INVALID_DESTINATION), dst);
    }
    for dst in ["::1", "::", "ff02::fb"] {
        let frame = ethernet(mac, IPV6, &ipv6(a6, dst.parse().unwrap(), 17, 64, &datagram));
        expect(&world, frame, u32::from(drop::INVALID_DESTINATION), dst);
    }
    let lldp = ethernet(mac, 0x88cc, &[0; 46]);
    expect(&world, lldp, u32::from(drop::UNSUPPORTED_L3), "unsupported l3");
    let tagged =
        ethernet(mac, 0x8100, &[&[0, 5, 8, 0][..], &ipv4(a, v4(Place::B), 17, 0, &datagram)].concat());
    expect(&world, tagged, u32::from(drop::UNSUPPORTED_L3), "unsupported l3");
    let gre = ethernet(mac, IPV4, &ipv4(a, v4(Place::B), 47, 0, &[0; 8]));
    expect(&world, gre, u32::from(drop::UNSUPPORTED_L4), "unsupported l4");
}

#[test]
fn arp_and_neighbour_discovery_may_claim_only_its_own_addresses() {
    let world = World::new();
    let (a, b, mac) = (v4(Place::A), v4(Place::B), Place::A.mac());
    let (a6, b6, other) = (v6(Place::A), v6(Place::B), [2, 0, 0, 0, 0, 0x77]);
    let claim = |packet: Vec<u8>| ethernet(mac, ARP, &packet);
    expect(&world, claim(arp(1, mac, a, b)), metric::FORWARDED, "an own claim");
    expect(&world, claim(arp(2, mac, b, a)), u32::from(drop::SPOOFED_ARP), "spoofed arp");
    expect(&world, claim(arp(2, other, a, b)), u32::from(drop::SPOOFED_ARP), "spoofed arp");
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    expect(&world, claim(arp(2, mac, gateway, a)), u32::from(drop::SPOOFED_ARP), "spoofed arp");

    let message = |src, hops, message: Vec<u8>| {
        ethernet(mac, IPV6, &ipv6(src, "ff02::1".parse().unwrap(), 58, hops, &message))
    };
    let gateway6: Ipv6Addr = "fe80::1".parse().unwrap();
    expect(&world, message(a6, 255, neighbour(135, gateway6, mac)), metric::FORWARDED, "an own claim");
    expect(&world, message(a6, 255, neighbour(136, a6, mac)), metric::FORWARDED, "an own claim");
    expect(
        &world,
        message(a6, 64, neighbour(136, a6, mac)),
        u32::from(drop::INVALID_PACKET),
        "invalid packet",
    );
    for (src, icmp_type, target, option) in [
        (a6, 136, b6, mac),
        (a6, 136, a6, other),
        (a6, 136, gateway6, mac),
        (b6, 135, gateway6, mac),
        (gateway6, 135, a6, mac),
        (Ipv6Addr::UNSPECIFIED, 135, b6, [0; 6]),
        // Router advertisement, redirect.
        (a6, 134, a6, mac),
        (a6, 137, a6, mac),
    ] {
        let frame = message(src, 255, neighbour(icmp_type, target, option));
        expect(&world, frame, u32::from(drop::SPOOFED_ND), &format!("{src} {icmp_type} {target}"));
    }
}

#[test]
fn neighbour_discovery_carries_nothing_beyond_the_link() {
    let world = World::new();
    let (a6, mac) = (v6(Place::A), Place::A.mac());
    let message = |dst: Ipv6Addr, icmp_type| {
        ethernet(mac, IPV6, &ipv6(a6, dst, 58, 255, &neighbour(icmp_type, a6, mac)))
    };
    for icmp_type in [135, 136] {
        expect(&world, message(v6(Place::Node), icmp_type), metric::FORWARDED, "to the host itself");
        expect(&world, message("fe80::1".parse().unwrap(), icmp_type), metric::FORWARDED, "to the gateway");
        for dst in
            [v6(Place::Outside), v6(Place::B), "2001:db8::1".parse().unwrap(), "ff05::1".parse().unwrap()]
        {
            let frame = message(dst, icmp_type);
            expect(&world, frame, u32::from(drop::INVALID_DESTINATION), &format!("{icmp_type} to {dst}"));
        }
    }
}

#[test]
fn the_outside_cannot_pass_for_a_workload_or_the_host() {
    let world = World::new();
    let datagram = udp(1000, 9, b"x");
    for src in [Place::A, Place::Node] {
        let before = world.dropped(drop::SPOOFED_SOURCE_IP);
        let frames = vec![
            ethernet([2; 6], IPV4, &ipv4(v4(src), v4(Place::B), 17, 0, &datagram)),
            ethernet([2; 6], IPV6, &ipv6(v6(src), v6(Place::B), 17, 64, &datagram)),
        ];
        send(&world, Place::Outside, frames);
        wait_until("two drops", || world.dropped(drop::SPOOFED_SOURCE_IP) == before + 2);
    }
}

#[test]
fn a_mark_of_the_workload_means_nothing() {
    let world = World::new();
    // Marked "to the proxy", the packet would be delivered inside the node.
    let receiver = world.at(Place::B, || UdpSocket::bind((Place::B.v4(), 9)).unwrap()).join().unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    world
        .at(Place::A, || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
            socket.set_mark(0x200).unwrap();
            let to = std::net::SocketAddr::new(Place::B.v4(), 9);
            socket.send_to(b"marked", &to.into()).unwrap();
        })
        .join()
        .unwrap();
    let mut buffer = [0; 16];
    assert_eq!(receiver.recv(&mut buffer).unwrap(), 6);
}

#[test]
fn a_device_without_an_endpoint_passes_nothing() {
    let world = World::new();
    assert!(world.ping(Place::A, Place::B.v4(), 8));
    let ifindex = nix::net::if_::if_nametoindex(Place::A.device()).unwrap();
    assert!(world.datapath.maps.endpoints.remove(&ifindex).unwrap());
    assert!(!world.ping(Place::A, Place::B.v4(), 8));
    assert!(!world.ping(Place::B, Place::A.v4(), 8));
    assert!(world.dropped(drop::UNKNOWN_ENDPOINT) >= 2);
    world.register(Place::A);
    assert!(world.ping(Place::A, Place::B.v4(), 8));
}
