//! The two engines over drawn policies: compiled, compiled identity by identity, and as entries of a
//! longest-prefix map, a policy says what the naive evaluation says.

use std::sync::Arc;

use policy_engine::{
    compile::{Compiled, compile},
    compiled::{Class, DirectionPolicy, L4Verdict, Piece},
    direction::Direction,
    explain::explain,
    http::{HttpRules, HttpVerdict},
    identity::{Identity, IdentityTable},
    lookup::lpm_entries,
    model::{Peers, Protocol},
    naive::{Decision, Flow, evaluate, first_http_rule},
    policy_set::PolicySet,
};

use crate::draw::{Draw, PROTOCOLS, Request};

/// Borders of what is drawn; two more are the input's own.
const PORTS: [u16; 6] = [0, 8, 53, 80, 81, 8080];

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let (policies, subjects, peers) = (draw.policies(), draw.subjects(), draw.peers());
    let (request, own_port) = (draw.request(), draw.number() as u16);
    let mut table = IdentityTable::with_reserved();
    for identity in subjects.iter().chain(&peers) {
        table.insert(identity.clone());
    }
    selectors(&policies, &table);
    for subject in &subjects {
        engines_agree(&policies, subject, &table, own_port, &request);
    }
}

/// The index finds what a walk over all identities finds.
fn selectors(policies: &PolicySet, table: &IdentityTable) {
    let rules = policies.iter().flat_map(|document| &document.specs).flat_map(|spec| &spec.ingress);
    for peer in rules.flat_map(|rule| match &rule.peers {
        Peers::Any => &[][..],
        Peers::OneOf(peers) => peers,
    }) {
        let walked: Vec<u32> = table.iter().filter(|i| peer.matches(i)).map(|i| i.id).collect();
        let mut found = table.matching(peer);
        found.sort_unstable();
        assert_eq!(found, walked, "{peer:?}");
    }
}

/// Of one subject, over the peers of the table that have no fixed number, the host and the world.
pub(crate) fn engines_agree(
    policies: &PolicySet,
    subject: &Identity,
    table: &IdentityTable,
    own_port: u16,
    request: &Request,
) {
    let whole = compile(policies, subject, table);
    let mut grown = compile(policies, subject, &IdentityTable::default());
    for identity in table.iter() {
        let _ = grown.add(identity);
    }
    // Each judged request compiles its rules several times over.
    let mut requests = 0;
    for direction in [Direction::Ingress, Direction::Egress] {
        let policy = of(&whole, direction);
        policy.into_iter().for_each(well_formed);
        for peer in table.iter().filter(|peer| matches!(peer.id, 1 | 9 | 256..)) {
            for protocol in [Protocol::Tcp, PROTOCOLS[usize::from(own_port) % PROTOCOLS.len()]] {
                for port in PORTS.into_iter().chain([own_port, own_port.wrapping_add(1)]) {
                    let flow = Flow { subject, direction, peer, protocol, port };
                    let naive = evaluate(policies, &flow);
                    assert_eq!(naive, decision(policy, peer.id, protocol, port), "{flow:?}");
                    assert_eq!(
                        naive,
                        decision(of(&grown, direction), peer.id, protocol, port),
                        "grown: {flow:?}"
                    );
                    if let Some(policy) = policy {
                        let class = policy.class_of.get(&peer.id).copied().unwrap_or(0);
                        let entry = longest_match(&policy.classes[&class], protocol, port);
                        assert_eq!(entry, policy.lookup(peer.id, protocol, port), "{flow:?}");
                    }
                    if requests < 2 && matches!(naive, Decision::Rule(L4Verdict::Redirect { .. })) {
                        requests += 1;
                        judge_request(policies, &flow, &naive, request);
                    }
                }
            }
        }
    }
}

fn of(compiled: &Compiled, direction: Direction) -> Option<&DirectionPolicy> {
    match direction {
        Direction::Ingress => compiled.policy.ingress.as_ref(),
        Direction::Egress => compiled.policy.egress.as_ref(),
    }
}

fn decision(policy: Option<&DirectionPolicy>, peer: u32, protocol: Protocol, port: u16) -> Decision {
    let Some(policy) = policy else { return Decision::NotEnforced };
    match policy.lookup(peer, protocol, port) {
        None => Decision::DefaultDeny(policy.default_deny.values().cloned().collect()),
        Some(piece) => Decision::Rule(piece.verdict.clone()),
    }
}

fn well_formed(policy: &DirectionPolicy) {
    for class in policy.classes.values() {
        for pair in class.pieces.windows(2) {
            let (one, other) = (&pair[0], &pair[1]);
            assert!((one.protocol, one.first) < (other.protocol, other.first), "sorted");
            assert!(one.protocol != other.protocol || one.last < other.first, "disjoint");
        }
        assert!(class.pieces.iter().all(|piece| piece.first <= piece.last));
    }
    assert!(policy.class_of.values().all(|class| *class != 0 && policy.classes.contains_key(class)));
}

fn longest_match(class: &Class, protocol: Protocol, port: u16) -> Option<&Piece> {
    let entries =
        class.pieces.iter().flat_map(|piece| lpm_entries(piece).into_iter().map(move |e| (e, piece)));
    let covers = |bits: u8, prefix: u16| u32::from(prefix ^ port) >> (16 - bits) == 0;
    entries
        .filter(|(entry, _)| entry.protocol.is_none_or(|p| p == protocol && covers(entry.bits, entry.port)))
        .max_by_key(|(entry, _)| (entry.protocol.is_some(), entry.bits))
        .map(|(_, piece)| piece)
}

fn judge_request(policies: &PolicySet, flow: &Flow<'_>, naive: &Decision, request: &Request) {
    let request = request.as_http();
    let explained = explain(policies, flow, Some(&request));
    assert_eq!(&explained.decision, naive);
    let Decision::Rule(L4Verdict::Redirect { l7, .. }) = naive else { return };
    let specs = l7.requests.specs();
    let rules = HttpRules::compile(&specs).expect("rules of the vocabulary");
    let first = first_http_rule(&specs, &request);
    assert_eq!(decided(&rules, &request), first);
    let by = first.map(|rule| Arc::new(l7.requests.origin(rule).clone())).or(l7.any.clone());
    let said = match explained.request {
        Some(policy_engine::explain::RequestDecision::Allowed(origin)) => Some(Arc::new(origin)),
        _ => None,
    };
    assert_eq!(said, by, "what is explained is what is decided");
}

pub(crate) fn decided(rules: &HttpRules, request: &policy_engine::http::HttpRequest<'_>) -> Option<usize> {
    match rules.decide(request) {
        HttpVerdict::Allowed { rule, .. } => Some(rule),
        HttpVerdict::Denied => None,
    }
}
