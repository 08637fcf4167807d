//! What the kernel side decides alone: peers, addresses, ports, protocols.

use std::net::{IpAddr, SocketAddr};

use crate::{
    netlab::{
        LIMIT, Lab, NODE_V4, NODE_V6, WORLD_V4, WORLD_V6,
        clients::{Reach, SILENCE},
    },
    policies::{cnp, documents, port},
};

fn both(v4: &str, v6: &str) -> [IpAddr; 2] {
    [v4.parse().expect("IPv4"), v6.parse().expect("IPv6")]
}

#[test]
fn peers_and_ports_are_let_in_or_not() {
    let lab = Lab::new();
    let (web, friend, foe) = (lab.workload("web"), lab.workload("friend"), lab.workload("foe"));
    lab.serve(&web.ns, &["echo:80", "echo:81"]);
    for to in web.at(80).into_iter().chain(web.at(81)) {
        // No policy selects the server yet.
        friend.ns.expect_open(to);
        foe.ns.expect_open(to);
    }

    // L3: the whole workload, by label.
    lab.apply(&cnp("web", "web", "ingress: [{fromEndpoints: [{matchLabels: {app: friend}}]}]"));
    for to in web.at(80).into_iter().chain(web.at(81)) {
        friend.ns.expect_open(to);
        foe.ns.expect_silence(to);
    }

    // L4: one port of it.
    let rule = port(80, "TCP");
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: friend}}}}], {rule}}}]"),
    ));
    for ip in web.addresses() {
        friend.ns.expect_open((ip, 80).into());
        friend.ns.expect_silence((ip, 81).into());
        foe.ns.expect_silence((ip, 80).into());
    }

    // A deny rule beats the allow, whatever the width.
    let deny = cnp("not-you", "web", "ingressDeny: [{fromEndpoints: [{matchLabels: {app: friend}}]}]");
    lab.apply(&deny);
    for to in web.at(80) {
        friend.ns.expect_silence(to);
    }

    lab.tektin(&["policy", "delete", "--name", "not-you"]).success();
    for to in web.at(80) {
        friend.ns.expect_open(to);
    }
    lab.tektin(&["policy", "delete", "--name", "web"]).success();
    for to in web.at(80).into_iter().chain(web.at(81)) {
        foe.ns.expect_open(to);
    }
}

#[test]
fn what_a_workload_sends_is_policed_too() {
    let lab = Lab::new();
    let (client, one, other) = (lab.workload("client"), lab.workload("one"), lab.workload("other"));
    for server in [&one, &other] {
        lab.serve(&server.ns, &["echo:80", "echo:81"]);
    }
    let rule = port(80, "TCP");
    lab.apply(&cnp(
        "client",
        "client",
        &format!("egress: [{{toEndpoints: [{{matchLabels: {{app: one}}}}], {rule}}}]"),
    ));
    for family in 0..2 {
        client.ns.expect_open(one.at(80)[family]);
        client.ns.expect_silence(one.at(81)[family]);
        client.ns.expect_silence(other.at(80)[family]);
        // Egress of the others is nobody's business, and the answers find their way.
        other.ns.expect_open(one.at(81)[family]);
    }
}

