//! One row of a policy test file as packets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::file::{Row, TestFile};
use crate::netlab::{
    LIMIT, Lab, NODE_V4, NODE_V6, Namespace, WORLD_V4, WORLD_V6,
    clients::{Reach, SILENCE, url},
    workload::Workload,
};

/// The endpoints of a file, alive, with a server at every port that a row asks for.
pub struct Stage<'a> {
    lab: &'a Lab,
    workloads: BTreeMap<String, Workload>,
}

/// A side of a row: where to stand, and the addresses to use.
struct Place<'a> {
    ns: &'a Namespace,
    addresses: Vec<IpAddr>,
    /// The row names one address of several of the outside host.
    named: bool,
}

impl<'a> Stage<'a> {
    pub fn set_up(lab: &'a Lab, file: &TestFile) -> Self {
        let mut workloads = BTreeMap::new();
        for endpoint in &file.endpoints {
            let mut args = vec!["--namespace".to_owned(), endpoint.namespace.clone()];
            for (key, value) in &endpoint.labels {
                args.extend(["--label".to_owned(), format!("{key}={value}")]);
            }
            for (key, value) in file.namespaces.get(&endpoint.namespace).into_iter().flatten() {
                args.extend(["--label".to_owned(), format!("io.cilium.k8s.namespace.labels.{key}={value}")]);
            }
            for (name, port) in &endpoint.named_ports {
                args.extend(["--named-port".to_owned(), format!("{name}={port}")]);
            }
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            workloads.insert(endpoint.name.clone(), lab.workload_with(&endpoint.name, &args));
        }
        let stage = Self { lab, workloads };
        let outside: BTreeSet<IpAddr> = file
            .tests
            .iter()
            .flat_map(|row| [&row.from, &row.to])
            .filter_map(|end| end.parse().ok())
            .collect();
        for address in outside {
            lab.world_address(address);
        }
        stage.serve(file);
        stage
    }

    fn serve(&self, file: &TestFile) {
        let mut servers: BTreeMap<&str, (&Namespace, BTreeSet<String>)> = BTreeMap::new();
        for row in &file.tests {
            let place = self.place(&row.to);
            let (port, protocol) = row.port();
            let words = &mut servers.entry(place.ns.name()).or_insert((place.ns, BTreeSet::new())).1;
            match protocol.as_str() {
                "TCP" => drop(words.insert(format!("http:{port}"))),
                // A datagram's answer must come from the address that was asked.
                "UDP" => words.extend(place.addresses.iter().map(|ip| format!("udp:{port}@{ip}"))),
                _ => (),
            }
        }
        for (ns, words) in servers.values() {
            if !words.is_empty() {
                self.lab.serve(ns, &words.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }

    fn place(&self, end: &str) -> Place<'_> {
        let both = |v4: &str, v6: &str| vec![v4.parse().expect("IPv4"), v6.parse().expect("IPv6")];
        match end {
            "world" => Place { ns: &self.lab.world, addresses: both(WORLD_V4, WORLD_V6), named: false },
            "host" => Place { ns: &self.lab.node, addresses: both(NODE_V4, NODE_V6), named: false },
            name => match (self.workloads.get(name), name.parse()) {
                (Some(w), _) => Place { ns: &w.ns, addresses: w.addresses().to_vec(), named: false },
                (None, Ok(ip)) => Place { ns: &self.lab.world, addresses: vec![ip], named: true },
                (None, Err(_)) => panic!("no place in a lab is called {name}"),
            },
        }
    }

    /// `allow`, `deny`, `redirect`; or what was seen instead, in words. IPv4 and IPv6 must agree.
    pub fn verdict(&self, row: &Row) -> String {
        let (from, to) = (self.place(&row.from), self.place(&row.to));
        let (port, protocol) = row.port();
        let family = |ip: &&IpAddr| match protocol.as_str() {
            "ICMP" => ip.is_ipv4(),
            "ICMPV6" => ip.is_ipv6(),
            _ => !from.named || ip.is_ipv4() == from.addresses[0].is_ipv4(),
        };
        let seen: BTreeSet<String> =
            to.addresses.iter().filter(family).map(|ip| self.probe(row, &from, (*ip, port).into())).collect();
        assert!(!seen.is_empty(), "{}: no packet was sent", row.name);
        Vec::from_iter(seen).join(" and ")
    }

    fn probe(&self, row: &Row, from: &Place, to: SocketAddr) -> String {
        // Patience where an answer is expected; see `SILENCE`.
        let limit = if row.expect == "deny" { SILENCE } else { LIMIT };
        let source = from.named.then(|| from.addresses[0]);
        let seen = match (row.port().1.as_str(), &row.http) {
            ("TCP", Some(_)) => return self.request(row, from, to),
            ("TCP", None) if row.expect == "redirect" => return self.redirected(from, to, limit),
            ("TCP", None) => from.ns.tcp_from(source, to, limit),
            ("UDP", _) => from.ns.udp_from(source, to, limit),
            ("ICMP" | "ICMPV6", _) => from.ns.ping_from(source, to.ip(), limit),
            (other, _) => panic!("no probe for {other}"),
        };
        match seen {
            Reach::Answered => "allow".to_owned(),
            Reach::Silent => "deny".to_owned(),
            Reach::Refused => "refused".to_owned(),
        }
    }

    fn request(&self, row: &Row, from: &Place, to: SocketAddr) -> String {
        let request = row.http.as_ref().expect("a row with a request");
        let mut args = vec!["-X".to_owned(), request.method.clone()];
        let host = request.host.iter().map(|host| format!("Host: {host}"));
        for header in host.chain(request.headers.iter().map(|(name, value)| format!("{name}: {value}"))) {
            args.extend(["-H".to_owned(), header]);
        }
        if from.named {
            args.extend(["--interface".to_owned(), from.addresses[0].to_string()]);
        }
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let reply = from.ns.curl(LIMIT, &url(to, &request.path), &args);
        match (reply.status, reply.exit) {
            (200, 0) => "allow".to_owned(),
            (403, 0) => "deny".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// A proxied connection opens, and requests on it are answered one way or the other; one that the
    /// rules of no document allow is not.
    fn redirected(&self, from: &Place, to: SocketAddr, limit: Duration) -> String {
        let seen = from.ns.curl(limit, &url(to, "/no/document/allows/this"), &["-X", "TRACE"]).status;
        if seen == 403 { "redirect".to_owned() } else { format!("status {seen}") }
    }
}
