//! Connections that need the proxy: to a listener with the original addresses, or nowhere.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    time::Duration,
};

use tektin_loader::abi::maps::{VerdictKey, VerdictValue, action, ct_flag, drop, event_kind, metric, proto};

use super::{
    policy::{Reach, tcp, tcp_server},
    proxy::{Port, Proxy},
    world::{ALLOW, Place, REDIRECT, TCP, World, wait_until},
};

/// A world whose B judges requests from `peer` on port 80.
fn judged(peer: Place) -> World {
    let mut world = World::new();
    let policy = world.policy(peer, &[(TCP, 80, REDIRECT)]);
    world.enforce(Place::B, policy, 0);
    world
}

fn port_of(reach: &Reach) -> SocketAddr {
    match reach {
        Reach::Answered(seen) => *seen,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_proxy_gets_the_connection_and_the_server_sees_the_client() {
    let mut world = judged(Place::A);
    let proxy = Proxy::start(&world, Port::Same);
    for (client, server) in [(Place::A.v4(), Place::B.v4()), (Place::A.v6(), Place::B.v6())] {
        tcp_server(&world, Place::B, server, 80);
        for _ in 0..3 {
            let reach = tcp(&world, Place::A, server, 80);
            let accepted = proxy.next();
            assert_eq!(port_of(&reach), accepted.client, "{:?}", world.metrics_by_name());
            assert_eq!(accepted.client.ip(), client);
            assert_eq!(accepted.destination, SocketAddr::new(server, 80));
            assert_eq!(accepted.upstream, Ok(accepted.client));
            let steered = accepted.steered.expect("an entry in steered");
            assert_eq!((steered.src_identity, steered.dst_identity), (256, 257));
            assert_eq!((steered.src_endpoint, steered.dst_endpoint), (1, 2));
            assert_eq!((steered.egress_action, steered.ingress_action), (action::NONE, REDIRECT));
            assert_eq!((steered.ingress_rule, steered.revision), (80, 2));
        }
    }
    assert_eq!(world.metric(metric::STEERED), 6);
    let news = world.events(|event| event.kind == event_kind::NEW && event.flow.dport == 80);
    assert_eq!(news.len(), 6, "one event a connection, none for the proxy's own side");
    assert!(news.iter().all(|event| event.ingress_action == REDIRECT && event.ingress_rule == 80));
}

#[test]
fn an_upstream_on_another_port_is_recorded_and_answered() {
    let world = judged(Place::A);
    let proxy = Proxy::start(&world, Port::Another);
    for server in [Place::B.v4(), Place::B.v6()] {
        tcp_server(&world, Place::B, server, 80);
        let reach = tcp(&world, Place::A, server, 80);
        let accepted = proxy.next();
        let upstream = accepted.upstream.expect("an upstream");
        assert_eq!(port_of(&reach), upstream, "{:?}", world.metrics_by_name());
        assert_eq!(upstream.ip(), accepted.client.ip());
        assert_ne!(upstream.port(), accepted.client.port());
        let entries = world.datapath.maps.ct.entries().unwrap();
        let (_, entry) = entries.iter().find(|(flow, _)| flow.sport == upstream.port()).unwrap();
        assert_eq!(entry.flags & ct_flag::FROM_PROXY, ct_flag::FROM_PROXY);
        assert_eq!((entry.src_identity, entry.dst_identity), (256, 257));
    }
}

#[test]
fn connections_of_the_outside_are_steered_at_the_uplink() {
    for port in [Port::Same, Port::Another] {
        let world = judged(Place::Outside);
        let proxy = Proxy::start(&world, port);
        for server in [Place::B.v4(), Place::B.v6()] {
            tcp_server(&world, Place::B, server, 80);
            let reach = tcp(&world, Place::Outside, server, 80);
            let accepted = proxy.next();
            assert_eq!(accepted.upstream, Ok(port_of(&reach)), "{:?}", world.metrics_by_name());
            assert_eq!(accepted.steered.unwrap().src_endpoint, 0);
        }
    }
}

#[test]
fn connections_to_the_outside_are_judged_at_egress() {
    for port in [Port::Same, Port::Another] {
        let mut world = World::new();
        let policy = world.policy(Place::Outside, &[(TCP, 80, REDIRECT)]);
        world.enforce(Place::A, 0, policy);
        let proxy = Proxy::start(&world, port);
        for server in [Place::Outside.v4(), Place::Outside.v6()] {
            tcp_server(&world, Place::Outside, server, 80);
            let reach = tcp(&world, Place::A, server, 80);
            let accepted = proxy.next();
            assert_eq!(accepted.upstream, Ok(port_of(&reach)), "{:?}", world.metrics_by_name());
            let steered = accepted.steered.unwrap();
            assert_eq!((steered.egress_action, steered.ingress_action), (REDIRECT, action::NONE));
        }
    }
}

#[test]
fn without_a_listener_the_connection_is_dropped_and_all_else_goes_on() {
    let mut world = World::new();
    let policy = world.policy(Place::A, &[(TCP, 80, REDIRECT), (TCP, 81, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    tcp_server(&world, Place::B, Place::B.v4(), 81);
    // No slot in use, and then a slot whose proxy is gone.
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Silence);
    let proxy = Proxy::start(&world, Port::Same);
    assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Answered(_)));
    drop(proxy);
    wait_until("the slot to empty itself", || !world.datapath.maps.listeners.is_set(0).unwrap());
    world.drain();
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Silence);
    assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 81), Reach::Answered(_)));
    assert!(world.dropped(drop::NO_PROXY) >= 2);
    let drops = world.events(|event| event.kind == event_kind::DROP);
    assert_eq!((drops[0].reason, drops[0].ingress_rule), (drop::NO_PROXY, 80));
}

