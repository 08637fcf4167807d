//! A workload that lies about who it is, or goes where it has no business.

mod frames;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use frames::Frames;

use crate::{
    netlab::{
        LIMIT, Lab, NODE_V4, NODE_V6, Namespace, WORLD_V4, WORLD_V6,
        clients::{Reach, SILENCE},
        workload::Workload,
    },
    policies::{cnp, http_port},
    scripts::python,
};

/// A socket that shows which datagrams arrived in a namespace.
struct Sink(UdpSocket);

impl Sink {
    fn new(ns: &Namespace, port: u16) -> Self {
        let socket = ns.inside(|| UdpSocket::bind(("::", port))).expect("a socket in the namespace");
        socket.set_read_timeout(Some(LIMIT)).expect("a time-out");
        Self(socket)
    }

    /// Everything that arrived before `last` did. Packets of one device keep their order, so what
    /// was sent before and is not among it was dropped.
    fn until(&self, last: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let mut buffer = [0; 256];
            let length =
                self.0.recv(&mut buffer).unwrap_or_else(|e| panic!("{last:?} never came: {e}; {seen:?}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text == last {
                return seen;
            }
            seen.push(text);
        }
    }
}

/// Packets that the kernel dropped for this reason.
fn drops(lab: &Lab, reason: &str) -> u64 {
    let counters = lab.json(&["status"])["counters"].clone();
    counters[format!("drop_{reason}")].as_u64().unwrap_or_else(|| panic!("no counter {reason}: {counters}"))
}

#[test]
fn a_source_address_is_its_owners() {
    let lab = Lab::new();
    let (web, friend, foe) = (lab.workload("web"), lab.workload("friend"), lab.workload("foe"));
    let sink = Sink::new(&web.ns, 9);
    let before = drops(&lab, "spoofed_source_ip");
    // No policy: what is tested is the address alone.
    let strange: [IpAddr; 2] = ["10.244.0.250", "fd00:10:244::fa"].map(|ip| ip.parse().expect("IP"));
    let outside: [IpAddr; 2] = [WORLD_V4, WORLD_V6].map(|ip| ip.parse().expect("IP"));
    let node: [IpAddr; 2] = [NODE_V4, NODE_V6].map(|ip| ip.parse().expect("IP"));
    let mut sent = 0;
    for stolen in [friend.addresses(), strange, outside, node] {
        for (ip, to) in stolen.into_iter().zip(web.at(9)) {
            let length = if ip.is_ipv4() { 32 } else { 128 };
            let mut add = vec![
                "address".to_owned(),
                "add".into(),
                format!("{ip}/{length}"),
                "dev".into(),
                "eth0".into(),
            ];
            if ip.is_ipv6() {
                add.push("nodad".into());
            }
            foe.ns.ip(&add.iter().map(String::as_str).collect::<Vec<_>>());
            send(&foe.ns, Some(ip), to, "stolen").expect("the workload's own kernel lets it");
            sent += 1;
        }
    }
    for (to, (own, other)) in web.at(9).into_iter().zip(foe.addresses().into_iter().zip(friend.addresses())) {
        send(&foe.ns, Some(own), to, "own").expect("sent");
        assert_eq!(sink.until("own"), Vec::<String>::new(), "only what carries its sender's address arrives");
        send(&friend.ns, Some(other), to, "friend").expect("sent");
        assert_eq!(sink.until("friend"), Vec::<String>::new());
    }
    assert!(drops(&lab, "spoofed_source_ip") >= before + sent, "the drops are counted");
}

fn send(ns: &Namespace, source: Option<IpAddr>, to: SocketAddr, text: &str) -> io::Result<()> {
    ns.inside(|| {
        let any: IpAddr = if to.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
        socket.send_to(text.as_bytes(), to).map(drop)
    })
}

