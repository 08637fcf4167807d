//! Fragments follow the first one of their datagram, or go nowhere.

use tektin_loader::abi::maps::{drop, metric};

use super::{
    policy::{Reach, udp as ask, udp_server},
    proxy::{Port, Proxy},
    raw::{ethernet, ipv4, send, tcp, udp, v4},
    world::{ALLOW, Place, REDIRECT, TCP, UDP, World, wait_until},
};

#[test]
fn large_datagrams_and_pings_pass_whole() {
    let mut world = World::new();
    let policy = world.policy(Place::A, &[(UDP, 53, ALLOW), (1, 8, ALLOW), (58, 128, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    for ip in [Place::B.v4(), Place::B.v6()] {
        udp_server(&world, Place::B, ip, 53);
        udp_server(&world, Place::B, ip, 54);
        assert!(
            matches!(ask(&world, Place::A, ip, 53, 6000), Reach::Answered(_)),
            "{:?}",
            world.metrics_by_name()
        );
        assert_eq!(ask(&world, Place::A, ip, 54, 6000), Reach::Silence);
        assert!(world.ping(Place::A, ip, 6000), "{:?}", world.metrics_by_name());
    }
}

#[test]
fn a_later_fragment_without_its_first_is_dropped() {
    let world = World::new();
    let (a, b, mac) = (v4(Place::A), v4(Place::B), Place::A.mac());
    let later = ethernet(mac, 0x0800, &ipv4(a, b, 17, 3, &[0; 16]));
    send(&world, Place::A, vec![later.clone()]);
    wait_until("the drop", || world.dropped(drop::FRAGMENT_WITHOUT_FIRST) == 1);
    let first = ethernet(mac, 0x0800, &ipv4(a, b, 17, 0x2000, &udp(1000, 9, &[0; 16])));
    let before = world.metric(metric::FORWARDED);
    send(&world, Place::A, vec![first, later]);
    // Both at both hooks.
    wait_until("both to pass", || world.metric(metric::FORWARDED) >= before + 4);
    assert_eq!(world.dropped(drop::FRAGMENT_WITHOUT_FIRST), 1);
}

#[test]
fn a_fragment_inside_the_tcp_header_is_dropped() {
    let world = World::new();
    let (a, b, mac) = (v4(Place::A), v4(Place::B), Place::A.mac());
    let overlap = ethernet(mac, 0x0800, &ipv4(a, b, 6, 1, &[0; 16]));
    let short = ethernet(mac, 0x0800, &ipv4(a, b, 6, 0x2000, &tcp(1000, 80, 2)[..16]));
    send(&world, Place::A, vec![overlap, short]);
    wait_until("two drops", || world.dropped(drop::INVALID_PACKET) == 2);
}

#[test]
fn a_steered_connection_cannot_begin_in_fragments() {
    let mut world = World::new();
    let policy = world.policy(Place::A, &[(TCP, 80, REDIRECT)]);
    world.enforce(Place::B, policy, 0);
    let _proxy = Proxy::start(&world, Port::Same);
    let (a, b, mac) = (v4(Place::A), v4(Place::B), Place::A.mac());
    let mut syn = tcp(1000, 80, 2);
    syn.extend([0; 4]);
    let first = ethernet(mac, 0x0800, &ipv4(a, b, 6, 0x2000, &syn));
    let later = ethernet(mac, 0x0800, &ipv4(a, b, 6, 3, &[0; 8]));
    send(&world, Place::A, vec![first, later]);
    wait_until("two drops", || {
        world.dropped(drop::FRAGMENT_OF_STEERED) == 1 && world.dropped(drop::FRAGMENT_WITHOUT_FIRST) == 1
    });
}
