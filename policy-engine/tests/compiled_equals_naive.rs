//! The compiled form says what the naive evaluator says: over random policies, identities and flows.

use std::collections::BTreeSet;

use policy_engine::{
    compile::{Placement, compile},
    compiled::{Class, DirectionPolicy, L4Verdict, Piece},
    direction::Direction,
    http::{HttpRequest, HttpRules, HttpVerdict},
    identity::{Identity, IdentityTable},
    lookup::lpm_entries,
    model::Protocol,
    naive::{Decision, Flow, evaluate, first_http_rule},
    policy_set::PolicySet,
};
use proptest::{prelude::*, strategy::ValueTree};

#[path = "random/policies.rs"]
mod policies;
#[path = "random/world.rs"]
mod world;

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp, Protocol::Icmpv6];
/// The borders of every port that the generator writes, and their neighbours.
const PORTS: [u16; 17] = [0, 1, 7, 8, 9, 52, 53, 54, 79, 80, 81, 90, 99, 8080, 8081, 65534, 65535];

fn flows<'a>(
    subjects: &'a [Identity],
    table: &'a IdentityTable,
) -> impl Iterator<Item = (&'a Identity, Direction, &'a Identity)> {
    subjects.iter().flat_map(move |subject| {
        [Direction::Ingress, Direction::Egress]
            .into_iter()
            .flat_map(move |direction| table.iter().map(move |peer| (subject, direction, &**peer)))
    })
}

fn of(policy: &policy_engine::compiled::SubjectPolicy, direction: Direction) -> Option<&DirectionPolicy> {
    match direction {
        Direction::Ingress => policy.ingress.as_ref(),
        Direction::Egress => policy.egress.as_ref(),
    }
}

fn compiled_decision(policy: Option<&DirectionPolicy>, peer: u32, protocol: Protocol, port: u16) -> Decision {
    match policy {
        None => Decision::NotEnforced,
        Some(policy) => match policy.lookup(peer, protocol, port) {
            None => Decision::DefaultDeny(policy.default_deny.values().cloned().collect()),
            Some(piece) => Decision::Rule(piece.verdict.clone()),
        },
    }
}

/// The answer of a longest-prefix map that holds the class's entries.
fn lpm_lookup(class: &Class, protocol: Protocol, port: u16) -> Option<&Piece> {
    class
        .pieces
        .iter()
        .flat_map(|piece| lpm_entries(piece).into_iter().map(move |entry| (entry, piece)))
        .filter(|(entry, _)| match entry.protocol {
            None => true,
            Some(p) => p == protocol && (entry.bits == 0 || (entry.port ^ port) >> (16 - entry.bits) == 0),
        })
        .max_by_key(|(entry, _)| (entry.protocol.is_some(), entry.bits))
        .map(|(_, piece)| piece)
}