#[test]
fn a_frame_is_what_its_device_is() {
    let lab = Lab::new();
    let (web, friend, foe) = (lab.workload("web"), lab.workload("friend"), lab.workload("foe"));
    let sink = Sink::new(&web.ns, 9);
    let frames = Frames::new(&lab, &foe);
    let mac = frames.mac.clone();
    let friends_mac = Frames::new(&lab, &friend).mac;
    let [before_mac, before_ip] =
        ["spoofed_source_mac", "spoofed_source_ip"].map(|reason| drops(&lab, reason));
    let mut wrong = 0;
    for (family, to) in web.addresses().into_iter().enumerate() {
        let own = foe.addresses()[family];
        for bad_mac in ["02:00:00:00:00:99", &friends_mac] {
            frames.udp(bad_mac, own, to, "other mac");
            wrong += 1;
        }
        frames.udp(&mac, friend.addresses()[family], to, "raw stolen");
        frames.udp(&mac, own, to, "raw own");
        assert_eq!(sink.until("raw own"), Vec::<String>::new(), "{to}");
    }
    assert!(drops(&lab, "spoofed_source_mac") >= before_mac + wrong);
    assert!(drops(&lab, "spoofed_source_ip") >= before_ip + 2);
}

#[test]
fn announcements_move_nobodys_address() {
    let lab = Lab::new();
    let (web, friend, foe) = (lab.workload("web"), lab.workload("friend"), lab.workload("foe"));
    lab.serve(&friend.ns, &["echo:80", "udp:53"]);
    let frames = Frames::new(&lab, &foe);
    let neighbours = || {
        let mut lines: Vec<String> = Vec::new();
        for family in ["-4", "-6"] {
            lines.extend(lab.node.ip(&[family, "neighbour", "show"]).lines().map(str::to_owned));
        }
        lines.retain(|line| friend.addresses().iter().any(|ip| line.starts_with(&format!("{ip} "))));
        lines.sort();
        lines
    };
    for to in friend.at(80) {
        web.ns.expect_open(to);
    }
    let known = neighbours();
    let [arp, nd] = ["spoofed_arp", "spoofed_nd"].map(|reason| drops(&lab, reason));
    for _ in 0..3 {
        frames.announce(friend.v4.into());
        frames.announce(friend.v6.into());
        // The gateway's addresses are nobody's to take either.
        frames.announce("169.254.1.1".parse().expect("IP"));
        frames.announce("fe80::1".parse().expect("IP"));
    }
    for to in friend.at(80) {
        web.ns.expect_open(to);
    }
    assert_eq!(neighbours(), known);
    assert!(drops(&lab, "spoofed_arp") >= arp + 6);
    assert!(drops(&lab, "spoofed_nd") >= nd + 6);
    let dump = lab.node.ip(&["neighbour", "show"]);
    assert!(
        !dump.lines().any(|l| l.starts_with(&format!("{} ", friend.v4)) && l.contains(&frames.mac)),
        "{dump}"
    );
}

#[test]
fn a_mark_is_nothing_inside_a_workload() {
    let lab = Lab::new();
    let (web, foe, friend) = (lab.workload("web"), lab.workload("foe"), lab.workload("friend"));
    lab.serve(&web.ns, &["http:80", "echo:81"]);
    let rule = http_port(80, "{path: /a}");
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: friend}}}}], {rule}}}]"),
    ));
    // SO_MARK is 36 in every Linux ABI that Tektin runs on.
    let script = "
import socket, sys, http.client
mark, host, port, path = int(sys.argv[1], 0), sys.argv[2], int(sys.argv[3]), sys.argv[4]
class Marked(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, 36, mark)
        self.sock.settimeout(self.timeout)
        self.sock.connect((host, port))
try:
    c = Marked(host, port, timeout=float(sys.argv[5]))
    c.request('GET', path)
    print(c.getresponse().status)
except TimeoutError:
    print('silent')
