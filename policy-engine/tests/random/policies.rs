//! Random policies in normal form, over a vocabulary small enough that things meet.

use std::sync::Arc;

use ipnet::IpNet;
use policy_engine::{
    grpc::GrpcCall,
    http::HttpRuleSpec,
    labels::{LabelKey, NAMESPACE, Source},
    model::{
        Document, DocumentId, DocumentKind, FqdnSelector, GrpcRule, HeaderMatch, HttpRule, KafkaRequests,
        KafkaRule, L7, Mismatch, Operator, Origin, Peer, Peers, PortMatch, PortRef, PortRule, Ports,
        Protocol, RequestRules, Requirement, Rule, Selector, Spec, Subject,
    },
    policy_set::{AllowLocalhost, Options, PolicySet},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

pub(crate) fn set() -> impl Strategy<Value = PolicySet> {
    let localhost = prop_oneof![Just(AllowLocalhost::Always), Just(AllowLocalhost::Policy)];
    (vec(vec(spec(), 1..3), 1..4), localhost).prop_map(|(documents, allow_localhost)| {
        let mut set = PolicySet::new(Options { allow_localhost });
        for (index, specs) in documents.into_iter().enumerate() {
            set.upsert(document(&format!("p{index}"), specs));
        }
        set
    })
}

/// Fills in the places, as parsing would.
pub(crate) fn document(name: &str, mut specs: Vec<Spec>) -> Document {
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
                if let Ports::OneOf(ports) = &mut rule.ports {
                    for (p, port) in ports.iter_mut().enumerate() {
                        port.origin = origin(format!("{path}.toPorts[{p}]"));
                        match &mut port.l7 {
                            Some(L7::Http(rules)) => {
                                for (h, rule) in rules.http.iter_mut().enumerate() {
                                    rule.origin = origin(format!("{path}.toPorts[{p}].rules.http[{h}]"));
                                }
                                for (g, rule) in rules.grpc.iter_mut().enumerate() {
                                    rule.origin = origin(format!("{path}.toPorts[{p}].rules.grpc[{g}]"));
                                }
                            }
                            Some(L7::Kafka(rules)) => {
                                for (k, rule) in rules.iter_mut().enumerate() {
                                    rule.origin = origin(format!("{path}.toPorts[{p}].rules.kafka[{k}]"));
                                }
                            }
                            _ => {}
                        }
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

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let subject = prop_oneof![
        8 => selector().prop_map(Subject::Endpoints),
        1 => selector().prop_map(Subject::Nodes),
    ];
    let default_deny = (prop::bool::weighted(0.7), prop::bool::weighted(0.7));
    let allow = || vec(rule(true), 0..4);
    let deny = || prop_oneof![3 => Just(Vec::new()), 1 => vec(rule(false), 1..3)];
    (subject, default_deny, allow(), deny(), allow(), deny()).prop_map(
        |(subject, (deny_in, deny_out), ingress, ingress_deny, egress, egress_deny)| Spec {
            subject,
            default_deny_ingress: deny_in,
            default_deny_egress: deny_out,
            origin: nowhere(),
            ingress,
            ingress_deny,
            egress,
            egress_deny,
        },
    )
}

fn rule(l7: bool) -> impl Strategy<Value = Rule> {
    let peers = prop_oneof![
        1 => Just(Peers::Any),
        4 => vec(peer(), 0..3).prop_map(Peers::OneOf),
    ];
    let ports = prop_oneof![
        1 => Just(Ports::All),
        3 => vec(port_rule(l7), 0..3).prop_map(Ports::OneOf),
    ];
    (peers, ports).prop_map(|(peers, ports)| Rule { origin: nowhere(), peers, ports })
}

fn peer() -> impl Strategy<Value = Peer> {
    let net =
        || select(super::world::PREFIXES.as_slice()).prop_map(|net| net.parse::<IpNet>().expect("a net"));
    prop_oneof![
        5 => selector().prop_map(Peer::Labels),
        2 => (net(), vec(net(), 0..2)).prop_map(|(net, except)| Peer::Cidr { net, except }),
        1 => fqdn().prop_map(Peer::Fqdn),
        1 => select(&["host", "world-ipv4", "remote-node"][..]).prop_map(|entity| {
            let key = LabelKey { source: Source::Reserved, key: entity.to_owned() };
            Peer::Labels(Selector { requirements: vec![Requirement { key, operator: Operator::Exists }] })
        }),
        1 => Just(Peer::Service("db".to_owned())),
    ]
}

pub(crate) fn fqdn() -> impl Strategy<Value = FqdnSelector> {
    prop_oneof![
        Just(FqdnSelector::Name("example.com".to_owned())),
        Just(FqdnSelector::Pattern("*.example.com".to_owned())),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    vec(requirement(), 0..3).prop_map(|requirements| Selector { requirements })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let source =
        prop_oneof![Just(Source::Any), Just(Source::K8s), Just(Source::Other("container".to_owned()))];
    let key = (source, select(&["app", "tier", NAMESPACE][..]))
        .prop_map(|(source, key)| LabelKey { source, key: key.to_owned() });
    let values = || vec(select(&["a", "b", "c"][..]).prop_map(str::to_owned), 1..3);
    let operator = prop_oneof![
        3 => values().prop_map(Operator::In),
        1 => values().prop_map(Operator::NotIn),
        1 => Just(Operator::Exists),
        1 => Just(Operator::DoesNotExist),
    ];
    (key, operator).prop_map(|(key, operator)| Requirement { key, operator })
}

fn port_rule(l7: bool) -> impl Strategy<Value = PortRule> {
    let kinds = prop_oneof![
        2 => (vec(http_rule(), 0..3), vec(grpc_rule(), 0..3))
            .prop_map(|(http, grpc)| L7::Http(RequestRules { http, grpc })),
        1 => Just(L7::Dns(Vec::new())),
        1 => vec(kafka_rule(), 0..3).prop_map(L7::Kafka),
    ];
    let l7 = option::weighted(0.3, kinds).prop_map(move |kind| kind.filter(|_| l7));
    (vec(port(), 0..3), l7).prop_map(|(ports, l7)| PortRule { origin: nowhere(), ports, l7 })
}

fn port() -> impl Strategy<Value = PortMatch> {
    let protocol = select(super::PROTOCOLS.as_slice());
    let number = || select(&[0, 1, 8, 53, 80, 81, 90, 8080, 65535][..]);
    let port = prop_oneof![
        3 => number().prop_map(|n| PortRef::Range(n, n)),
        2 => (number(), number()).prop_map(|(a, b)| PortRef::Range(a.min(b), a.max(b))),
        1 => Just(PortRef::Range(0, 65535)),
        1 => select(&["http", "dns"][..]).prop_map(|name| PortRef::Named(name.to_owned())),
    ];
    let protocol = prop_oneof![2 => Just(Protocol::Tcp), 1 => protocol];
    (protocol, port).prop_map(|(protocol, port)| PortMatch { protocol, port })
}

fn kafka_rule() -> impl Strategy<Value = KafkaRule> {
    let requests = select(&[KafkaRequests::Any, KafkaRequests::Produce, KafkaRequests::ApiKey(3)][..]);
    (requests, option::of(select(&["a", "b*"][..]))).prop_map(|(requests, topic)| KafkaRule {
        origin: nowhere(),
        requests,
        api_version: None,
        client_id: None,
        topic: topic.map(str::to_owned),
        groups: None,
        transactional_ids: None,
    })
}

fn http_rule() -> impl Strategy<Value = HttpRule> {
    http_spec().prop_map(|spec| HttpRule {
        origin: nowhere(),
        method: spec.method,
        path: spec.path,
        host: spec.host,
        headers: spec.headers,
        header_matches: spec.header_matches,
    })
}

pub(crate) fn call() -> impl Strategy<Value = GrpcCall> {
    let service = select(&["*", "a.*", "a.b.*", "a.B", "a.b.C", "B"][..]);
    let method = select(&[None, Some("*"), Some("Get"), Some("Put")][..]);
    (service, method).prop_map(|(service, method)| GrpcCall::new(Some(service), method).expect("names"))
}

fn grpc_rule() -> impl Strategy<Value = GrpcRule> {
    call().prop_map(|call| GrpcRule { origin: nowhere(), call })
}

/// A gRPC rule or an HTTP one.
pub(crate) fn spec_of_request() -> impl Strategy<Value = HttpRuleSpec> {
    let call = call().prop_map(|call| HttpRuleSpec { grpc: Some(call), ..HttpRuleSpec::default() });
    prop_oneof![3 => http_spec(), 1 => call]
}

pub(crate) fn http_spec() -> impl Strategy<Value = HttpRuleSpec> {
    let text =
        |patterns: &'static [&'static str]| option::weighted(0.6, select(patterns).prop_map(str::to_owned));
    let method = text(&["GET", "GET|POST", "P.*", "(?i)get", "[A-Z]+", "^GET$", "\\w{3}"]);
    let path = text(&[
        "/",
        "/.*",
        "/api/v[12]",
        "/api/v\\d+",
        "^/a",
        "/a$",
        "^/a$",
        "",
        ".*b",
        "/(a|b|)",
        "/a\\b.*",
        "/a?b*",
        "(?s:.)+",
        "/é",
        "(/[a-z]+){2,3}",
        "\\/a",
        "a|/b",
        ".*\\?x=.*",
    ]);
    let host = text(&["example.com", "example\\.com", ".*", "[^.]+", "", "(?i)EXAMPLE.com(:80)?"]);
    let name = || select(&["X-A", "x-a", "x-b"][..]).prop_map(str::to_owned);
    let value = || select(&["", "1", "1,2"][..]).prop_map(str::to_owned);
    let mismatch =
        select(&[Mismatch::Deny, Mismatch::Log, Mismatch::Add, Mismatch::Delete, Mismatch::Replace][..]);
    let headers = vec((name(), option::of(value())), 0..2);
    let matches =
        (name(), value(), mismatch).prop_map(|(name, value, mismatch)| HeaderMatch { name, value, mismatch });
    let header_matches = prop_oneof![3 => Just(Vec::new()), 1 => vec(matches, 1..3)];
    (method, path, host, headers, header_matches).prop_map(|(method, path, host, headers, header_matches)| {
        HttpRuleSpec { method, path, host, headers, header_matches, grpc: None }
    })
}
