//! Allow, deny and default deny, by identity, protocol and port.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
    time::Duration,
};

use tektin_loader::abi::maps::{action, drop, event_kind, hook, proto};

use super::world::{ALLOW, DENY, Place, TCP, UDP, World};

/// What a connection attempt met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Answered(SocketAddr),
    Refused,
    Silence,
}

/// How long a silent drop is waited for; a passing packet takes microseconds.
const SILENCE: Duration = Duration::from_millis(400);

/// A server that answers every connection with the address that it sees.
pub(crate) fn tcp_server(world: &World, at: Place, ip: IpAddr, port: u16) {
    let (ready, listening) = mpsc::channel();
    world.at(at, move || {
        let listener = TcpListener::bind((ip, port)).unwrap();
        ready.send(()).unwrap();
        while let Ok((mut client, from)) = listener.accept() {
            let _ = client.write_all(from.to_string().as_bytes());
        }
    });
    listening.recv().unwrap();
}

pub(crate) fn tcp(world: &World, from: Place, to: IpAddr, port: u16) -> Reach {
    world
        .at(from, move || match TcpStream::connect_timeout(&(to, port).into(), SILENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut seen = String::new();
                match stream.read_to_string(&mut seen) {
                    Ok(_) => Reach::Answered(seen.parse().unwrap()),
                    Err(_) => Reach::Silence,
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Reach::Refused,
            Err(_) => Reach::Silence,
        })
        .join()
        .unwrap()
}

pub(crate) fn udp_server(world: &World, at: Place, ip: IpAddr, port: u16) {
    let (ready, listening) = mpsc::channel();
    world.at(at, move || {
        let socket = UdpSocket::bind((ip, port)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = vec![0; 65536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
    listening.recv().unwrap();
}

/// Whether a datagram of `len` octets comes back.
pub(crate) fn udp(world: &World, from: Place, to: IpAddr, port: u16, len: usize) -> Reach {
    world
        .at(from, move || {
            let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u8; 16].into() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect((to, port)).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            if socket.send(&vec![7; len]).is_err() {
                return Reach::Refused;
            }
            let mut buffer = vec![0; 65536];
            match socket.recv(&mut buffer) {
                Ok(got) if got == len => Reach::Answered((to, port).into()),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Reach::Refused,
                _ => Reach::Silence,
            }
        })
        .join()
        .unwrap()
}

fn from(place: Place, reach: &Reach) -> bool {
    matches!(reach, Reach::Answered(seen) if seen.ip() == place.v4() || seen.ip() == place.v6())
}

#[test]
fn without_policy_everything_passes_and_the_server_sees_the_client() {
    let mut world = World::new();
    for ip in [Place::B.v4(), Place::B.v6()] {
        tcp_server(&world, Place::B, ip, 80);
        udp_server(&world, Place::B, ip, 53);
        for client in [Place::A, Place::Outside] {
            let reach = tcp(&world, client, ip, 80);
            assert!(from(client, &reach), "{client:?} {reach:?} {:?}", world.metrics_by_name());
            assert!(matches!(udp(&world, client, ip, 53, 10), Reach::Answered(_)), "{client:?}");
            assert!(world.ping(client, ip, 56), "{client:?}");
        }
        // A closed port: the RST, and the ICMP error of a datagram, come back.
        assert_eq!(tcp(&world, Place::A, ip, 81), Reach::Refused);
        assert_eq!(udp(&world, Place::A, ip, 54, 10), Reach::Refused);
    }
    let news = world.events(|event| event.kind == event_kind::NEW && event.flow.dport == 80);
    let from_a = news.iter().find(|event| event.src_endpoint == 1).unwrap();
    assert_eq!((from_a.src_identity, from_a.dst_identity, from_a.dst_endpoint), (256, 257, 2));
    assert_eq!((from_a.egress_action, from_a.ingress_action), (action::NONE, action::NONE));
    assert_eq!((from_a.hook, from_a.src_mac), (hook::FROM_WORKLOAD, Place::A.mac()));
}

#[test]
fn ingress_policy_allows_what_it_names_and_nothing_else() {
    let mut world = World::new();
    for port in [80, 81, 82] {
        tcp_server(&world, Place::B, Place::B.v4(), port);
    }
    udp_server(&world, Place::B, Place::B.v4(), 80);
    let policy = world.policy(Place::A, &[(TCP, 80, ALLOW), (TCP, 81, DENY)]);
    world.enforce(Place::B, policy, 0);
    world.drain();
    assert!(from(Place::A, &tcp(&world, Place::A, Place::B.v4(), 80)));
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 81), Reach::Silence);
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 82), Reach::Silence);
    assert_eq!(udp(&world, Place::A, Place::B.v4(), 80, 4), Reach::Silence);
    assert!(!world.ping(Place::A, Place::B.v4(), 56));
    // Somebody of another identity.
    assert_eq!(tcp(&world, Place::Outside, Place::B.v4(), 80), Reach::Silence);
    assert!(world.dropped(drop::POLICY_DENY) >= 1);
    assert!(world.dropped(drop::DEFAULT_DENY) >= 4);

    let events = world.events(|_| true);
    let of =
        |port: u16| events.iter().find(|event| event.flow.dport == port && event.flow.proto == TCP).unwrap();
    assert_eq!((of(80).kind, of(80).ingress_rule, of(80).ingress_action), (event_kind::NEW, 80, ALLOW));
    assert_eq!((of(81).kind, of(81).reason, of(81).ingress_rule), (event_kind::DROP, drop::POLICY_DENY, 81));
    assert_eq!((of(82).kind, of(82).reason, of(82).ingress_rule), (event_kind::DROP, drop::DEFAULT_DENY, 0));
}