";
    let ask = |from: &Workload, mark: &str, ip: IpAddr, port: &str, path: &str, limit: Duration| {
        let limit = limit.as_secs_f32().to_string();
        let finished = python(&lab, &from.ns, script, &[mark, &ip.to_string(), port, path, &limit]);
        finished.success().stdout.trim().to_owned()
    };
    for ip in web.addresses() {
        for mark in ["0x200", "0x300", "0x400", "0xf00"] {
            assert_eq!(ask(&friend, mark, ip, "80", "/a", LIMIT), "200", "{mark} {ip}");
            assert_eq!(ask(&friend, mark, ip, "80", "/b", LIMIT), "403", "{mark} {ip}");
            assert_eq!(ask(&foe, mark, ip, "80", "/a", SILENCE), "silent", "{mark} {ip}");
            assert_eq!(ask(&friend, mark, ip, "81", "/a", SILENCE), "silent", "{mark} {ip}");
        }
    }
}

#[test]
fn the_proxys_own_port_is_out_of_reach() {
    let lab = Lab::new();
    let (web, foe) = (lab.workload("web"), lab.workload("foe"));
    lab.serve(&web.ns, &["http:80"]);
    lab.serve(&lab.node, &["echo:8080"]);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /a}"))));
    let ports = proxy_ports(&lab);
    assert!(!ports.is_empty(), "the proxy listens somewhere");
    let status = lab.json(&["status"]);
    let node = |family: &str| status["node"][family].as_str().expect("an address").parse().expect("IP");
    let node_addresses: Vec<IpAddr> =
        vec![NODE_V4.parse().expect("IP"), NODE_V6.parse().expect("IP"), node("ipv4"), node("ipv6")];
    for ip in &node_addresses {
        foe.ns.expect_open((*ip, 8080).into());
        for port in &ports {
            for from in [&foe.ns, &lab.world] {
                let seen = from.tcp((*ip, *port).into(), SILENCE);
                assert_ne!(seen, Reach::Answered, "{} to {ip} port {port}", from.name());
            }
        }
    }
    // Loopback addresses and the workload's own, by frames that no routing table would send.
    let frames = Frames::new(&lab, &foe);
    let dead: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2", "169.254.1.1", "::1", "fe80::1"]
        .map(|ip| ip.parse().expect("IP"))
        .to_vec();
    for (own, server) in foe.addresses().into_iter().zip(web.addresses()) {
        assert!(frames.syn_is_answered(own, server, 80, LIMIT), "the way of asking works: {server}");
        for port in &ports {
            for ip in dead.iter().filter(|ip| ip.is_ipv4() == own.is_ipv4()) {
                assert!(!frames.syn_is_answered(own, *ip, *port, SILENCE), "{ip} port {port} answered");
            }
        }
    }
}

/// Ports on which this lab's proxy listens.
fn proxy_ports(lab: &Lab) -> Vec<u16> {
    let pids = lab.proxies();
    let shown = lab.node.run("ss", &["-Hltnp"]).success().stdout.clone();
    let ours = |line: &&str| pids.iter().any(|pid| line.contains(&format!("pid={pid},")));
    let port = |line: &str| line.split_whitespace().nth(3)?.rsplit(':').next()?.parse().ok();
    let mut ports: Vec<u16> = shown.lines().filter(ours).filter_map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
fn the_agents_socket_is_out_of_reach() {
    let lab = Lab::new();
    let foe = lab.workload("foe");
    let socket = lab.socket();
    let ask = |ns: &Namespace, path: &str| {
        ns.run(
            "curl",
            &["-sS", "-m", "10", "--unix-socket", &socket.to_string_lossy(), &format!("http://agent{path}")],
        )
    };
    let own = ask(&lab.node, "/v1/status");
    assert!(own.success().stdout.contains("pool4"), "{own:?}");
    for path in ["/v1/status", "/v1/policies", "/v1/endpoints"] {
        let foreign = ask(&foe.ns, path);
        assert!(
            foreign.code != Some(0)
                || (!foreign.stdout.contains("pool4") && foreign.stdout.contains("error")),
            "a workload talked to the agent: {foreign:?}"
        );
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&socket).expect("the socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    let link = lab.dir().join("run/proxy.sock");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&link).expect("the link").permissions());
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}