#[test]
fn a_live_slot_takes_over_for_an_empty_one() {
    let world = judged(Place::A);
    let proxy = Proxy::start(&world, Port::Same);
    // Seven of eight slots are empty.
    world.datapath.maps.config.set_listeners(8).unwrap();
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    for _ in 0..8 {
        let reach = tcp(&world, Place::A, Place::B.v4(), 80);
        assert_eq!(port_of(&reach), proxy.next().client);
    }
}

#[test]
fn a_held_pair_gets_no_new_connections_until_the_hold_ends() {
    let world = judged(Place::A);
    let _proxy = Proxy::start(&world, Port::Same);
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    let pair = VerdictKey { src_identity: 256, dst_identity: 257, dport: 80, proto: proto::TCP, _pad: 0 };
    let hold = |until| {
        let value = VerdictValue { drop_until_ns: until, ..VerdictValue::default() };
        world.datapath.maps.verdicts.insert(&pair, &value).unwrap();
    };
    hold(u64::MAX);
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Silence);
    assert!(world.dropped(drop::VERDICT_HOLD) >= 1);
    hold(1);
    assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Answered(_)));
}

/// A connection of A to an echo server at B.
pub(crate) fn echo_connection(world: &World, to: IpAddr, port: u16) -> TcpStream {
    let (ready, listening) = mpsc::channel();
    world.at(Place::B, move || {
        let listener = TcpListener::bind((to, port)).unwrap();
        ready.send(()).unwrap();
        while let Ok((mut client, _)) = listener.accept() {
            let mut buffer = [0; 1024];
            while let Ok(len @ 1..) = client.read(&mut buffer) {
                let _ = client.write_all(&buffer[..len]);
            }
        }
    });
    listening.recv().unwrap();
    world
        .at(Place::A, move || {
            let stream = TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            stream
        })
        .join()
        .unwrap()
}

/// Whether what is written comes back.
pub(crate) fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"hello"
}

#[test]
fn a_flow_that_was_not_proxied_from_its_start_ends_when_it_needs_the_proxy() {
    let mut world = World::new();
    let _proxy = Proxy::start(&world, Port::Same);
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let policy = world.policy(Place::A, &[(TCP, 80, REDIRECT)]);
    world.enforce(Place::B, policy, 0);
    world.drain();
    assert!(!echoes(&mut stream));
    assert!(world.dropped(drop::NEEDS_PROXY_MIDSTREAM) >= 1);
    let changes = world.events(|event| event.kind == event_kind::CHANGED);
    assert_eq!((changes.len(), changes[0].reason), (1, drop::NEEDS_PROXY_MIDSTREAM));
}

#[test]
fn a_proxied_connection_survives_policies_that_still_allow_it_and_no_other() {
    let mut world = judged(Place::A);
    let _proxy = Proxy::start(&world, Port::Same);
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let plain = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    world.enforce(Place::B, plain, 0);
    assert!(echoes(&mut stream), "its bytes go on through the proxy");
    let nothing = world.policy(Place::A, &[]);
    world.enforce(Place::B, nothing, 0);
    assert!(!echoes(&mut stream));
}

#[test]
fn a_proxied_connection_survives_the_loss_of_its_entry() {
    let world = judged(Place::A);
    let _proxy = Proxy::start(&world, Port::Same);
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    for (flow, _) in world.datapath.maps.ct.entries().unwrap() {
        world.datapath.maps.ct.remove(&flow).unwrap();
    }
    assert!(echoes(&mut stream), "{:?}", world.metrics_by_name());
    let entries = world.datapath.maps.ct.entries().unwrap();
    assert!(entries.iter().all(|(flow, entry)| flow.dport == 80 && entry.flags & ct_flag::PROXIED != 0));
}
