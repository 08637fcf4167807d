//! Packets between two workloads that go past the node's stack, and those that must not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};

use tektin_loader::{
    Features, LoadOptions,
    abi::maps::{DeviceValue, ct_flag, drop, event_kind, metric},
};

use super::{
    policy::{Reach, tcp, tcp_server, udp, udp_server},
    raw::{checksum, ethernet, ipv4, ipv6, send, udp as datagram, v4, v6},
    steering::{echo_connection, echoes},
    tap::Tap,
    world::{ALLOW, NODE_MAC, Place, TCP, UDP, World, ip, wait_until},
};

/// A world whose agent has said where both workloads are.
fn direct() -> World {
    let world = World::new();
    world.hand_over(Place::A, 1500);
    world.hand_over(Place::B, 1500);
    world
}

/// Packets that the node's own stack has forwarded. The test's thread is in the node's namespace.
fn forwarded_by_the_stack() -> u64 {
    let v4 = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let v6 = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "ForwDatagrams").unwrap();
    let v6 = v6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).unwrap();
    values.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
        + v6.split_whitespace().last().unwrap().parse::<u64>().unwrap()
}

#[test]
fn both_ends_talk_past_the_stack_and_policy_holds() {
    let mut world = direct();
    let policy =
        world.policy(Place::A, &[(TCP, 80, ALLOW), (UDP, 53, ALLOW), (1, 8, ALLOW), (58, 128, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    world.drain();
    let before = forwarded_by_the_stack();
    for ip in [Place::B.v4(), Place::B.v6()] {
        tcp_server(&world, Place::B, ip, 80);
        tcp_server(&world, Place::B, ip, 81);
        udp_server(&world, Place::B, ip, 53);
        assert!(matches!(tcp(&world, Place::A, ip, 80), Reach::Answered(_)), "{:?}", world.metrics_by_name());
        assert!(matches!(udp(&world, Place::A, ip, 53, 1000), Reach::Answered(_)));
        assert!(world.ping(Place::A, ip, 56));
        assert_eq!(tcp(&world, Place::A, ip, 81), Reach::Silence);
        assert_eq!(udp(&world, Place::A, ip, 54, 10), Reach::Silence);
    }
    assert_eq!(forwarded_by_the_stack(), before);
    assert!(world.metric(metric::FORWARDED) >= 2 * (6 + 2 + 2), "{:?}", world.metrics_by_name());
    let news = world.events(|event| event.kind == event_kind::NEW);
    assert_eq!(news.len(), 6, "one event a flow");
    assert!(news.iter().all(|event| (event.src_endpoint, event.dst_endpoint) == (1, 2)));
}

#[test]
fn a_frame_arrives_as_from_a_router() {
    let world = direct();
    let tap = Tap::open(&world, Place::B);
    let payload = datagram(1000, 9, b"marker");
    let frame = ethernet(Place::A.mac(), 0x0800, &ipv4(v4(Place::A), v4(Place::B), 17, 0, &payload));
    send(&world, Place::A, vec![frame.clone()]);
    let heard = tap.wait(b"marker");
    assert_eq!((&heard[..6], &heard[6..12]), (&Place::B.mac()[..], &NODE_MAC[..]));
    assert_eq!((heard[22], checksum(&heard[14..34])), (63, 0), "TTL, and a header whose sum is right");
    assert_eq!((&heard[14..22], &heard[26..]), (&frame[14..22], &frame[26..]), "all else as it was");

    let frame = ethernet(Place::A.mac(), 0x86dd, &ipv6(v6(Place::A), v6(Place::B), 17, 64, &payload));
    send(&world, Place::A, vec![frame.clone()]);
    let heard = tap.wait(b"marker");
    assert_eq!((&heard[..6], &heard[6..12], heard[21]), (&Place::B.mac()[..], &NODE_MAC[..], 63));
    assert_eq!((&heard[14..21], &heard[22..]), (&frame[14..21], &frame[22..]));
}

#[test]
fn a_policy_change_ends_a_flow_that_was_handed_over() {
    let mut world = direct();
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let nothing = world.policy(Place::A, &[]);
    let allow = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    world.drain();
    let tap = Tap::open(&world, Place::B);
    world.enforce(Place::B, nothing, 0);
    assert!(!echoes(&mut stream));
    assert!(tap.heard(b"hello").is_empty(), "not one packet came through");
    let changed = world.events(|event| event.kind == event_kind::CHANGED);
    assert_eq!((changed[0].reason, changed[0].src_endpoint), (drop::DEFAULT_DENY, 1));
    let before = forwarded_by_the_stack();
    world.enforce(Place::B, allow, 0);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    assert_eq!(forwarded_by_the_stack(), before, "back on the short way");
}

#[test]
fn nothing_is_handed_to_a_device_that_is_another_endpoints_now() {
    let world = direct();
    let (node, outside) = (world.namespace(Place::Node), world.namespace(Place::Outside));
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    let maps = &world.datapath.maps;
    let of_b = maps.devices.get(2).unwrap();
    // As the agent takes an endpoint away, but its conntrack entries are still there.
    maps.endpoints.remove(&of_b.ifindex).unwrap();
    maps.devices.set(2, &DeviceValue::default()).unwrap();
    ip(&["-n", &node, "link", "del", Place::B.device()]);
    let index = of_b.ifindex.to_string();
    let mut link = vec!["-n", &node, "link", "add", "tt-knew", "index", &index, "type", "veth", "peer"];
    link.extend(["name", "eth9", "netns", &outside]);
    ip(&link);
    ip(&["-n", &node, "link", "set", "tt-knew", "up"]);
    ip(&["-n", &outside, "link", "set", "eth9", "up"]);
    let tap = Tap::open(&world, Place::Outside);
    let tries = |stream: &mut TcpStream, marker: &[u8]| {
        let before = world.metric(metric::FORWARDED);
        stream.write_all(marker).unwrap();
        wait_until("a packet of the flow", || world.metric(metric::FORWARDED) > before);
        assert!(tap.heard(marker).is_empty(), "{marker:?}");
    };
    tries(&mut stream, b"to nobody");
    // Then the next endpoint gets the index, and at last even the number; but the address is its own.
    let next = DeviceValue { ipv4: [9; 16], ipv6: [8; 16], ..of_b };
    maps.devices.set(3, &next).unwrap();
    tries(&mut stream, b"to the third");
    maps.devices.set(2, &next).unwrap();
    tries(&mut stream, b"to the same number");
}

#[test]
fn flows_stay_on_the_way_they_began() {
    let world = World::new();
    let mut through = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut through));
    world.hand_over(Place::A, 1500);
    world.hand_over(Place::B, 1500);
    let before = forwarded_by_the_stack();
    assert!(echoes(&mut through));
    assert!(forwarded_by_the_stack() > before, "the stack may translate its addresses");
    let mut past = echo_connection(&world, Place::B.v6(), 80);
    let before = forwarded_by_the_stack();
    assert!(echoes(&mut past));
    assert_eq!(forwarded_by_the_stack(), before);
    // Switched off.
    for endpoint in [1, 2] {
        world.datapath.maps.devices.set(endpoint, &DeviceValue::default()).unwrap();
    }
    assert!(echoes(&mut past));
    assert!(forwarded_by_the_stack() > before);
}

#[test]
fn a_kernel_that_cannot_redirect_forwards() {
    let features = Features { redirect_peer: false, ..Features::probe() };
    let world = World::with_options(&LoadOptions { features: Some(features), ..LoadOptions::default() });
    world.hand_over(Place::A, 1500);
    world.hand_over(Place::B, 1500);
    let before = forwarded_by_the_stack();
    let mut stream = echo_connection(&world, Place::B.v4(), 80);
    assert!(echoes(&mut stream));
    assert!(forwarded_by_the_stack() > before);
    let entries = world.datapath.maps.ct.entries().unwrap();
    assert!(entries.iter().all(|(_, entry)| entry.flags & ct_flag::HANDED_OVER == 0));
}

#[test]
fn what_is_not_for_the_node_or_not_from_the_workload_is_not_handed_over() {
    let world = direct();
    let (a, b, mac) = (v4(Place::A), v4(Place::B), Place::A.mac());
    let tap = Tap::open(&world, Place::B);
    let frame =
        |mac, src, payload: &[u8]| ethernet(mac, 0x0800, &ipv4(src, b, 17, 0, &datagram(1, 9, payload)));
    // A flow that is handed over, to be abused.
    send(&world, Place::A, vec![frame(mac, a, b"mine")]);
    tap.wait(b"mine");
    let mut to_somebody = frame(mac, a, b"astray");
    to_somebody[..6].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    let before = world.metric(metric::FORWARDED);
    send(&world, Place::A, vec![to_somebody]);
    wait_until("the stray frame", || world.metric(metric::FORWARDED) > before);
    send(
        &world,
        Place::A,
        vec![frame([2, 0, 0, 0, 0, 7], a, b"other mac"), frame(mac, v4(Place::Outside), b"other ip")],
    );
    wait_until("both drops", || {
        world.dropped(drop::SPOOFED_SOURCE_MAC) == 1 && world.dropped(drop::SPOOFED_SOURCE_IP) == 1
    });
    send(&world, Place::A, vec![frame(mac, a, b"last")]);
    tap.wait(b"last");
    for marker in [&b"astray"[..], b"other mac", b"other ip"] {
        assert!(tap.heard(marker).is_empty(), "{marker:?}");
    }
}

#[test]
fn fragments_go_through_the_stack() {
    let world = direct();
    for ip in [Place::B.v4(), Place::B.v6()] {
        udp_server(&world, Place::B, ip, 53);
        assert!(
            matches!(udp(&world, Place::A, ip, 53, 6000), Reach::Answered(_)),
            "{:?}",
            world.metrics_by_name()
        );
        assert!(world.ping(Place::A, ip, 6000));
    }
}

/// Sends what comes back as an error: its number.
fn complaint(world: &World, to: IpAddr, prepare: fn(&socket2::Socket), len: usize) -> i32 {
    let asks = move || {
        let own = if to.is_ipv4() { Place::A.v4() } else { Place::A.v6() };
        let socket = UdpSocket::bind((own, 0)).unwrap();
        socket.connect((to, 9)).unwrap();
        let raw = socket2::Socket::from(socket.try_clone().unwrap());
        prepare(&raw);
        socket.send(&vec![1; len]).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        socket.recv(&mut [0; 8]).unwrap_err().raw_os_error().unwrap()
    };
    world.at(Place::A, asks).join().unwrap()
}

fn set(socket: &socket2::Socket, level: i32, name: i32, value: i32) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the option is an int, and so is what is passed.
    let result =
        unsafe { nix::libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), 4) };
    assert_eq!(result, 0, "socket option {name}");
}

