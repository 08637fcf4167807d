use l7_parsers::kafka::{Question, Resource};
use policy_engine::http::{HttpRequest, HttpVerdict};
use prost::Message;
use tektin_abi::maps::SteeredValue;

use super::*;
use crate::{
    link_proto::{
        Action, Class as ClassMessage, EndpointRoot, GrpcRule, HeaderMatch, HttpRule, KafkaNames, KafkaRole,
        KafkaRule, Mismatch, Piece as PieceMessage, Policy, PolicyChange,
    },
    policy::Judging,
};

fn piece(protocol: u32, ports: (u32, u32), action: Action, rule: u32) -> PieceMessage {
    PieceMessage {
        protocol,
        first_port: ports.0,
        last_port: ports.1,
        action: action.into(),
        rule,
        ..PieceMessage::default()
    }
}

fn policy(id: u32, classes: Vec<Vec<PieceMessage>>) -> Policy {
    Policy {
        id,
        classes: (0..).zip(classes).map(|(id, pieces)| ClassMessage { id, pieces }).collect(),
        default_deny_rule: 9,
        ..Policy::default()
    }
}

fn ingress(endpoint: u32, policy: u32) -> EndpointRoot {
    EndpointRoot { endpoint, ingress_policy: policy, egress_policy: 0 }
}

fn full(policies: Vec<Policy>, endpoints: Vec<EndpointRoot>) -> PolicyUpdate {
    PolicyUpdate { revision: 1, full: true, policies, endpoints, ..PolicyUpdate::default() }
}

fn apply(base: &Snapshot, update: &PolicyUpdate) -> Result<Snapshot, UpdateError> {
    base.apply(update, &mut RuleCache::default())
}

/// Action and rule for a connection from identity `peer` to endpoint 1.
fn at_ingress(snapshot: &Snapshot, peer: u32, port: u16) -> (Action, u32) {
    let steered = SteeredValue { src_identity: peer, dst_endpoint: 1, ..SteeredValue::default() };
    let decision = snapshot.judge(&steered, port, Judging::Connection).ingress;
    (decision.action, decision.rule)
}

#[test]
fn pieces_by_port_then_every_protocol_then_default_deny() {
    let pieces = vec![
        piece(6, (443, 443), Action::Redirect, 3),
        piece(6, (80, 90), Action::Deny, 1),
        piece(17, (0, 65535), Action::Allow, 5),
    ];
    let tcp = apply(&Snapshot::default(), &full(vec![policy(1, vec![pieces.clone()])], vec![ingress(1, 1)]))
        .unwrap();
    assert_eq!(at_ingress(&tcp, 300, 79), (Action::Deny, 9));
    assert_eq!(at_ingress(&tcp, 300, 80), (Action::Deny, 1));
    assert_eq!(at_ingress(&tcp, 300, 90), (Action::Deny, 1));
    assert_eq!(at_ingress(&tcp, 300, 91), (Action::Deny, 9));
    assert_eq!(at_ingress(&tcp, 300, 443), (Action::Redirect, 3));

    let with_any = [pieces, vec![piece(0, (0, 65535), Action::Allow, 7)]].concat();
    let any =
        apply(&Snapshot::default(), &full(vec![policy(1, vec![with_any])], vec![ingress(1, 1)])).unwrap();
    assert_eq!(at_ingress(&any, 300, 80), (Action::Deny, 1));
    assert_eq!(at_ingress(&any, 300, 91), (Action::Allow, 7));
}

#[test]
fn peers_by_class_and_the_others_by_class_0() {
    let mut both = policy(1, vec![Vec::new(), vec![piece(6, (0, 65535), Action::Allow, 4)]]);
    both.class_of.insert(300, 1);
    let snapshot = apply(&Snapshot::default(), &full(vec![both], vec![ingress(1, 1)])).unwrap();
    assert_eq!(at_ingress(&snapshot, 300, 80), (Action::Allow, 4));
    assert_eq!(at_ingress(&snapshot, 301, 80), (Action::Deny, 9));
}

#[test]
fn no_policy_passes_and_an_unknown_endpoint_does_not() {
    let snapshot = apply(&Snapshot::default(), &full(Vec::new(), vec![ingress(1, 0)])).unwrap();
    assert_eq!(at_ingress(&snapshot, 300, 80), (Action::Allow, 0));
    let empty = apply(&snapshot, &full(Vec::new(), Vec::new())).unwrap();
    assert_eq!(at_ingress(&empty, 300, 80), (Action::Deny, 0));
}

