//! Connections: their entries, and what a policy change does to them.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tektin_loader::{
    LoadOptions,
    abi::maps::{PolicyRoot, action, ct_flag, drop, event_kind, metric},
};

use super::{
    policy::{Reach, tcp, tcp_server, udp, udp_server},
    steering::{echo_connection, echoes},
    world::{ALLOW, Place, TCP, UDP, World, wait_until},
};

#[test]
fn a_policy_change_ends_an_established_flow_and_another_lets_it_go_on() {
    let mut world = World::new();
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let nothing = world.policy(Place::A, &[]);
    let allow = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    world.drain();
    world.enforce(Place::B, nothing, 0);
    assert!(!echoes(&mut stream));
    let changed = world.events(|event| event.kind == event_kind::CHANGED);
    assert_eq!((changed[0].reason, changed[0].ingress_action), (drop::DEFAULT_DENY, action::DENY));
    assert!(world.metric(metric::REJUDGED) >= 1);
    world.enforce(Place::B, allow, 0);
    // What was written meanwhile is retransmitted.
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    let changed = world.events(|event| event.kind == event_kind::CHANGED);
    assert_eq!((changed[0].reason, changed[0].ingress_rule), (drop::NONE, 80));
}

#[test]
fn the_answers_of_a_denied_flow_end_too() {
    let mut world = World::new();
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    // A may send no more; B, which no policy selects, still would.
    let nothing = world.policy(Place::B, &[]);
    world.enforce(Place::A, 0, nothing);
    assert!(!echoes(&mut stream));
    let entries = world.datapath.maps.ct.entries().unwrap();
    let (_, entry) = entries.iter().find(|(flow, _)| flow.dport == 80).unwrap();
    assert_ne!(entry.flags & ct_flag::DENIED, 0);
    assert!(!entries.iter().any(|(flow, _)| flow.sport == 80), "no flow of the answers' own");
}

#[test]
fn an_entry_holds_both_ends_and_ends_with_the_connection() {
    let world = World::new();
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Answered(_)));
    wait_until("both FINs", || {
        let entries = world.datapath.maps.ct.entries().unwrap();
        let of_flow: Vec<_> = entries.iter().filter(|(flow, _)| flow.dport == 80).collect();
        assert_eq!(of_flow.len(), 1, "one entry a flow");
        let entry = of_flow[0].1;
        assert_eq!((entry.src_identity, entry.dst_identity), (256, 257));
        assert_eq!((entry.src_endpoint, entry.dst_endpoint), (1, 2));
        entry.flags & ct_flag::CLOSING != 0
    });
}

#[test]
fn an_expired_entry_counts_as_absent() {
    let mut world = World::new();
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let maps = &world.datapath.maps;
    for (flow, mut entry) in maps.ct.entries().unwrap() {
        entry.expires_ns = 1;
        maps.ct.insert(&flow, &entry).unwrap();
    }
    world.drain();
    assert!(echoes(&mut stream), "judged as a new flow, and nothing is against it");
    let news = world.events(|event| event.kind == event_kind::NEW);
    assert_eq!(news[0].flow.dport, 80);
}

#[test]
fn a_full_table_evicts_and_goes_on() {
    let options = LoadOptions { map_max_entries: vec![("ct", 64)], ..LoadOptions::default() };
    let mut world = World::with_options(&options);
    udp_server(&world, Place::B, Place::B.v4(), 53);
    let policy = world.policy(Place::A, &[(UDP, 53, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    // Each from a port of its own.
    for _ in 0..200 {
        assert!(matches!(udp(&world, Place::A, Place::B.v4(), 53, 8), Reach::Answered(_)));
    }
    assert!(world.datapath.maps.ct.count().unwrap() <= 64);
    assert_eq!(udp(&world, Place::A, Place::B.v4(), 54, 8), Reach::Silence);
    assert!(world.metric(metric::NEW_FLOWS) >= 200);
}

#[test]
fn switching_policies_leaves_no_moment_without_one() {
    let mut world = World::new();
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    // Both allow 80 to A and nothing else; a packet between the two would find neither.
    let policies = [world.policy(Place::A, &[(TCP, 80, ALLOW)]), world.policy(Place::A, &[(TCP, 80, ALLOW)])];
    world.enforce(Place::B, policies[0], 0);
    let mut stream = echo_connection(&world, Place::B.v6(), 80);
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let traffic = world.at(Place::A, move || {
        let mut rounds = 0u32;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        while !seen.load(Ordering::Relaxed) {
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            rounds += 1;
        }
        rounds
    });
    for turn in 0..2000 {
        let root = PolicyRoot { ingress: policies[turn % 2], egress: 0 };
        world.datapath.maps.policy_root.set(2, &root).unwrap();
        world.datapath.maps.config.set_revision(10 + turn as u32).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(traffic.join().unwrap() > 0);
    assert_eq!(world.dropped(drop::DEFAULT_DENY), 0);
    assert_eq!(world.dropped(drop::POLICY_DENY), 0);
}

#[test]
fn drops_of_one_flow_are_reported_once_a_second() {
    let mut world = World::new();
    let nothing = world.policy(Place::A, &[]);
    world.enforce(Place::B, nothing, 0);
    world.drain();
    world
        .at(Place::A, || {
            let socket = std::net::UdpSocket::bind((Place::A.v4(), 4000)).unwrap();
            for _ in 0..500 {
                socket.send_to(b"x", (Place::B.v4(), 9)).unwrap();
            }
        })
        .join()
        .unwrap();
    wait_until("500 drops", || world.dropped(drop::DEFAULT_DENY) == 500);
    let drops = world.events(|event| event.kind == event_kind::DROP);
    // The burst takes milliseconds; a slow machine may stretch it over a few seconds.
    assert!(drops.len() < 20, "{} events", drops.len());
}