#[test]
fn a_hop_limit_that_ends_here_is_answered_by_the_node() {
    use nix::libc;
    let world = direct();
    let last = |socket: &socket2::Socket| {
        set(socket, libc::IPPROTO_IP, libc::IP_TTL, 1);
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
    };
    assert_eq!(complaint(&world, Place::B.v4(), last, 8), libc::EHOSTUNREACH);
    let last = |socket: &socket2::Socket| {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 1);
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1);
    };
    assert_eq!(complaint(&world, Place::B.v6(), last, 8), libc::EHOSTUNREACH);
}

#[test]
fn a_packet_beyond_the_devices_mtu_is_answered_by_the_node() {
    use nix::libc;
    let world = direct();
    let node = world.namespace(Place::Node);
    ip(&["-n", &node, "link", "set", Place::B.device(), "mtu", "1400"]);
    world.hand_over(Place::B, 1400);
    let whole = |socket: &socket2::Socket| {
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO);
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
    };
    assert_eq!(complaint(&world, Place::B.v4(), whole, 1450), libc::EMSGSIZE);
    let whole = |socket: &socket2::Socket| {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO);
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1);
    };
    assert_eq!(complaint(&world, Place::B.v6(), whole, 1450), libc::EMSGSIZE);
}

#[test]
fn a_long_transfer_finds_its_segment_size() {
    let world = direct();
    let node = world.namespace(Place::Node);
    ip(&["-n", &node, "link", "set", Place::B.device(), "mtu", "1400"]);
    world.hand_over(Place::B, 1400);
    let to = Place::B.v4();
    let (ready, listening) = mpsc::channel();
    let server = world.at(Place::B, move || {
        let listener = TcpListener::bind((to, 80)).unwrap();
        ready.send(()).unwrap();
        let mut all = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut all).unwrap();
        all.len()
    });
    listening.recv().unwrap();
    let client = world
        .at(Place::A, move || TcpStream::connect((to, 80)).unwrap().write_all(&vec![7; 4 << 20]).unwrap());
    client.join().unwrap();
    assert_eq!(server.join().unwrap(), 4 << 20);
}
