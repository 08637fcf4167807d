//! A node with two workloads and an outside, each a network namespace of its own, removed when
//! dropped.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use tektin_loader::{
    Datapath, EventReader, LoadOptions,
    abi::maps::{
        DeviceValue, EndpointValue, Event, IpcacheValue, PeerClassKey, PolicyKey, PolicyRoot, PolicyValue,
        action, identity, prefix, proto,
    },
    ipcache_key, to_addr,
};

/// A workload, or the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    A,
    B,
    /// Behind the uplink.
    Outside,
    Node,
}

impl Place {
    const ALL: [Self; 4] = [Self::A, Self::B, Self::Outside, Self::Node];

    fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Outside => "w",
            Self::Node => "n",
        }
    }

    pub(crate) fn v4(self) -> IpAddr {
        IpAddr::V4(match self {
            Self::A => Ipv4Addr::new(10, 99, 0, 11),
            Self::B => Ipv4Addr::new(10, 99, 0, 12),
            Self::Outside => Ipv4Addr::new(192, 0, 2, 2),
            Self::Node => Ipv4Addr::new(192, 0, 2, 1),
        })
    }

    pub(crate) fn v6(self) -> IpAddr {
        IpAddr::V6(match self {
            Self::A => Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x11),
            Self::B => Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x12),
            Self::Outside => Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 2),
            Self::Node => Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 1),
        })
    }

    /// The endpoint id of a workload.
    pub(crate) fn endpoint(self) -> u32 {
        match self {
            Self::A => 1,
            Self::B => 2,
            _ => 0,
        }
    }

    pub(crate) fn identity(self) -> u32 {
        match self {
            Self::A => 256,
            Self::B => 257,
            Self::Outside => identity::WORLD_IPV4,
            Self::Node => identity::HOST,
        }
    }

    pub(crate) fn mac(self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.endpoint() as u8 + 9]
    }

    /// The device of the node that leads there.
    pub(crate) fn device(self) -> &'static str {
        match self {
            Self::A => "tt-ka",
            Self::B => "tt-kb",
            _ => "tt-kup",
        }
    }
}

/// The MAC of every device on the node's side.
pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

pub(crate) struct World {
    id: String,
    pub(crate) pin_dir: PathBuf,
    pub(crate) datapath: Datapath,
    pub(crate) events: EventReader,
    next_policy: u32,
    // Last, so that it goes last.
    _namespaces: Namespaces,
}

