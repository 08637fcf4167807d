//! Processes of the node itself: L3/L4 at the workload's device, L7 by way of the proxy.

use std::{fs::File, net::IpAddr, os::fd::AsFd as _, path::PathBuf, process::Command};

use tektin_loader::abi::maps::{drop, event_kind, hook, identity};

use super::{
    policy::{Reach, tcp, tcp_server, udp, udp_server},
    proxy::{Port, Proxy},
    world::{ALLOW, Place, REDIRECT, TCP, UDP, World},
};

/// The cgroup v2 root, wherever this system has it.
fn cgroup_root() -> PathBuf {
    let output = Command::new("findmnt").args(["-n", "-o", "TARGET", "-t", "cgroup2"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(text.lines().next().expect("cgroup v2 is mounted"))
}

#[test]
fn the_host_is_an_identity_like_others() {
    let mut world = World::new();
    for ip in [Place::B.v4(), Place::B.v6()] {
        tcp_server(&world, Place::B, ip, 80);
        udp_server(&world, Place::B, ip, 53);
    }
    let policy = world.policy(Place::Node, &[(TCP, 80, ALLOW), (UDP, 54, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    for ip in [Place::B.v4(), Place::B.v6()] {
        assert!(
            matches!(tcp(&world, Place::Node, ip, 80), Reach::Answered(_)),
            "{:?}",
            world.metrics_by_name()
        );
        assert_eq!(udp(&world, Place::Node, ip, 53, 8), Reach::Silence);
        assert_eq!(udp(&world, Place::Node, ip, 54, 8), Reach::Refused);
        assert!(!world.ping(Place::Node, ip, 8));
        assert_eq!(tcp(&world, Place::A, ip, 80), Reach::Silence);
    }
}

#[test]
fn a_workload_needs_leave_to_reach_the_host() {
    let mut world = World::new();
    for ip in [Place::Node.v4(), Place::Node.v6()] {
        tcp_server(&world, Place::Node, ip, 80);
        tcp_server(&world, Place::Node, ip, 81);
    }
    let policy = world.policy(Place::Node, &[(TCP, 80, ALLOW)]);
    world.enforce(Place::A, 0, policy);
    for ip in [Place::Node.v4(), Place::Node.v6()] {
        assert!(matches!(tcp(&world, Place::A, ip, 80), Reach::Answered(_)), "{:?}", world.metrics_by_name());
        assert_eq!(tcp(&world, Place::A, ip, 81), Reach::Silence);
    }
}

#[test]
fn connections_of_the_host_are_judged_by_the_proxy_too() {
    let mut world = World::new();
    let policy = world.policy(Place::Node, &[(TCP, 80, REDIRECT), (TCP, 81, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    for ip in [Place::B.v4(), Place::B.v6()] {
        tcp_server(&world, Place::B, ip, 80);
        tcp_server(&world, Place::B, ip, 81);
    }
    let proxy = Proxy::start(&world, Port::Another);
    // Without the host's programs nothing may slip through.
    assert_eq!(tcp(&world, Place::Node, Place::B.v4(), 80), Reach::Silence);
    assert!(world.dropped(drop::NOT_FROM_PROXY) >= 1);

    let netns = File::open("/proc/thread-self/ns/net").unwrap();
    world.datapath.attach_host(netns.as_fd(), &cgroup_root()).unwrap();
    for ip in [Place::B.v4(), Place::B.v6()] {
        let reach = tcp(&world, Place::Node, ip, 80);
        let accepted = proxy.next();
        assert_eq!(accepted.upstream, Ok(seen(&reach)), "{:?}", world.metrics_by_name());
        let steered = accepted.steered.expect("an entry in steered");
        assert_eq!((steered.src_identity, steered.dst_identity), (identity::HOST, 257));
        assert_eq!((steered.src_endpoint, steered.dst_endpoint, steered.ingress_rule), (0, 2, 80));
        // What needs no proxy goes straight.
        assert!(matches!(tcp(&world, Place::Node, ip, 81), Reach::Answered(_)));
        // Other namespaces are none of the host's: A has no leave.
        assert_eq!(tcp(&world, Place::A, ip, 80), Reach::Silence);
    }
    assert!(proxy.accepted.try_recv().is_err());
    let news = world.events(|event| event.hook == hook::SK_LOOKUP && event.kind == event_kind::NEW);
    assert_eq!(news.len(), 2);
    assert_eq!((news[0].flow.dport, news[0].src_identity, news[0].ingress_rule), (80, identity::HOST, 80));
    drop_proxy(&world, proxy, Place::B.v4());
}

/// With the proxy gone, the host's connection fails and does not reach a server of the host.
fn drop_proxy(world: &World, proxy: Proxy, ip: IpAddr) {
    tcp_server(world, Place::Node, "0.0.0.0".parse().unwrap(), 80);
    std::mem::drop(proxy);
    world.datapath.maps.listeners.clear(0).unwrap();
    assert_eq!(tcp(world, Place::Node, ip, 80), Reach::Silence);
    assert!(world.dropped(drop::NO_PROXY) >= 1);
}

fn seen(reach: &Reach) -> std::net::SocketAddr {
    match reach {
        Reach::Answered(seen) => *seen,
        other => panic!("{other:?}"),
    }
}
