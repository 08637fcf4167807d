//! Draws policies, identities and requests out of an input, over a vocabulary small enough that
//! things meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arbitrary::Unstructured;
use ipnet::IpNet;
use policy_engine::{
    grpc::GrpcCall,
    http::{HttpRequest, HttpRuleSpec},
    identity::{Identity, NamedPorts},
    labels::{LabelKey, Labels, NAMESPACE, Source},
    model::{
        Document, DocumentId, DocumentKind, FqdnSelector, GrpcRule, HeaderMatch, HttpRule, KafkaRequests,
        KafkaRule, L7, Mismatch, Operator, Origin, Peer, Peers, PortMatch, PortRef, PortRule, Ports,
        Protocol, RequestRules, Requirement, Rule, Selector, Spec, Subject,
    },
    policy_set::{AllowLocalhost, Options, PolicySet},
};

pub const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp, Protocol::Icmpv6];
const PREFIXES: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3/32",
    "192.168.0.0/16",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::1/128",
];
const METHODS: [&str; 7] = ["GET", "GET|POST", "P.*", "(?i)get", "[A-Z]+", "^GET$", "\\w{3}"];
const PATHS: [&str; 16] = [
    "/",
    "/.*",
    "/api/v[12]",
    "/api/v\\d+",
    "^/a",
    "/a$",
    "",
    ".*b",
    "/(a|b|)",
    "/a\\b.*",
    "/a?b*",
    "(?s:.)+",
    "/é",
    "(/[a-z]+){2,3}",
    "a|/b",
    ".*\\?x=.*",
];
const HOSTS: [&str; 6] = ["example.com", "example\\.com", ".*", "[^.]+", "", "(?i)EXAMPLE.com(:80)?"];