#[test]
fn egress_and_ingress_must_both_agree() {
    let mut world = World::new();
    tcp_server(&world, Place::B, Place::B.v6(), 80);
    let egress = world.policy(Place::B, &[(TCP, 80, ALLOW)]);
    let ingress = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    let closed = world.policy(Place::A, &[]);
    let reach = |world: &World| tcp(world, Place::A, Place::B.v6(), 80);
    world.enforce(Place::A, 0, egress);
    world.enforce(Place::B, ingress, 0);
    assert!(from(Place::A, &reach(&world)));
    world.enforce(Place::B, closed, 0);
    assert_eq!(reach(&world), Reach::Silence);
    world.enforce(Place::B, ingress, 0);
    world.enforce(Place::A, 0, closed);
    assert_eq!(reach(&world), Reach::Silence);
    world.enforce(Place::A, 0, egress);
    assert!(from(Place::A, &reach(&world)));
}

#[test]
fn the_outside_is_judged_by_its_prefix() {
    let mut world = World::new();
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    tcp_server(&world, Place::Outside, Place::Outside.v4(), 80);
    let world_in = world.policy(Place::Outside, &[(TCP, 80, ALLOW)]);
    world.enforce(Place::B, world_in, 0);
    assert!(from(Place::Outside, &tcp(&world, Place::Outside, Place::B.v4(), 80)));
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Silence);
    // B has no egress policy, A may not reach the outside.
    let nothing = world.policy(Place::B, &[]);
    world.enforce(Place::A, 0, nothing);
    assert!(from(Place::B, &tcp(&world, Place::B, Place::Outside.v4(), 80)));
    assert_eq!(tcp(&world, Place::A, Place::Outside.v4(), 80), Reach::Silence);
}

#[test]
fn icmp_is_judged_by_its_type() {
    let mut world = World::new();
    let echo = world.policy(Place::A, &[(proto::ICMP, 8, ALLOW), (proto::ICMPV6, 128, ALLOW)]);
    let other = world.policy(Place::A, &[(proto::ICMP, 13, ALLOW), (proto::ICMPV6, 129, ALLOW)]);
    for (policy, answered) in [(echo, true), (other, false)] {
        world.enforce(Place::B, policy, 0);
        assert_eq!(world.ping(Place::A, Place::B.v4(), 56), answered);
        assert_eq!(world.ping(Place::A, Place::B.v6(), 56), answered);
    }
    // B's own requests are answered: the answer belongs to a flow that B may begin.
    assert!(world.ping(Place::B, Place::A.v4(), 56));
}

#[test]
fn replies_pass_where_requests_may_not() {
    let mut world = World::new();
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    udp_server(&world, Place::B, Place::B.v4(), 53);
    tcp_server(&world, Place::A, Place::A.v4(), 80);
    let nobody = world.policy(Place::B, &[]);
    world.enforce(Place::A, nobody, 0);
    assert!(from(Place::A, &tcp(&world, Place::A, Place::B.v4(), 80)));
    assert!(matches!(udp(&world, Place::A, Place::B.v4(), 53, 9), Reach::Answered(_)));
    assert_eq!(tcp(&world, Place::B, Place::A.v4(), 80), Reach::Silence);
}

#[test]
fn redirect_of_what_is_not_tcp_is_a_denial() {
    let mut world = World::new();
    udp_server(&world, Place::B, Place::B.v4(), 53);
    let policy = world.policy(Place::A, &[(UDP, 53, action::REDIRECT)]);
    world.enforce(Place::B, policy, 0);
    assert_eq!(udp(&world, Place::A, Place::B.v4(), 53, 9), Reach::Silence);
    assert_eq!(world.dropped(drop::POLICY_DENY), 1);
}
