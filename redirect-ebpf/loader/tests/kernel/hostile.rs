//! What somebody would try who is refused: each test is one way around a policy.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tektin_loader::{
    abi::maps::{IpcacheValue, ct_flag, drop, event_kind, identity},
    ipcache_key,
};

use super::{
    policy::{Reach, tcp, tcp_server, udp, udp_server},
    proxy::{Port, Proxy},
    raw::{self, v4, v6},
    steering::{echo_connection, echoes},
    world::{ALLOW, DENY, Place, REDIRECT, TCP, UDP, World},
};

/// A connection of A to a server at B that speaks without end.
fn download(world: &World) -> TcpStream {
    let (ready, listening) = mpsc::channel();
    world.at(Place::B, move || {
        let listener = TcpListener::bind((Place::B.v4(), 80)).unwrap();
        ready.send(()).unwrap();
        let (mut client, _) = listener.accept().unwrap();
        while client.write_all(b"more").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    listening.recv().unwrap();
    world
        .at(Place::A, || {
            let stream = TcpStream::connect((Place::B.v4(), 80)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
            stream
        })
        .join()
        .unwrap()
}

/// Whether data comes, once all that was under way has come.
fn flows(stream: &mut TcpStream) -> bool {
    std::thread::sleep(Duration::from_millis(100));
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer), Ok(4096)) {}
    matches!(stream.read(&mut buffer), Ok(1..))
}

#[test]
fn a_revoked_download_does_not_go_on_as_the_servers_own_flow() {
    let mut world = World::new();
    let mut stream = download(&world);
    assert!(flows(&mut stream));
    let nothing = world.policy(Place::A, &[]);
    world.enforce(Place::B, nothing, 0);
    assert!(!flows(&mut stream));
    let of_flow = |world: &World| {
        let entries = world.datapath.maps.ct.entries().unwrap();
        entries.into_iter().filter(|(flow, _)| flow.dport == 80 || flow.sport == 80).collect::<Vec<_>>()
    };
    // It is not forgotten after a denial's ten seconds ...
    let (flow, mut entry) = of_flow(&world)[0];
    assert!(entry.expires_ns > entry.reported_ns + 3600 * 1_000_000_000);
    // ... and forgotten, it is not known again by its answers.
    entry.expires_ns = 1;
    world.datapath.maps.ct.insert(&flow, &entry).unwrap();
    assert!(!flows(&mut stream), "expired");
    world.datapath.maps.ct.remove(&flow).unwrap();
    assert!(!flows(&mut stream), "evicted");
    assert!(
        of_flow(&world)
            .iter()
            .all(|(flow, entry)| { flow.dport == 80 && entry.flags & ct_flag::DENIED != 0 })
    );
}

#[test]
fn the_answer_of_a_judged_server_makes_no_flow_past_the_proxy() {
    let mut world = World::new();
    let judged = world.policy(Place::A, &[(TCP, 80, REDIRECT)]);
    world.enforce(Place::B, judged, 0);
    let answer = raw::ipv4(v4(Place::B), v4(Place::A), TCP, 0, &raw::tcp(80, 4000, 0x18));
    raw::send(&world, Place::B, vec![raw::ethernet(Place::B.mac(), 0x0800, &answer)]);
    let request = raw::ipv4(v4(Place::A), v4(Place::B), TCP, 0, &raw::tcp(4000, 80, 0x18));
    raw::send(&world, Place::A, vec![raw::ethernet(Place::A.mac(), 0x0800, &request)]);
    assert_eq!(world.dropped(drop::NEEDS_PROXY_MIDSTREAM), 2, "{:?}", world.metrics_by_name());
    let drops = world.events(|event| event.kind == event_kind::DROP);
    // The event tells of the flow as its originator sends it, and so do the identities.
    assert_eq!((drops[0].flow.sport, drops[0].flow.dport), (4000, 80));
    assert_eq!((drops[0].src_identity, drops[0].dst_identity), (256, 257));
}

#[test]
fn strangers_cannot_spoil_connections_by_packets_that_are_refused() {
    let mut world = World::new();
    let nothing = world.policy(Place::B, &[]);
    world.enforce(Place::A, nothing, 0);
    tcp_server(&world, Place::Outside, Place::Outside.v4(), 80);
    let stray = raw::ipv4(v4(Place::Outside), v4(Place::A), TCP, 0, &raw::tcp(80, 4001, 0x10));
    raw::send(&world, Place::Outside, vec![raw::ethernet([2, 0, 0, 0, 0, 9], 0x0800, &stray)]);
    assert_eq!(world.dropped(drop::DEFAULT_DENY), 1);
    let reached = world.at(Place::A, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(Place::A.v4(), 4001).into()).unwrap();
        let to = SocketAddr::new(Place::Outside.v4(), 80);
        socket.connect_timeout(&to.into(), Duration::from_millis(800)).is_ok()
    });
    assert!(reached.join().unwrap(), "{:?}", world.metrics_by_name());
}

