//! Random identities and requests.

use std::collections::{BTreeMap, BTreeSet};

use policy_engine::{
    http::HttpRequest,
    identity::{Identity, NamedPorts},
    labels::{LabelKey, Labels, NAMESPACE, Source},
    model::Protocol,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

pub(crate) const PREFIXES: [&str; 8] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "192.168.0.0/16",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
];

pub(crate) fn subjects() -> impl Strategy<Value = Vec<Identity>> {
    let host = Identity::reserved(1).expect("the host");
    let init = Identity::reserved(5).expect("a workload without labels yet");
    let reserved = prop_oneof![4 => Just(None), 1 => Just(Some(host)), 1 => Just(Some(init))];
    (vec(workload(), 1..3), reserved).prop_map(|(workloads, reserved)| {
        let mut subjects: Vec<Identity> = workloads
            .into_iter()
            .enumerate()
            .map(|(index, (labels, ports))| Identity::workload(300 + index as u32, labels, ports))
            .collect();
        subjects.extend(reserved);
        subjects
    })
}

pub(crate) fn peers() -> impl Strategy<Value = Vec<Identity>> {
    let outside = (select(&PREFIXES[1..]), option::weighted(0.3, super::policies::fqdn()));
    (vec(workload(), 0..5), vec(outside, 0..5)).prop_map(|(workloads, outside)| {
        let workloads = workloads
            .into_iter()
            .enumerate()
            .map(|(index, (labels, ports))| Identity::workload(400 + index as u32, labels, ports));
        let outside = outside.into_iter().enumerate().map(|(index, (prefix, fqdn))| {
            let fqdns: BTreeSet<_> = fqdn.into_iter().collect();
            Identity::for_prefix((1 << 24) + index as u32, prefix.parse().expect("a net"), fqdns)
        });
        workloads.chain(outside).collect()
    })
}

pub(crate) fn workload() -> impl Strategy<Value = (Labels, NamedPorts)> {
    let value = || select(&["a", "b", "c"][..]).prop_map(str::to_owned);
    let source = prop_oneof![3 => Just(Source::K8s), 1 => Just(Source::Other("container".to_owned()))];
    let labels = (option::weighted(0.8, (source, value())), option::weighted(0.6, value()), value());
    let http = option::weighted(0.6, select(&[80, 8080][..]));
    let dns = option::weighted(0.4, select(&[Protocol::Tcp, Protocol::Udp][..]));
    (labels, http, dns).prop_map(|((app, tier, namespace), http, dns)| {
        let mut labels = BTreeMap::new();
        let key = |source, key: &str| LabelKey { source, key: key.to_owned() };
        if let Some((source, app)) = app {
            labels.insert(key(source, "app"), app);
        }
        if let Some(tier) = tier {
            labels.insert(key(Source::K8s, "tier"), tier);
        }
        labels.insert(key(Source::K8s, NAMESPACE), namespace);
        let mut ports = BTreeMap::new();
        if let Some(port) = http {
            ports.insert("http".to_owned(), (Protocol::Tcp, port));
        }
        if let Some(protocol) = dns {
            ports.insert("dns".to_owned(), (protocol, 53));
        }
        (Labels(labels), NamedPorts(ports))
    })
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn as_http(&self) -> HttpRequest<'_> {
        HttpRequest { method: &self.method, path: &self.path, host: &self.host, headers: &self.headers }
    }
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let text = |texts: &'static [&'static str]| select(texts).prop_map(str::to_owned);
    let method = text(&["GET", "POST", "POST", "PUT", "get", "PATCH", ""]);
    let fixed = text(&[
        "/",
        "/a",
        "/b",
        "/ab",
        "/api/v1",
        "/api/v22",
        "/api/v1/x",
        "",
        "/a?x=1",
        "/a/b",
        "/é",
        "/a-b",
    ]);
    let call = text(&[
        "/a.B/Get",
        "/a.b.C/Put",
        "/B/Get",
        "/a.b./Get",
        "/a./Get",
        "/ab.C/Get",
        "/a.B/",
        "/a.B/Get?x",
        "/a.B/Get/x",
        "//Get",
    ]);
    let path = prop_oneof![4 => fixed, 1 => call.clone(), 1 => "[/ab?x=é\\-]{0,6}"];
    let host = text(&["example.com", "exampleXcom", "EXAMPLE.COM:80", "", "localhost"]);
    let header = prop_oneof![
        3 => (text(&["X-A", "x-B", "X-C"]), text(&["", "1", "2", "1,2"])),
        2 => (text(&["Content-Type"]), text(&["application/grpc", "application/grpc-web+proto", "text/plain"])),
    ];
    let any = (method, path, host.clone(), vec(header, 0..3))
        .prop_map(|(method, path, host, headers)| Request { method, path, host, headers });
    // What is a gRPC call but for its name.
    let called = (call, host).prop_map(|(path, host)| Request {
        method: "POST".to_owned(),
        path,
        host,
        headers: vec![("content-type".to_owned(), "application/grpc".to_owned())],
    });
    prop_oneof![3 => any, 1 => called]
}