/// An input being read. When it is used up every choice is the first one.
pub struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.int_in_range(0..=bound - 1).unwrap_or(0)
    }

    /// True in `times` of `of` cases.
    pub fn chance(&mut self, times: usize, of: usize) -> bool {
        !self.is_used_up() && self.below(of) >= of - times
    }

    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    pub fn octet(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn number(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn many<T>(&mut self, most: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = if self.is_used_up() { 0 } else { self.below(most + 1) };
        (0..count).map(|_| item(self)).collect()
    }

    fn maybe<T>(&mut self, item: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(1, 2).then(|| item(self))
    }

    /// A text of the vocabulary, or a few characters of the input's own.
    pub fn text(&mut self, of: &[&str]) -> String {
        if !self.chance(1, 4) {
            return self.one(of).to_owned();
        }
        let alphabet = "ab/.*+?()[]{}|^$\\dwsbAzZ09-,:=é\u{0}\n%_~ iQE<>&";
        let letters: Vec<char> = alphabet.chars().collect();
        self.many(12, |draw| draw.one(&letters)).into_iter().collect()
    }

    pub fn policies(&mut self) -> PolicySet {
        let allow_localhost = self.one(&[AllowLocalhost::Always, AllowLocalhost::Policy]);
        let mut set = PolicySet::new(Options { allow_localhost });
        for name in ["p0", "p1", "p2"].into_iter().take(1 + self.below(3)) {
            let mut specs = vec![self.spec()];
            specs.extend(self.maybe(Self::spec));
            set.upsert(document(name, specs));
        }
        set
    }

    fn spec(&mut self) -> Spec {
        let selector = self.selector();
        Spec {
            subject: if self.chance(1, 8) { Subject::Nodes(selector) } else { Subject::Endpoints(selector) },
            default_deny_ingress: !self.chance(1, 4),
            default_deny_egress: !self.chance(1, 4),
            origin: nowhere(),
            ingress: self.many(3, |draw| draw.rule(true)),
            ingress_deny: self.many(1, |draw| draw.rule(false)),
            egress: self.many(3, |draw| draw.rule(true)),
            egress_deny: self.many(1, |draw| draw.rule(false)),
        }
    }

    fn rule(&mut self, l7: bool) -> Rule {
        Rule {
            origin: nowhere(),
            peers: if self.chance(1, 4) { Peers::Any } else { Peers::OneOf(self.many(3, Self::peer)) },
            ports: if self.chance(1, 4) {
                Ports::All
            } else {
                Ports::OneOf(self.many(2, |draw| draw.port_rule(l7)))
            },
        }
    }

    fn peer(&mut self) -> Peer {
        match self.below(9) {
            0..=4 => Peer::Labels(self.selector()),
            5 | 6 => Peer::Cidr { net: self.net(), except: self.many(2, Self::net) },
            7 => Peer::Fqdn(self.fqdn()),
            _ => {
                let entity = self.one(&["host", "world-ipv4", "remote-node"]);
                let key = LabelKey::reserved(entity);
                Peer::Labels(Selector { requirements: vec![Requirement { key, operator: Operator::Exists }] })
            }
        }
    }

    fn net(&mut self) -> IpNet {
        self.one(&PREFIXES).parse().expect("a prefix")
    }

    fn fqdn(&mut self) -> FqdnSelector {
        if self.chance(1, 2) {
            FqdnSelector::Pattern("*.example.com".to_owned())
        } else {
            FqdnSelector::Name("example.com".to_owned())
        }
    }

    fn selector(&mut self) -> Selector {
        Selector { requirements: self.many(2, Self::requirement) }
    }

    fn requirement(&mut self) -> Requirement {
        let source = self.one(&[Source::Any, Source::K8s, Source::Other("container".to_owned())]);
        let key = LabelKey::new(source, self.one(&["app", "tier", NAMESPACE]));
        let value = |draw: &mut Self| draw.one(&["a", "b", "c"]).to_owned();
        let operator = match self.below(6) {
            0..=2 => Operator::In(self.many(2, value)),
            3 => Operator::NotIn(self.many(2, value)),
            4 => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        Requirement { key, operator }
    }

    fn port_rule(&mut self, l7: bool) -> PortRule {
        let ports = self.many(2, Self::port);
        let l7 = if !l7 || !self.chance(1, 3) {
            None
        } else if self.chance(1, 3) {
            Some(if self.chance(1, 2) {
                L7::Kafka(self.many(2, Self::kafka_rule))
            } else {
                L7::Dns(Vec::new())
            })
        } else {
            let rule = |spec: HttpRuleSpec| HttpRule {
                origin: nowhere(),
                method: spec.method,
                path: spec.path,
                host: spec.host,
                headers: spec.headers,
                header_matches: spec.header_matches,
            };
            Some(L7::Http(RequestRules {
                http: self.many(2, |draw| rule(draw.http_rule_of(&METHODS, &PATHS, &HOSTS))),
                grpc: self.many(1, |draw| GrpcRule { origin: nowhere(), call: draw.call() }),
            }))
        };
        PortRule { origin: nowhere(), ports, l7 }
    }

    fn port(&mut self) -> PortMatch {
        let protocol = if self.chance(1, 3) { self.one(&PROTOCOLS) } else { Protocol::Tcp };
        let number = |draw: &mut Self| draw.one(&[0, 1, 8, 53, 80, 81, 90, 8080, 65535]);
        let port = match self.below(8) {
            0..=3 => {
                let only = number(self);
                PortRef::Range(only, only)
            }
            4 | 5 => {
                let (one, other) = (number(self), self.number() as u16);
                PortRef::Range(one.min(other), one.max(other))
            }
            6 => PortRef::Range(0, 65535),
            _ => PortRef::Named(self.one(&["http", "dns"]).to_owned()),
        };
        PortMatch { protocol, port }
    }

    fn call(&mut self) -> GrpcCall {
        let service = self.one(&["*", "a.*", "a.b.*", "a.B", "B"]);
        let method = self.maybe(|draw| draw.one(&["*", "Get"]));
        GrpcCall::new(Some(service), method).unwrap_or_default()
    }

    pub fn kafka_rule(&mut self) -> KafkaRule {
        let names = |draw: &mut Self| vec![draw.one(&["a", "b*", "*", "ab"]).to_owned()];
        let requests = match self.below(4) {
            0 => KafkaRequests::Any,
            1 => KafkaRequests::Produce,
            2 => KafkaRequests::Consume,
            _ => KafkaRequests::ApiKey(self.below(93) as i16),
        };
        KafkaRule {
            origin: nowhere(),
            requests,
            api_version: self.chance(1, 6).then_some(0),
            client_id: self.chance(1, 6).then(|| "a".to_owned()),
            topic: self.maybe(|draw| names(draw).remove(0)),
            groups: self.chance(1, 3).then(|| names(self)),
            transactional_ids: self.chance(1, 3).then(|| names(self)),
        }
    }

    /// A rule whose patterns may be none.
    pub fn http_rule(&mut self) -> HttpRuleSpec {
        if self.chance(1, 6) {
            return HttpRuleSpec { grpc: Some(self.call()), ..HttpRuleSpec::default() };
        }
        let mut rule = self.http_rule_of(&METHODS, &PATHS, &HOSTS);
        if self.chance(1, 3) {
            rule.path = Some(self.text(&PATHS));
        }
        rule
    }

    fn http_rule_of(&mut self, methods: &[&str], paths: &[&str], hosts: &[&str]) -> HttpRuleSpec {
        let name = |draw: &mut Self| draw.one(&["X-A", "x-a", "x-b"]).to_owned();
        let value = |draw: &mut Self| draw.one(&["", "1", "1,2"]).to_owned();
        let mismatches = [Mismatch::Deny, Mismatch::Log, Mismatch::Add, Mismatch::Delete, Mismatch::Replace];
        HttpRuleSpec {
            method: self.maybe(|draw| draw.one(methods).to_owned()),
            path: self.maybe(|draw| draw.one(paths).to_owned()),
            host: self.maybe(|draw| draw.one(hosts).to_owned()),
            headers: self.many(1, |draw| (name(draw), draw.maybe(value))),
            header_matches: self.many(2, |draw| HeaderMatch {
                name: name(draw),
                value: value(draw),
                mismatch: draw.one(&mismatches),
            }),
            grpc: None,
        }
    }

    pub fn request(&mut self) -> Request {
        let paths = [
            "/a.B/Get", "/B/Get", "/", "/a", "/b", "/ab", "/api/v1", "/api/v22", "", "/a?x=1", "/a/b", "/é",
            "/a-b",
        ];
        Request {
            method: self.text(&["GET", "POST", "PUT", "get", ""]),
            path: self.text(&paths),
            host: self.text(&["example.com", "exampleXcom", "EXAMPLE.COM:80", "", "localhost"]),
            headers: self.many(2, |draw| {
                if draw.chance(1, 3) {
                    return ("content-type".to_owned(), "application/grpc".to_owned());
                }
                let name = draw.one(&["X-A", "x-B", "X-C"]).to_owned();
                (name, draw.one(&["", "1", "2", "1,2"]).to_owned())
            }),
        }
    }

    /// Those whose policies are asked: workloads, the host, one without labels yet.
    pub fn subjects(&mut self) -> Vec<Identity> {
        let mut subjects: Vec<Identity> =
            (300..301 + self.below(2) as u32).map(|id| self.workload(id)).collect();
        subjects.extend(self.maybe(|draw| Identity::reserved(draw.one(&[1, 5])).expect("reserved")));
        subjects
    }

    pub fn peers(&mut self) -> Vec<Identity> {
        let mut next = 400;
        let mut peers = self.many(4, |draw| {
            next += 1;
            draw.workload(next)
        });
        let mut next = 1 << 24;
        peers.extend(self.many(4, |draw| {
            next += 1;
            let fqdns: BTreeSet<_> = draw.chance(1, 3).then(|| draw.fqdn()).into_iter().collect();
            Identity::for_prefix(next, draw.net(), fqdns)
        }));
        peers
    }

    fn workload(&mut self, id: u32) -> Identity {
        let value = |draw: &mut Self| draw.one(&["a", "b", "c"]).to_owned();
        let mut labels = BTreeMap::new();
        if let Some(source) =
            self.maybe(|draw| draw.one(&[Source::K8s, Source::Other("container".to_owned())]))
        {
            labels.insert(LabelKey::new(source, "app"), value(self));
        }
        if self.chance(1, 2) {
            labels.insert(LabelKey::k8s("tier"), value(self));
        }
        labels.insert(LabelKey::k8s(NAMESPACE), value(self));
        let mut ports = BTreeMap::new();
        if self.chance(1, 2) {
            ports.insert("http".to_owned(), (Protocol::Tcp, self.one(&[80, 8080])));
        }
        if self.chance(1, 3) {
            ports.insert("dns".to_owned(), (self.one(&[Protocol::Tcp, Protocol::Udp]), 53));
        }
        Identity::workload(id, Labels(labels), NamedPorts(ports))
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    #[must_use]
    pub fn as_http(&self) -> HttpRequest<'_> {
        HttpRequest { method: &self.method, path: &self.path, host: &self.host, headers: &self.headers }
    }
}

/// Fills in the places, as parsing would.
fn document(name: &str, mut specs: Vec<Spec>) -> Document {
    let id = Arc::new(DocumentId {
        kind: DocumentKind::CiliumNetworkPolicy,
        namespace: "a".to_owned(),
        name: name.to_owned(),
    });
    let origin = |path: String| Origin { document: id.clone(), path };
    for (s, spec) in specs.iter_mut().enumerate() {
        spec.origin = origin(format!("specs[{s}]"));
        let sections = [
            ("ingress", &mut spec.ingress),
            ("ingressDeny", &mut spec.ingress_deny),
            ("egress", &mut spec.egress),
            ("egressDeny", &mut spec.egress_deny),
        ];
        for (section, rules) in sections {
            for (r, rule) in rules.iter_mut().enumerate() {
                let path = format!("specs[{s}].{section}[{r}]");
                rule.origin = origin(path.clone());
                let Ports::OneOf(ports) = &mut rule.ports else { continue };
                for (p, port) in ports.iter_mut().enumerate() {
                    port.origin = origin(format!("{path}.toPorts[{p}]"));
                    let place = |kind, at| origin(format!("{path}.toPorts[{p}].rules.{kind}[{at}]"));
                    match &mut port.l7 {
                        Some(L7::Http(rules)) => {
                            let http = rules.http.iter_mut().enumerate();
                            http.for_each(|(at, rule)| rule.origin = place("http", at));
                            let grpc = rules.grpc.iter_mut().enumerate();
                            grpc.for_each(|(at, rule)| rule.origin = place("grpc", at));
                        }
                        Some(L7::Kafka(rules)) => {
                            let kafka = rules.iter_mut().enumerate();
                            kafka.for_each(|(at, rule)| rule.origin = place("kafka", at));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    Document { id, specs, warnings: Vec::new(), not_enforced: Vec::new() }
}

fn nowhere() -> Origin {
    let id =
        DocumentId { kind: DocumentKind::CiliumNetworkPolicy, namespace: String::new(), name: String::new() };
    Origin { document: Arc::new(id), path: String::new() }
}