#[test]
fn a_priority_tag_does_not_hide_a_spoofed_source() {
    let world = World::new();
    let (ready, listening) = mpsc::channel();
    let server = world.at(Place::B, move || {
        let socket = UdpSocket::bind((Place::B.v6(), 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        ready.send(()).unwrap();
        socket.recv_from(&mut [0; 64]).map(|(_, from)| from)
    });
    listening.recv().unwrap();
    let (a, b) = (v6(Place::A), v6(Place::B));
    let mut datagram = raw::udp(53, 53, b"x!");
    let pseudo = [&a.octets()[..], &b.octets(), &10u32.to_be_bytes(), &[0, 0, 0, 17], &datagram].concat();
    datagram[6..8].copy_from_slice(&raw::checksum(&pseudo).to_be_bytes());
    let packet = raw::ipv6(a, b, UDP, 64, &datagram);
    let tagged = [&[0, 0, 0x86, 0xdd][..], &packet].concat();
    let twice = [&[0, 0, 0x81, 0][..], &tagged].concat();
    let frames = [tagged, twice].map(|payload| raw::ethernet([2, 0, 0, 0, 0, 9], 0x8100, &payload));
    raw::send(&world, Place::Outside, frames.into());
    assert!(server.join().unwrap().is_err(), "the outside speaks as A");
    assert_eq!(world.dropped(drop::SPOOFED_SOURCE_IP), 1);
}

#[test]
fn an_address_that_the_ipcache_does_not_know_is_still_its_endpoints() {
    let mut world = World::new();
    let nothing = world.policy(Place::A, &[]);
    world.enforce(Place::B, nothing, 0);
    for ip in [Place::B.v4(), Place::B.v6()] {
        udp_server(&world, Place::B, ip, 53);
        tcp_server(&world, Place::B, ip, 80);
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        world.datapath.maps.ipcache.remove(&ipcache_key(ip, bits)).unwrap();
        assert_eq!(udp(&world, Place::A, ip, 53, 8), Reach::Silence);
        assert_eq!(tcp(&world, Place::A, ip, 80), Reach::Silence);
    }
}

#[test]
fn the_hosts_link_local_addresses_are_the_host() {
    let mut world = World::new();
    let policy = world.policy(Place::Outside, &[(TCP, 0, ALLOW)]);
    world.enforce(Place::A, 0, policy);
    world.at(Place::Node, || {
        let listener = TcpListener::bind("[::]:8080").unwrap();
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.write_all(b"host");
        }
    });
    let reach = |world: &World| {
        world
            .at(Place::A, || {
                let scope = nix::net::if_::if_nametoindex("eth0").unwrap();
                let to = SocketAddrV6::new("fe80::1".parse().unwrap(), 8080, 0, scope);
                let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
                // Its own address: the kernel would take a link-local one, which is refused.
                socket.bind(&SocketAddr::new(Place::A.v6(), 0).into()).unwrap();
                socket.connect_timeout(&SocketAddr::from(to).into(), Duration::from_millis(500)).is_ok()
            })
            .join()
            .unwrap()
    };
    assert!(!reach(&world), "allowed as the world");
    let policy = world.policy(Place::Node, &[(TCP, 8080, ALLOW)]);
    world.enforce(Place::A, 0, policy);
    assert!(reach(&world), "{:?}", world.metrics_by_name());
}

#[test]
fn a_proxied_connection_ends_when_its_peer_becomes_somebody_else() {
    let mut world = World::new();
    let judged = world.policy(Place::A, &[(TCP, 80, REDIRECT)]);
    world.enforce(Place::B, judged, 0);
    let _proxy = Proxy::start(&world, Port::Same);
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    // The new name may do the same, by rules that the proxy would not look at.
    let maps = &world.datapath.maps;
    let value = IpcacheValue { identity: identity::CLUSTER_MAX, endpoint: 2, ..IpcacheValue::default() };
    maps.ipcache.insert(&ipcache_key(Place::B.v4(), 32), &value).unwrap();
    world.enforce(Place::B, judged, 0);
    assert!(!echoes(&mut stream));
    world.enforce(Place::B, judged, 0);
    assert!(!echoes(&mut stream));
}

#[test]
fn a_syn_from_the_other_end_of_an_allowed_flow_is_judged_by_itself() {
    let mut world = World::new();
    let nothing = world.policy(Place::B, &[(TCP, 9, DENY)]);
    world.enforce(Place::A, nothing, 0);
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let port = match stream.local_addr().unwrap() {
        SocketAddr::V4(address) => address.port(),
        SocketAddr::V6(_) => unreachable!(),
    };
    let before = world.dropped(drop::DEFAULT_DENY);
    for flags in [0x02, 0x03, 0x06, 0x42] {
        let syn = raw::ipv4(v4(Place::B), v4(Place::A), TCP, 0, &raw::tcp(80, port, flags));
        raw::send(&world, Place::B, vec![raw::ethernet(Place::B.mac(), 0x0800, &syn)]);
    }
    assert_eq!(world.dropped(drop::DEFAULT_DENY), before + 4, "{:?}", world.metrics_by_name());
    assert!(echoes(&mut stream), "and what stands goes on: {:?}", world.metrics_by_name());
}
