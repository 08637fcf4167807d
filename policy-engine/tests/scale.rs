//! 10,000 rules and 50,000 identities compile in seconds, and one more identity costs milliseconds.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use policy_engine::{
    compile::{Placement, compile},
    identity::{Identity, IdentityTable, NamedPorts},
    labels::Labels,
    model::{
        Document, DocumentId, DocumentKind, Operator, Origin, Peer, Peers, PortMatch, PortRef, PortRule,
        Ports, Protocol, Requirement, Rule, Selector, Spec, Subject,
    },
    policy_set::{Options, PolicySet},
};

const RULES: u32 = 10_000;
const APPS: u32 = 9_000;
const WORKLOADS: u32 = 45_000;
const PREFIXES: u32 = 5_000;

fn selector(key: &str, value: String) -> Selector {
    let key = policy_engine::labels::LabelKey::k8s(key);
    Selector { requirements: vec![Requirement { key, operator: Operator::In(vec![value]) }] }
}

/// One rule an app, each with a port of its own; one in ten is about a prefix.
fn policies() -> PolicySet {
    let id = Arc::new(DocumentId {
        kind: DocumentKind::CiliumNetworkPolicy,
        namespace: "default".to_owned(),
        name: "many".to_owned(),
    });
    let origin = |path: String| Origin { document: id.clone(), path };
    let rule = |number: u32| {
        let peer = if number % 10 == 9 {
            let net = format!("10.{}.{}.0/24", number / 256 % 256, number % 256);
            Peer::Cidr { net: net.parse().unwrap(), except: Vec::new() }
        } else {
            Peer::Labels(selector("app", format!("app{}", number % APPS)))
        };
        let first = 1000 + (number % 30_000) as u16;
        let port = PortMatch { protocol: Protocol::Tcp, port: PortRef::Range(first, first + 4) };
        let path = format!("spec.ingress[{number}]");
        Rule {
            origin: origin(path.clone()),
            peers: Peers::OneOf(vec![peer]),
            ports: Ports::OneOf(vec![PortRule {
                origin: origin(format!("{path}.toPorts[0]")),
                ports: vec![port],
                l7: None,
            }]),
        }
    };
    let spec = Spec {
        subject: Subject::Endpoints(selector("app", "app0".to_owned())),
        default_deny_ingress: true,
        default_deny_egress: false,
        origin: origin("spec".to_owned()),
        ingress: (0..RULES).map(rule).collect(),
        ingress_deny: Vec::new(),
        egress: Vec::new(),
        egress_deny: Vec::new(),
    };
    let mut set = PolicySet::new(Options::default());
    set.upsert(Document {
        id: id.clone(),
        specs: vec![spec],
        warnings: Vec::new(),
        not_enforced: Vec::new(),
    });
    set
}

fn workload(id: u32, app: u32) -> Identity {
    let own =
        BTreeMap::from([("app".to_owned(), format!("app{app}")), ("instance".to_owned(), id.to_string())]);
    Identity::workload(id, Labels::workload("default", &own, &BTreeMap::new()), NamedPorts::default())
}

#[test]
fn many_rules_and_identities() {
    let policies = policies();
    let mut table = IdentityTable::with_reserved();
    for number in 0..WORKLOADS {
        table.insert(workload(256 + number, number % APPS));
    }
    for number in 0..PREFIXES {
        let prefix = format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap();
        table.insert(Identity::for_prefix((1 << 24) + number, prefix, BTreeSet::new()));
    }
    let subject = workload(256, 0);

    let start = Instant::now();
    let mut compiled = compile(&policies, &subject, &table);
    let whole = start.elapsed();
    let policy = compiled.policy.ingress.as_ref().expect("enforced");
    assert!(policy.classes.len() > 8_000, "{} classes", policy.classes.len());
    // app8 is the peer of rule 8 (port 1008) and of no prefix rule.
    assert!(policy.lookup(256 + 8, Protocol::Tcp, 1008).is_some());
    assert!(policy.lookup(256 + 8, Protocol::Tcp, 1007).is_none());
    assert!(policy.lookup((1 << 24) + 9, Protocol::Tcp, 1009).is_some());

    let start = Instant::now();
    let (ingress, egress) = compiled.add(&workload(60_000, 8));
    let one = start.elapsed();
    assert!(matches!(ingress, Placement::Existing(class) if class != 0));
    assert_eq!(egress, Placement::NotEnforced);

    println!(
        "all: {whole:?}, one more: {one:?}, classes: {}",
        compiled.policy.ingress.unwrap().classes.len()
    );
    // Far above what a busy two-core machine needs, far below what quadratic work would take.
    assert!(whole < Duration::from_secs(10), "{whole:?}");
    assert!(one < Duration::from_millis(200), "{one:?}");
}
