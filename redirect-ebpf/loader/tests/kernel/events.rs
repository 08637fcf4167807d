//! The ring buffer, read round and round.

use std::net::UdpSocket;

use tektin_loader::{LoadOptions, abi::maps::event_kind};

use super::world::{Place, UDP, World};

#[test]
fn every_event_comes_once_and_in_order() {
    // A few windows of the reader, filled several times over.
    let options = LoadOptions { map_max_entries: vec![("events", 256 << 10)], ..LoadOptions::default() };
    let mut world = World::with_options(&options);
    for round in 0..12 {
        let to = Place::B.v4();
        let from = world.at(Place::A, move || {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
            for port in 1..=800 {
                socket.send_to(b"x", (to, port)).unwrap();
            }
            socket.local_addr().unwrap().port()
        });
        let from = from.join().unwrap();
        let news = world.events(|event| {
            event.kind == event_kind::NEW && event.flow.proto == UDP && event.flow.sport == from
        });
        let ports: Vec<u16> = news.iter().map(|event| event.flow.dport).collect();
        assert_eq!(ports, (1..=800).collect::<Vec<_>>(), "round {round}");
    }
}