fn assert_well_formed(policy: &DirectionPolicy) {
    for class in policy.classes.values() {
        for pair in class.pieces.windows(2) {
            assert!(pair[0].protocol <= pair[1].protocol, "sorted: {pair:?}");
            assert!(
                pair[0].protocol != pair[1].protocol || pair[0].last < pair[1].first,
                "disjoint: {pair:?}"
            );
        }
        for piece in &class.pieces {
            assert!(piece.first <= piece.last && (piece.protocol.is_some() || piece.last == u16::MAX));
        }
    }
    assert!(policy.class_of.values().all(|class| policy.classes.contains_key(class) && *class != 0));
    let members: BTreeSet<_> = policy.class_of.values().chain([&0]).collect();
    assert!(policy.classes.keys().eq(members), "no class without members");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l4(policies in policies::set(), subjects in world::subjects(), peers in world::peers()) {
        let mut table = IdentityTable::with_reserved();
        subjects.iter().chain(&peers).for_each(|identity| { table.insert(identity.clone()); });
        for (subject, direction, peer) in flows(&subjects, &table) {
            let compiled = compile(&policies, subject, &table);
            let policy = of(&compiled.policy, direction);
            policy.iter().for_each(|policy| assert_well_formed(policy));
            for (protocol, port) in PROTOCOLS.into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
                let flow = Flow { subject, direction, peer, protocol, port };
                let naive = evaluate(&policies, &flow);
                let fast = compiled_decision(policy, peer.id, protocol, port);
                prop_assert_eq!(&naive, &fast, "{:?}", flow);
                if let Some(policy) = policy {
                    let class = policy.class_of.get(&peer.id).copied().unwrap_or(0);
                    let entry = lpm_lookup(&policy.classes[&class], protocol, port);
                    prop_assert_eq!(entry, policy.lookup(peer.id, protocol, port), "longest prefix: {:?}", flow);
                }
            }
        }
    }

    #[test]
    fn adding_identities_one_by_one(policies in policies::set(), subjects in world::subjects(), peers in world::peers()) {
        let mut whole = IdentityTable::with_reserved();
        subjects.iter().chain(&peers).for_each(|identity| { whole.insert(identity.clone()); });
        let nobody = IdentityTable::default();
        for subject in &subjects {
            let all = compile(&policies, subject, &whole);
            let mut grown = compile(&policies, subject, &nobody);
            for identity in whole.iter() {
                let (ingress, _) = grown.add(identity);
                prop_assert_eq!(ingress == Placement::NotEnforced, grown.policy.ingress.is_none());
            }
            for (_, direction, peer) in flows(std::slice::from_ref(subject), &whole) {
                for (protocol, port) in PROTOCOLS.into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
                    prop_assert_eq!(
                        compiled_decision(of(&all.policy, direction), peer.id, protocol, port),
                        compiled_decision(of(&grown.policy, direction), peer.id, protocol, port)
                    );
                }
            }
            prop_assert_eq!(
                all.policy.ingress.as_ref().map(|p| p.classes.len()),
                grown.policy.ingress.as_ref().map(|p| p.classes.len()),
                "no class twice"
            );
        }
    }

    #[test]
    fn requests(rules in proptest::collection::vec(policies::spec_of_request(), 0..6), requests in proptest::collection::vec(world::request(), 1..12)) {
        let compiled = HttpRules::compile(&rules).expect("the generator writes valid patterns");
        for request in &requests {
            let request = request.as_http();
            let naive = first_http_rule(&rules, &request);
            let fast = match compiled.decide(&request) {
                HttpVerdict::Allowed { rule, .. } => Some(rule),
                HttpVerdict::Denied => None,
            };
            prop_assert_eq!(naive, fast, "{} {} {}", request.method, request.host, request.path);
        }
    }

    #[test]
    fn requests_through_policies(policies in policies::set(), subjects in world::subjects(), peers in world::peers(), request in world::request()) {
        let mut table = IdentityTable::with_reserved();
        subjects.iter().chain(&peers).for_each(|identity| { table.insert(identity.clone()); });
        for (subject, direction, peer) in flows(&subjects, &table) {
            let compiled = compile(&policies, subject, &table);
            for port in [80, 8080] {
                let naive = evaluate(&policies, &Flow { subject, direction, peer, protocol: Protocol::Tcp, port });
                let fast = compiled_decision(of(&compiled.policy, direction), peer.id, Protocol::Tcp, port);
                prop_assert_eq!(request_passes_naive(&naive, &request.as_http()), request_passes(&fast, &request.as_http()));
            }
        }
    }
}

fn request_passes_naive(decision: &Decision, request: &HttpRequest<'_>) -> bool {
    match decision {
        Decision::NotEnforced | Decision::Rule(L4Verdict::Allow { .. }) => true,
        Decision::DefaultDeny(_) | Decision::Rule(L4Verdict::Deny { .. }) => false,
        Decision::Rule(L4Verdict::Redirect { l7, .. }) => {
            l7.any.is_some() || first_http_rule(&l7.requests.specs(), request).is_some()
        }
    }
}

fn request_passes(decision: &Decision, request: &HttpRequest<'_>) -> bool {
    match decision {
        Decision::Rule(L4Verdict::Redirect { l7, .. }) => {
            let rules =
                HttpRules::compile(&l7.requests.specs()).expect("the generator writes valid patterns");
            l7.any.is_some() || rules.decide(request) != HttpVerdict::Denied
        }
        other => request_passes_naive(other, request),
    }
}

#[test]
fn generator_reaches_calls_that_pass() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut passed, mut denied) = (0, 0);
    for _ in 0..4000 {
        let (call, request) =
            (policies::call(), world::request()).new_tree(&mut runner).expect("values").current();
        let rules = [policy_engine::http::HttpRuleSpec { grpc: Some(call), ..Default::default() }];
        match first_http_rule(&rules, &request.as_http()) {
            Some(_) => passed += 1,
            None => denied += 1,
        }
    }
    assert!(passed >= 30 && denied >= 30, "{passed} passed, {denied} denied");
}

#[test]
fn generator_reaches_every_kind_of_decision() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut deny, mut allow, mut redirect, mut default_deny, mut open) = (0, 0, 0, 0, 0);
    for _ in 0..160 {
        let strategy = (policies::set(), world::subjects(), world::peers());
        let (set, subjects, peers): (PolicySet, Vec<Identity>, Vec<Identity>) =
            strategy.new_tree(&mut runner).expect("a value").current();
        let mut table = IdentityTable::with_reserved();
        subjects.iter().chain(&peers).for_each(|identity| {
            table.insert(identity.clone());
        });
        for (subject, direction, peer) in flows(&subjects, &table) {
            match evaluate(&set, &Flow { subject, direction, peer, protocol: Protocol::Tcp, port: 80 }) {
                Decision::NotEnforced => open += 1,
                Decision::DefaultDeny(_) => default_deny += 1,
                Decision::Rule(L4Verdict::Deny { .. }) => deny += 1,
                Decision::Rule(L4Verdict::Allow { .. }) => allow += 1,
                Decision::Rule(L4Verdict::Redirect { .. }) => redirect += 1,
            }
        }
    }
    let counts = [deny, allow, redirect, default_deny, open];
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}