#[test]
fn cidr_with_except() {
    let lab = Lab::new();
    let client = lab.workload("client");
    let inside = both("203.0.113.10", "2001:db8:113::10");
    let excepted = both("203.0.113.130", "2001:db8:113::8010");
    for ip in inside.into_iter().chain(excepted) {
        lab.world_address(ip);
    }
    lab.serve(&lab.world, &["echo:80"]);
    let at = |ip: IpAddr| SocketAddr::new(ip, 80);
    for ip in inside.into_iter().chain(excepted).chain(both(WORLD_V4, WORLD_V6)) {
        client.ns.expect_open(at(ip));
    }
    lab.apply(&cnp(
        "cidr",
        "client",
        "egress:
- toCIDRSet:
  - {cidr: 203.0.113.0/24, except: [203.0.113.128/25]}
  - {cidr: \"2001:db8:113::/64\", except: [\"2001:db8:113::8000/113\"]}",
    ));
    for ip in inside {
        client.ns.expect_open(at(ip));
    }
    for ip in excepted.into_iter().chain(both(WORLD_V4, WORLD_V6)) {
        client.ns.expect_silence(at(ip));
    }
}

#[test]
fn cidr_at_ingress_and_never_for_workloads() {
    let lab = Lab::new();
    let (web, neighbour) = (lab.workload("web"), lab.workload("neighbour"));
    lab.serve(&web.ns, &["echo:80"]);
    for to in web.at(80) {
        lab.world.expect_open(to);
        neighbour.ns.expect_open(to);
    }
    // The pools are in it, and still a workload is known by its labels and not by its address.
    lab.apply(&cnp("web", "web", "ingress: [{fromCIDR: [0.0.0.0/0, \"::/0\"]}]"));
    for to in web.at(80) {
        lab.world.expect_open(to);
        neighbour.ns.expect_silence(to);
    }
    lab.apply(&cnp("web", "web", &format!("ingress: [{{fromCIDR: [{WORLD_V4}/32]}}]")));
    let [v4, v6] = web.at(80);
    lab.world.expect_open(v4);
    lab.world.expect_silence(v6);
}

#[test]
fn the_entities_world_and_host() {
    let lab = Lab::new();
    let (web, neighbour) = (lab.workload("web"), lab.workload("neighbour"));
    lab.serve(&web.ns, &["echo:80"]);
    lab.serve(&lab.world, &["echo:80"]);
    lab.serve(&lab.node, &["echo:8080"]);

    lab.apply(&cnp("web", "web", "ingress: [{fromEntities: [world]}]"));
    for to in web.at(80) {
        lab.world.expect_open(to);
        neighbour.ns.expect_silence(to);
        // The node may always enter: its probes of the workload's health.
        lab.node.expect_open(to);
    }
    lab.apply(&cnp("web", "web", "ingress: [{fromEntities: [host]}]"));
    for to in web.at(80) {
        lab.node.expect_open(to);
        lab.world.expect_silence(to);
        neighbour.ns.expect_silence(to);
    }
    // A deny rule stops the node too.
    lab.apply(&cnp(
        "web",
        "web",
        "ingress: [{fromEntities: [world]}]\ningressDeny: [{fromEntities: [host]}]",
    ));
    for to in web.at(80) {
        lab.world.expect_open(to);
        lab.node.expect_silence(to);
    }

    lab.apply(&cnp("out", "neighbour", "egress: [{toEntities: [host]}]"));
    for (host, world) in both(NODE_V4, NODE_V6).into_iter().zip(both(WORLD_V4, WORLD_V6)) {
        neighbour.ns.expect_open((host, 8080).into());
        neighbour.ns.expect_silence((world, 80).into());
    }
    lab.apply(&cnp("out", "neighbour", "egress: [{toEntities: [world]}]"));
    for (host, world) in both(NODE_V4, NODE_V6).into_iter().zip(both(WORLD_V4, WORLD_V6)) {
        neighbour.ns.expect_open((world, 80).into());
        neighbour.ns.expect_silence((host, 8080).into());
    }
    // The node's address towards workloads is the host as well.
    let node = lab.json(&["status"])["node"]["ipv4"].as_str().expect("the node's address").to_owned();
    neighbour.ns.expect_silence(SocketAddr::new(node.parse().expect("an address"), 8080));
}

#[test]
fn a_range_of_ports() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:1999", "echo:2000", "echo:2047", "echo:2500", "echo:2999", "echo:3000"]);
    lab.apply(&cnp(
        "range",
        "web",
        "ingress: [{toPorts: [{ports: [{port: \"2000\", endPort: 2999, protocol: TCP}]}]}]",
    ));
    for ip in web.addresses() {
        for port in [2000, 2047, 2500, 2999] {
            client.ns.expect_open((ip, port).into());
        }
        for port in [1999, 3000] {
            client.ns.expect_silence((ip, port).into());
        }
    }
}

#[test]
fn named_ports_are_the_workloads_own() {
    let lab = Lab::new();
    let args = |app: &'static str, port: &'static str| ["--label", app, "--named-port", port];
    let one = lab.workload_with("one", &args("app=web", "serve=8001/TCP"));
    let two = lab.workload_with("two", &args("app=web", "serve=8002/TCP"));
    let client = lab.workload("client");
    for server in [&one, &two] {
        lab.serve(&server.ns, &["echo:8001", "echo:8002"]);
    }
    lab.apply(&cnp("web", "web", "ingress: [{toPorts: [{ports: [{port: serve, protocol: TCP}]}]}]"));
    for family in 0..2 {
        client.ns.expect_open(one.at(8001)[family]);
        client.ns.expect_silence(one.at(8002)[family]);
        client.ns.expect_open(two.at(8002)[family]);
        client.ns.expect_silence(two.at(8001)[family]);
    }
}