/// Deletes what a test made, however the test ends.
struct Namespaces {
    names: Vec<String>,
    pin_dir: PathBuf,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if let Err(error) = Datapath::remove_all(&self.pin_dir) {
            eprintln!("removing pins: {error}");
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// One verdict of a test policy: protocol, port, action.
pub(crate) type Line = (u8, u16, u8);

impl World {
    pub(crate) fn new() -> Self {
        Self::with_options(&LoadOptions::default())
    }

    /// Moves the calling thread into the node's namespace.
    pub(crate) fn with_options(options: &LoadOptions) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests load programs into the kernel: run them as root"
        );
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/tektin-test-k{id}"));
        let names = Place::ALL.iter().map(|place| namespace(&id, *place)).collect();
        let namespaces = Namespaces { names, pin_dir: pin_dir.clone() };
        for name in &namespaces.names {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        enter(&namespace(&id, Place::Node));
        lay_out(&id);
        let datapath = Datapath::open_or_load(&pin_dir, options).expect("load");
        let events = EventReader::open(&pin_dir).expect("events");
        let mut world = Self { id, pin_dir, datapath, events, next_policy: 1, _namespaces: namespaces };
        world.fill();
        world
    }

    /// Addresses, endpoints, and the programs on their devices.
    fn fill(&mut self) {
        let maps = &self.datapath.maps;
        let know = |ip: IpAddr, prefix: u8, identity: u32, endpoint: u32| {
            let value = IpcacheValue { identity, endpoint, ..IpcacheValue::default() };
            maps.ipcache.insert(&ipcache_key(ip, prefix), &value).unwrap();
        };
        know(Ipv4Addr::UNSPECIFIED.into(), 0, identity::WORLD_IPV4, 0);
        know(Ipv6Addr::UNSPECIFIED.into(), 0, identity::WORLD_IPV6, 0);
        know(Ipv4Addr::new(169, 254, 1, 1).into(), 32, identity::HOST, 0);
        for place in [Place::A, Place::B, Place::Node] {
            know(place.v4(), 32, place.identity(), place.endpoint());
            know(place.v6(), 128, place.identity(), place.endpoint());
        }
        maps.config.set_revision(1).unwrap();
        for place in [Place::A, Place::B] {
            self.register(place);
            self.datapath.attach_workload(place.device()).expect("attach");
        }
        self.datapath.attach_outside(Place::Outside.device()).expect("attach");
    }

    pub(crate) fn register(&self, place: Place) {
        let (IpAddr::V4(_), IpAddr::V6(_)) = (place.v4(), place.v6()) else { unreachable!() };
        let value = EndpointValue {
            id: place.endpoint(),
            identity: place.identity(),
            ipv4: to_addr(place.v4()),
            ipv6: to_addr(place.v6()),
            mac: place.mac(),
            _pad: [0; 2],
        };
        let ifindex = nix::net::if_::if_nametoindex(place.device()).unwrap();
        self.datapath.maps.endpoints.insert(&ifindex, &value).unwrap();
    }

    /// Lets packets to a workload be handed over at its device.
    pub(crate) fn hand_over(&self, place: Place, mtu: u32) {
        let value = DeviceValue {
            ifindex: nix::net::if_::if_nametoindex(place.device()).unwrap(),
            mtu,
            ipv4: to_addr(place.v4()),
            ipv6: to_addr(place.v6()),
            mac: place.mac(),
            host_mac: NODE_MAC,
            _pad: [0; 4],
        };
        self.datapath.maps.devices.set(place.endpoint(), &value).unwrap();
    }

    pub(crate) fn namespace(&self, place: Place) -> String {
        namespace(&self.id, place)
    }

    /// A policy under a new id: for the identity of `peer`, these verdicts; for all others, none.
    /// The rule of a line is its port.
    pub(crate) fn policy(&mut self, peer: Place, lines: &[Line]) -> u32 {
        let id = self.next_policy;
        self.next_policy += 1;
        let maps = &self.datapath.maps;
        let identities = match peer {
            Place::Outside => vec![identity::WORLD_IPV4, identity::WORLD_IPV6],
            place => vec![place.identity()],
        };
        for identity in identities {
            maps.peer_class.insert(&PeerClassKey { policy: id, identity }, &1).unwrap();
        }
        for (proto, port, action) in lines {
            let key = PolicyKey {
                prefix_len: if *port == 0 { prefix::ANY_PORT } else { prefix::FULL },
                policy_be: id.to_be_bytes(),
                class_be: 1u32.to_be_bytes(),
                proto: *proto,
                _pad: 0,
                port_be: port.to_be_bytes(),
            };
            let value = PolicyValue { action: *action, _pad: [0; 3], rule: u32::from(*port) };
            maps.policy.insert(&key, &value).unwrap();
        }
        id
    }

    /// Puts policies in force, as the agent does: root first, then the revision.
    pub(crate) fn enforce(&self, place: Place, ingress: u32, egress: u32) {
        let maps = &self.datapath.maps;
        maps.policy_root.set(place.endpoint(), &PolicyRoot { ingress, egress }).unwrap();
        let revision = maps.config.read().unwrap().revision;
        maps.config.set_revision(revision + 1).unwrap();
    }

    /// Runs `work` in a namespace, in a thread of its own.
    pub(crate) fn at<T: Send + 'static>(
        &self,
        place: Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let name = self.namespace(place);
        thread::spawn(move || {
            enter(&name);
            work()
        })
    }

    pub(crate) fn ping(&self, from: Place, to: IpAddr, size: u32) -> bool {
        let (name, to, size) = (self.namespace(from), to.to_string(), size.to_string());
        let output = Command::new("ip")
            .args(["netns", "exec", &name, "ping", "-n", "-c", "1", "-W", "1", "-s", &size, &to])
            .output()
            .expect("ping");
        output.status.success()
    }

    pub(crate) fn metric(&self, index: u32) -> u64 {
        self.datapath.maps.metrics.read().unwrap()[index as usize]
    }

    pub(crate) fn dropped(&self, reason: u8) -> u64 {
        self.metric(u32::from(reason))
    }

    /// All events so far that `wanted` accepts, waiting for the first of them.
    pub(crate) fn events(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut found = Vec::new();
        wait_until("an event", || {
            while let Some(event) = self.events.next().expect("the buffer") {
                if wanted(&event) {
                    found.push(event);
                }
            }
            !found.is_empty()
        });
        found
    }

    /// Forgets the events so far.
    pub(crate) fn drain(&mut self) {
        while self.events.next().expect("the buffer").is_some() {}
    }

    pub(crate) fn metrics_by_name(&self) -> BTreeMap<u32, u64> {
        let all = self.datapath.maps.metrics.read().unwrap();
        (0..).zip(all).filter(|(_, count)| *count > 0).collect()
    }
}

/// Waits for a state that must come; how long is no part of what is tested.
pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn namespace(id: &str, place: Place) -> String {
    format!("tt-k{id}-{}", place.letter())
}