#[test]
fn deltas_add_replace_and_remove() {
    let allow = |id| policy(id, vec![vec![piece(6, (0, 65535), Action::Allow, id)]]);
    let first = apply(&Snapshot::default(), &full(vec![allow(1), allow(2)], vec![ingress(1, 1)])).unwrap();
    let delta = PolicyUpdate {
        revision: 2,
        policies: vec![allow(3)],
        removed_policies: vec![1],
        endpoints: vec![ingress(1, 3)],
        ..PolicyUpdate::default()
    };
    let second = apply(&first, &delta).unwrap();
    assert_eq!((second.revision(), at_ingress(&second, 300, 80)), (2, (Action::Allow, 3)));
    assert!(second.policies.get(1).is_none() && second.policies.get(2).is_some());
    let gone = PolicyUpdate { revision: 3, removed_endpoints: vec![1], ..PolicyUpdate::default() };
    assert_eq!(at_ingress(&apply(&second, &gone).unwrap(), 300, 80), (Action::Deny, 0));
    assert_eq!(at_ingress(&first, 300, 80), (Action::Allow, 1), "the old one is as it was");
}

#[test]
fn a_change_of_a_policy_leaves_the_rest_of_it() {
    let all_ports = |action, rule| vec![piece(6, (0, 65535), action, rule)];
    let mut policy = policy(1, vec![Vec::new(), all_ports(Action::Allow, 4), all_ports(Action::Deny, 5)]);
    policy.class_of.extend([(300, 1), (301, 2), (302, 2)]);
    let first = apply(&Snapshot::default(), &full(vec![policy], vec![ingress(1, 1)])).unwrap();
    let change = PolicyChange {
        id: 1,
        classes: vec![ClassMessage { id: 7, pieces: all_ports(Action::Allow, 6) }],
        removed_classes: vec![1],
        class_of: [(300, 7), (301, 0), (303, 2)].into(),
        default_deny_rule: 8,
    };
    let delta = |change| PolicyUpdate { revision: 2, changes: vec![change], ..PolicyUpdate::default() };
    let second = apply(&first, &delta(change.clone())).unwrap();
    let judged = [300, 301, 302, 303, 304].map(|peer| at_ingress(&second, peer, 80));
    let (new, old, nobody) = ((Action::Allow, 6), (Action::Deny, 5), (Action::Deny, 8));
    assert_eq!(judged, [new, nobody, old, old, nobody]);
    assert_eq!(at_ingress(&first, 300, 80), (Action::Allow, 4), "the old one is as it was");

    let unknown = PolicyChange { id: 2, ..change.clone() };
    let classless = PolicyChange { class_of: [(300, 9)].into(), ..change };
    for bad in [unknown, classless] {
        assert!(apply(&first, &delta(bad.clone())).is_err(), "{bad:?}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let redirect =
        |rule: HttpRule| PieceMessage { http: vec![rule], ..piece(6, (80, 80), Action::Redirect, 1) };
    let changing = |name: &str, value: &str| {
        redirect(HttpRule {
            header_matches: vec![HeaderMatch {
                name: name.into(),
                value: value.into(),
                mismatch: Mismatch::Replace.into(),
            }],
            ..HttpRule::default()
        })
    };
    let calling = |service: &str, method: Option<&str>| PieceMessage {
        grpc: vec![GrpcRule { rule: 1, service: service.into(), method: method.map(str::to_owned) }],
        ..piece(6, (80, 80), Action::Redirect, 1)
    };
    let pieces = [
        redirect(HttpRule { path: Some("(".into()), ..HttpRule::default() }),
        calling("a*", None),
        calling("", None),
        calling("a.B", Some("G*")),
        changing("Content-Length", "0"),
        changing("Host", "b"),
        changing("X Y", "b"),
        changing("X", "a\r\nb"),
        piece(6, (90, 80), Action::Allow, 1),
        piece(6, (0, 65536), Action::Allow, 1),
        piece(0, (0, 80), Action::Allow, 1),
        PieceMessage { action: 77, ..piece(6, (0, 1), Action::Deny, 1) },
    ];
    for piece in pieces {
        let update = full(vec![policy(1, vec![vec![piece.clone()]])], vec![ingress(1, 1)]);
        assert!(apply(&Snapshot::default(), &update).is_err(), "{piece:?}");
    }
    let overlap = vec![piece(6, (80, 90), Action::Allow, 1), piece(6, (90, 91), Action::Deny, 1)];
    assert!(apply(&Snapshot::default(), &full(vec![policy(1, vec![overlap])], Vec::new())).is_err());
    assert!(apply(&Snapshot::default(), &full(Vec::new(), vec![ingress(1, 5)])).is_err());
    let mut classless = policy(1, vec![Vec::new()]);
    classless.class_of.insert(300, 1);
    assert!(apply(&Snapshot::default(), &full(vec![classless], Vec::new())).is_err());
}

#[test]
fn equal_rule_sets_are_compiled_once() {
    let redirect = || PieceMessage {
        http: vec![HttpRule { rule: 4, path: Some("/a".into()), ..HttpRule::default() }],
        ..piece(6, (80, 80), Action::Redirect, 1)
    };
    let mut cache = RuleCache::default();
    let update = full(vec![policy(1, vec![vec![redirect()]]), policy(2, vec![vec![redirect()]])], Vec::new());
    let snapshot = Snapshot::default().apply(&update, &mut cache).unwrap();
    let rules = |id: u32| match &snapshot.policies.get(id).unwrap().classes.get(0).unwrap().tcp[0].verdict {
        PieceVerdict::Redirect { http, .. } => Arc::clone(http),
        _ => panic!("no redirect"),
    };
    assert!(Arc::ptr_eq(&rules(1), &rules(2)));
}

#[test]
fn rules_of_two_kinds_are_told_apart_however_alike_they_are_written() {
    let redirect = || piece(6, (80, 80), Action::Redirect, 1);
    let http = HttpRule { rule: 4, method: Some("a".into()), path: Some("b".into()), ..HttpRule::default() };
    let call = GrpcRule { rule: 4, service: "a".into(), method: Some("b".into()) };
    assert_eq!(http.encode_to_vec(), call.encode_to_vec());
    let mut cache = RuleCache::default();
    let of_http = cache.compile(&PieceMessage { http: vec![http], ..redirect() }).unwrap();
    let of_calls = cache.compile(&PieceMessage { grpc: vec![call], ..redirect() }).unwrap();
    assert!(!Arc::ptr_eq(&of_http, &of_calls));
    let no = Vec::new();
    let request = HttpRequest { method: "a", path: "b", host: "", headers: &no };
    assert_ne!(of_http.rules.decide(&request), HttpVerdict::Denied);
    assert_eq!(of_calls.rules.decide(&request), HttpVerdict::Denied);
}

#[test]
fn an_endpoint_that_nobody_told_of_is_denied_in_words() {
    let steered = SteeredValue { src_endpoint: 9, ..SteeredValue::default() };
    let judgement = Snapshot::default().judge(&steered, 80, Judging::Connection);
    assert!(judgement.denies());
    assert_eq!(judgement.reason(), "the proxy knows no policy of this endpoint");
}

/// A redirect of port 9092 with these rules.
fn kafka_piece(kafka: Vec<KafkaRule>) -> PieceMessage {
    PieceMessage { kafka, ..piece(6, (9092, 9092), Action::Redirect, 3) }
}

fn topic_question(topic: &str) -> Question<'_> {
    Question {
        api_key: 0,
        api_version: 9,
        client_id: "c",
        resource: Resource::Topic(topic),
        group: None,
        transactional_id: None,
    }
}

#[test]
fn kafka_rules_judge_names() {
    let produce = KafkaRule {
        rule: 4,
        role: KafkaRole::Produce.into(),
        topic: Some("a*".into()),
        ..KafkaRule::default()
    };
    let with = |piece: PieceMessage| {
        let policies = vec![policy(1, vec![vec![piece]])];
        apply(&Snapshot::default(), &full(policies, vec![ingress(1, 1)])).unwrap()
    };
    let steered = SteeredValue { src_identity: 300, dst_endpoint: 1, ..SteeredValue::default() };
    let judged = |snapshot: &Snapshot, topic: &str| {
        let end = snapshot.judge(&steered, 9092, Judging::Kafka(&topic_question(topic))).ingress;
        (end.action, end.rule)
    };
    let rules = with(kafka_piece(vec![produce.clone()]));
    assert_eq!(judged(&rules, "ab"), (Action::Allow, 4));
    assert_eq!(judged(&rules, "b"), (Action::Deny, 3));
    assert!(rules.expects_kafka(&steered, 9092));
    assert!(!rules.expects_kafka(&steered, 9093));
    // A plain allow beside them lets the rest pass.
    let any = with(PieceMessage { any_request_rule: 8, ..kafka_piece(vec![produce]) });
    assert_eq!(judged(&any, "ab"), (Action::Allow, 4));
    assert_eq!(judged(&any, "b"), (Action::Allow, 8));
    // Rules of another protocol let nothing pass.
    let http = HttpRule { rule: 5, ..HttpRule::default() };
    let http = with(PieceMessage { http: vec![http], ..kafka_piece(Vec::new()) });
    assert_eq!(judged(&http, "ab"), (Action::Deny, 3));
    assert!(!http.expects_kafka(&steered, 9092));
}

#[test]
fn kafka_rules_that_make_no_sense_are_refused() {
    let names = |names: &[&str]| KafkaNames { names: names.iter().map(|name| (*name).into()).collect() };
    for rule in [
        KafkaRule { role: KafkaRole::Consume.into(), api_key: Some(1), ..KafkaRule::default() },
        KafkaRule { role: 77, ..KafkaRule::default() },
        KafkaRule { api_key: Some(70_000), ..KafkaRule::default() },
        KafkaRule { api_version: Some(-40_000), ..KafkaRule::default() },
        KafkaRule { groups: Some(names(&[])), ..KafkaRule::default() },
        KafkaRule { transactional_ids: Some(names(&[])), ..KafkaRule::default() },
    ] {
        let policies = vec![policy(1, vec![vec![kafka_piece(vec![rule.clone()])]])];
        let refused = apply(&Snapshot::default(), &full(policies, vec![ingress(1, 1)]));
        assert!(matches!(refused.err(), Some(UpdateError::KafkaRule { policy: 1, .. })), "{rule:?}");
    }
}