#[test]
fn icmp_by_type() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:80"]);
    let pings = |expected: [Reach; 2]| {
        for (ip, expected) in web.addresses().into_iter().zip(expected) {
            let limit = if expected == Reach::Answered { LIMIT } else { SILENCE };
            assert_eq!(client.ns.ping(ip, limit), expected, "ping {ip}");
        }
    };
    pings([Reach::Answered, Reach::Answered]);
    // A rule about ports says nothing about ICMP.
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", port(80, "ANY"))));
    pings([Reach::Silent, Reach::Silent]);
    client.ns.expect_open(web.at(80)[0]);
    lab.apply(&cnp("web", "web", "ingress: [{icmps: [{fields: [{family: IPv4, type: 8}]}]}]"));
    pings([Reach::Answered, Reach::Silent]);
    client.ns.expect_silence(web.at(80)[0]);
    lab.apply(&cnp("web", "web", "ingress: [{icmps: [{fields: [{family: IPv6, type: EchoRequest}]}]}]"));
    pings([Reach::Silent, Reach::Answered]);
}

#[test]
fn udp_is_its_own_protocol() {
    let lab = Lab::new();
    let (dns, client) = (lab.workload("dns"), lab.workload("client"));
    lab.serve(&dns.ns, &["udp:53", "udp:54", "echo:53"]);
    for to in dns.at(54) {
        assert_eq!(client.ns.udp(to, LIMIT), Reach::Answered, "{to}");
    }
    lab.apply(&cnp("dns", "dns", &format!("ingress: [{{{}}}]", port(53, "UDP"))));
    for ip in dns.addresses() {
        assert_eq!(client.ns.udp((ip, 53).into(), LIMIT), Reach::Answered);
        assert_eq!(client.ns.udp((ip, 54).into(), SILENCE), Reach::Silent);
        client.ns.expect_silence((ip, 53).into());
    }
}

#[test]
fn default_deny_on_and_off() {
    let lab = Lab::new();
    let (web, friend, foe) = (lab.workload("web"), lab.workload("friend"), lab.workload("foe"));
    lab.serve(&web.ns, &["echo:80", "http:8080"]);
    let rules = "ingress: [{fromEndpoints: [{matchLabels: {app: friend}}]}]";
    lab.apply(&cnp("web", "web", rules));
    for to in web.at(80) {
        friend.ns.expect_open(to);
        foe.ns.expect_silence(to);
    }
    // The same rule without the default: it allows nothing that was not allowed anyway.
    let off = "enableDefaultDeny: {ingress: false}";
    lab.apply(&cnp("web", "web", &format!("{off}\n{rules}")));
    for to in web.at(80) {
        friend.ns.expect_open(to);
        foe.ns.expect_open(to);
    }
    // A deny rule still denies.
    lab.apply(&cnp(
        "web",
        "web",
        &format!("{off}\ningressDeny: [{{fromEndpoints: [{{matchLabels: {{app: foe}}}}]}}]"),
    ));
    for to in web.at(80) {
        friend.ns.expect_open(to);
        foe.ns.expect_silence(to);
    }
    // HTTP rules without the default: requests are seen, none is refused.
    let http =
        "ingress: [{toPorts: [{ports: [{port: \"8080\", protocol: TCP}], rules: {http: [{method: GET}]}}]}]";
    lab.apply(&cnp("web", "web", &format!("{off}\n{http}")));
    for to in web.at(8080) {
        foe.ns.expect_status(200, to, "/", &["-X", "DELETE"]);
    }
    lab.apply(&cnp("web", "web", http));
    for to in web.at(8080) {
        foe.ns.expect_status(403, to, "/", &["-X", "DELETE"]);
        foe.ns.expect_status(200, to, "/", &[]);
    }
    // Egress alone closes nothing at ingress.
    lab.apply(&documents(&[cnp("web", "web", "egress: [{}]")]));
    for to in web.at(80) {
        foe.ns.expect_open(to);
    }
}