pub(crate) fn enter(name: &str) {
    let file = File::open(Path::new("/run/netns").join(name)).expect("namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Nobody's kernel talks of its own accord: a test counts the packets that it sends.
fn quiet(name: String) {
    let silence = move || {
        enter(&name);
        for file in ["router_solicitations", "accept_dad", "dad_transmits"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/eth0/{file}"), "0").expect(file);
        }
    };
    thread::spawn(silence).join().unwrap();
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// From within the node's namespace: devices, addresses, routes and rules as on a real node.
fn lay_out(id: &str) {
    let node = namespace(id, Place::Node);
    for place in [Place::A, Place::B, Place::Outside] {
        make_link(id, place);
    }
    for (file, value) in [
        ("ipv4/ip_forward", "1"),
        ("ipv6/conf/all/forwarding", "1"),
        ("ipv4/conf/all/rp_filter", "1"),
        ("ipv4/conf/all/src_valid_mark", "1"),
    ] {
        fs::write(Path::new("/proc/sys/net").join(file), value).expect(file);
    }
    for (family, own) in [("-4", Place::Node.v4()), ("-6", Place::Node.v6())] {
        let own = own.to_string();
        let rules: [&[&str]; 5] = [
            &["rule", "add", "prio", "8", "iif", "lo", "fwmark", "0x200/0xf00", "lookup", "main"],
            &["rule", "add", "prio", "9", "fwmark", "0x200/0xf00", "lookup", "2004"],
            &["rule", "add", "prio", "10", "fwmark", "0x400/0xf00", "lookup", "2005"],
            &["route", "add", "local", "default", "dev", "lo", "table", "2004"],
            &["route", "add", "local", "default", "dev", "lo", "src", &own, "table", "2005"],
        ];
        for rule in rules {
            let mut arguments = vec!["-n", &node, family];
            arguments.extend(rule);
            ip(&arguments);
        }
    }
}

pub(crate) fn make_link(id: &str, place: Place) {
    let (node, there) = (&namespace(id, Place::Node), &namespace(id, place));
    let (device, v4, v6) = (place.device(), place.v4().to_string(), place.v6().to_string());
    let (mac, node_mac) = (text(place.mac()), text(NODE_MAC));
    let peer = ["type", "veth", "peer", "name", "eth0", "address", &mac, "netns", there];
    let mut link = vec!["-n", node, "link", "add", device, "address", &node_mac];
    link.extend(peer);
    ip(&link);
    quiet(there.clone());
    ip(&["-n", there, "link", "set", "eth0", "up"]);
    ip(&["-n", node, "link", "set", device, "up"]);
    if place == Place::Outside {
        let (n4, n6) = (Place::Node.v4().to_string(), Place::Node.v6().to_string());
        ip(&["-n", there, "addr", "add", &format!("{v4}/24"), "dev", "eth0"]);
        ip(&["-n", there, "addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
        ip(&["-n", node, "addr", "add", &format!("{n4}/24"), "dev", device]);
        ip(&["-n", node, "addr", "add", &format!("{n6}/64"), "dev", device, "nodad"]);
        ip(&["-n", there, "route", "add", "10.99.0.0/24", "via", &n4]);
        ip(&["-n", there, "route", "add", "fd99::/64", "via", &n6]);
        return;
    }
    ip(&["-n", node, "addr", "add", "169.254.1.1/32", "dev", device]);
    ip(&["-n", node, "addr", "add", "fe80::1/64", "dev", device, "nodad"]);
    for (address, plen) in [(&v4, 32), (&v6, 128)] {
        ip(&["-n", node, "route", "add", &format!("{address}/{plen}"), "dev", device]);
        ip(&["-n", node, "neigh", "add", address, "lladdr", &mac, "dev", device, "nud", "permanent"]);
        let nodad = if plen == 128 { vec!["nodad"] } else { vec![] };
        let whole = format!("{address}/{plen}");
        ip(&[vec!["-n", there, "addr", "add", &whole, "dev", "eth0"], nodad].concat());
    }
    for gateway in ["169.254.1.1", "fe80::1"] {
        ip(&["-n", there, "neigh", "add", gateway, "lladdr", &node_mac, "dev", "eth0", "nud", "permanent"]);
    }
    ip(&["-n", there, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"]);
    ip(&["-n", there, "route", "add", "default", "via", "169.254.1.1", "dev", "eth0"]);
    ip(&["-n", there, "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0"]);
}

/// The protocols and actions that tests name most.
pub(crate) const TCP: u8 = proto::TCP;
pub(crate) const UDP: u8 = proto::UDP;
pub(crate) const ALLOW: u8 = action::ALLOW;
pub(crate) const DENY: u8 = action::DENY;
pub(crate) const REDIRECT: u8 = action::REDIRECT;
