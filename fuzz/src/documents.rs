//! A text of policy documents: refused with the places of what is wrong, or a model that compiles,
//! that both engines read alike, and that survives being written out and read again.

use std::collections::BTreeMap;

use policy_engine::{
    documents::{Parsed, parse_value, parse_with_values, read_values},
    identity::{Identity, IdentityTable, NamedPorts},
    labels::{CLUSTER, LabelKey, Labels, NAMESPACE, Source},
    model::{Document, Operator, Peer, Peers, PortRef, Ports, Protocol, Selector, Spec, Subject},
    policy_set::{Options, PolicySet, document_prefixes},
};
use serde_json::Value;

use crate::{draw::Request, engines::engines_agree};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // YAML knows more line ends than LF, and may place what is missing behind the last line.
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
    for read in read_values(text) {
        if let Ok(raw) = &read {
            assert!((1..=lines).contains(&raw.line));
        }
    }
    let mut set = PolicySet::new(Options::default());
    for (parsed, value) in parse_with_values(text) {
        match parsed {
            Parsed::Invalid(error) => {
                assert!(!error.problems.is_empty() && !error.to_string().is_empty());
                let all = error.problems.iter().map(|problem| problem.line).chain([error.line]);
                assert!(all.flatten().all(|line| (1..=lines).contains(&line)), "{error:?}");
            }
            Parsed::Skipped { .. } => {}
            Parsed::Policy(document) => {
                let value = value.expect("a policy has a value");
                read_again(&document, &value);
                set.upsert(document);
            }
        }
    }
    if !set.is_empty() {
        engines(&set);
    }
}

/// As the agent keeps documents (YAML) and as the command line sends them (JSON). An item of a typed
/// list has no kind of its own.
fn read_again(document: &Document, value: &Value) {
    if value.get("kind").is_none() || value.get("apiVersion").is_none() {
        return;
    }
    let is_same = |parsed: &[Parsed]| matches!(parsed, [Parsed::Policy(again)] if same(again, document));
    assert!(is_same(&parse_value(value, 1)), "as a value");
    let yaml = serde_norway::to_string(value).expect("YAML");
    let parsed = policy_engine::documents::parse(&yaml);
    assert!(is_same(&parsed), "as YAML: {document:#?}\n{yaml}\n{parsed:#?}");
    let json = value.to_string();
    assert!(is_same(&policy_engine::documents::parse(&json)), "as JSON: {json}");
}

/// Warnings may name lines or ways of writing.
fn same(one: &Document, other: &Document) -> bool {
    (&one.id, &one.specs, &one.not_enforced) == (&other.id, &other.specs, &other.not_enforced)
}

/// Some identities that the documents are about, and some that they are not about.
fn engines(set: &PolicySet) {
    let mut table = IdentityTable::with_reserved();
    let mut subjects = Vec::new();
    let specs: Vec<&Spec> = set.iter().flat_map(|document| &document.specs).take(3).collect();
    for (number, spec) in (0u32..).zip(&specs) {
        let (Subject::Endpoints(selector) | Subject::Nodes(selector)) = &spec.subject;
        let subject = wanted(300 + number, selector);
        table.insert(subject.clone());
        subjects.push(subject);
    }
    let rules =
        || specs.iter().flat_map(|s| s.ingress.iter().chain(&s.ingress_deny).chain(&s.egress)).take(6);
    let peers = rules().flat_map(|rule| match &rule.peers {
        Peers::OneOf(peers) => peers.as_slice(),
        Peers::Any => &[],
    });
    for (number, peer) in (400u32..).zip(peers.take(6)) {
        if let Peer::Labels(selector) = peer {
            table.insert(wanted(number, selector));
        }
    }
    for (number, prefix) in (1 << 24..).zip(set.iter().flat_map(|d| document_prefixes(d)).take(6)) {
        table.insert(Identity::for_prefix(number, prefix, Default::default()));
    }
    let port = rules().find_map(|rule| match &rule.ports {
        Ports::OneOf(ports) => ports.iter().flat_map(|port| &port.ports).find_map(|port| match port.port {
            PortRef::Range(_, last) => Some(last),
            PortRef::Named(_) => None,
        }),
        Ports::All => None,
    });
    let request = Request {
        method: "GET".to_owned(),
        path: "/public".to_owned(),
        host: "a.example".to_owned(),
        headers: vec![("X-A".to_owned(), "1".to_owned())],
    };
    for subject in &subjects {
        engines_agree(set, subject, &table, port.unwrap_or(80), &request);
    }
}

/// An identity that the selector selects, where one label a key can do that.
fn wanted(id: u32, selector: &Selector) -> Identity {
    let mut labels = BTreeMap::from([
        (LabelKey::k8s(NAMESPACE), "default".to_owned()),
        (LabelKey::k8s(CLUSTER), "default".to_owned()),
    ]);
    for requirement in &selector.requirements {
        let source = match &requirement.key.source {
            Source::Any => Source::K8s,
            other => other.clone(),
        };
        let value = match &requirement.operator {
            Operator::In(values) => values.first().cloned().unwrap_or_default(),
            Operator::Exists => String::new(),
            Operator::NotIn(_) | Operator::DoesNotExist => continue,
        };
        labels.insert(LabelKey::new(source, requirement.key.key.clone()), value);
    }
    let ports = BTreeMap::from([("http".to_owned(), (Protocol::Tcp, 80))]);
    Identity::workload(id, Labels(labels), NamedPorts(ports))
}
