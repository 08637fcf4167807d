//! From policies to what kernel and proxy judge by: the map entries and the proxy's message say what
//! the naive evaluation says, rule for rule.

use std::collections::HashMap;

use policy_engine::{
    compile::compile,
    compiled::L4Verdict,
    direction::Direction,
    identity::{Identity, IdentityTable},
    model::Protocol,
    naive::{Decision, Flow, evaluate, first_http_rule},
    policy_set::PolicySet,
};
use tektin::entrances::{RuleTable, class_entries, link_policy};
use tektin_abi::{
    judge::{End, Tables, judge},
    maps::{FlowKey, PolicyKey, PolicyRoot, PolicyValue, SteeredValue, action, prefix, proto},
};
use tektin_proxy::{
    link_proto::{Action, EndpointRoot, PolicyUpdate},
    policy::{Judging, RuleCache, Snapshot},
};

use crate::draw::{Draw, Request};

const PROTOCOLS: [(Protocol, u8); 4] = [
    (Protocol::Tcp, proto::TCP),
    (Protocol::Udp, proto::UDP),
    (Protocol::Icmp, proto::ICMP),
    (Protocol::Sctp, proto::SCTP),
];

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let (policies, subjects, peers) = (draw.policies(), draw.subjects(), draw.peers());
    let (request, own_port) = (draw.request(), draw.number() as u16);
    let mut table = IdentityTable::with_reserved();
    for identity in subjects.iter().chain(&peers) {
        table.insert(identity.clone());
    }
    let Some(subject) = subjects.first() else { return };
    let (mut installed, snapshot) = install(&policies, subject, &table);
    for direction in [Direction::Ingress, Direction::Egress] {
        for peer in table.iter().filter(|peer| matches!(peer.id, 1 | 9 | 256..)) {
            for (protocol, number) in PROTOCOLS {
                for port in [8, 80, 8080, own_port] {
                    let flow = Flow { subject, direction, peer, protocol, port };
                    let decision = evaluate(&policies, &flow);
                    in_the_kernel(&mut installed, &flow, number, &decision);
                    if protocol == Protocol::Tcp {
                        in_the_proxy(&mut installed.rules, &snapshot, &flow, &decision, &request);
                    }
                }
            }
        }
    }
}

/// The maps, with the subject as endpoint 1; policy 1 is its ingress, 2 its egress.
#[derive(Default)]
struct Installed {
    root: PolicyRoot,
    classes: HashMap<(u32, u32), u32>,
    entries: HashMap<PolicyKey, PolicyValue>,
    rules: RuleTable,
}

fn install(policies: &PolicySet, subject: &Identity, table: &IdentityTable) -> (Installed, Snapshot) {
    let compiled = compile(policies, subject, table);
    let mut installed = Installed::default();
    let mut update = PolicyUpdate { revision: 1, full: true, ..PolicyUpdate::default() };
    for (id, policy) in [(1, &compiled.policy.ingress), (2, &compiled.policy.egress)] {
        let Some(policy) = policy else { continue };
        installed.classes.extend(policy.class_of.iter().map(|(identity, class)| ((id, *identity), *class)));
        for (class, content) in &policy.classes {
            for (key, value) in class_entries(id, *class, content, &mut installed.rules) {
                assert_eq!(installed.entries.insert(key, value), None, "no key stands twice");
            }
        }
        update.policies.push(link_policy(id, policy, &mut installed.rules));
        *(if id == 1 { &mut installed.root.ingress } else { &mut installed.root.egress }) = id;
    }
    update.endpoints.push(EndpointRoot {
        endpoint: 1,
        ingress_policy: installed.root.ingress,
        egress_policy: installed.root.egress,
    });
    let snapshot = Snapshot::default().apply(&update, &mut RuleCache::default()).expect("an update of ours");
    (installed, snapshot)
}

impl Tables for Installed {
    fn policy_root(&self, endpoint: u32) -> Option<PolicyRoot> {
        (endpoint == 1).then_some(self.root)
    }

    fn peer_class(&self, policy: u32, identity: u32) -> u32 {
        self.classes.get(&(policy, identity)).copied().unwrap_or(0)
    }

    /// The key with fewer and fewer bits, as a trie finds it.
    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        let ports = (0..=16).rev().map(|bits| {
            let mask = (0xffff_u32 << (16 - bits)) as u16;
            let port = u16::from_be_bytes(key.port_be) & mask;
            PolicyKey { prefix_len: prefix::ANY_PORT + bits, port_be: port.to_be_bytes(), ..*key }
        });
        let any = PolicyKey { prefix_len: prefix::ANY_PROTO, proto: proto::ANY, port_be: [0; 2], ..*key };
        ports.chain([any]).find_map(|key| self.entries.get(&key)).copied()
    }
}

fn in_the_kernel(installed: &mut Installed, flow: &Flow<'_>, protocol: u8, decision: &Decision) {
    let mut rule_of = |rule: &dyn ToString| installed.rules.id(&rule.to_string());
    let wanted = match decision {
        Decision::NotEnforced => (action::NONE, 0),
        Decision::DefaultDeny(_) => (action::DENY, 0),
        Decision::Rule(L4Verdict::Deny { rule }) => (action::DENY, rule_of(rule)),
        Decision::Rule(L4Verdict::Allow { rule }) => (action::ALLOW, rule_of(rule)),
        Decision::Rule(L4Verdict::Redirect { rule, .. }) if protocol == proto::TCP => {
            (action::REDIRECT, rule_of(rule))
        }
        Decision::Rule(L4Verdict::Redirect { rule, .. }) => (action::DENY, rule_of(rule)),
    };
    let is_icmp = protocol == proto::ICMP;
    // An echo request is (identifier, 0) in a flow key, and type 0 is 256.
    let dport = match flow.port {
        8 if is_icmp => 0,
        0 if is_icmp => 256,
        256 if is_icmp => return,
        port => port,
    };
    let key = FlowKey { dport, proto: protocol, ..FlowKey::default() };
    let subject = End { identity: flow.subject.id, endpoint: 1 };
    let peer = End { identity: flow.peer.id, endpoint: 0 };
    let said = match flow.direction {
        Direction::Ingress => {
            let judgement = judge(installed, &key, peer, subject);
            (judgement.ingress_action, judgement.ingress_rule)
        }
        Direction::Egress => {
            let judgement = judge(installed, &key, subject, peer);
            (judgement.egress_action, judgement.egress_rule)
        }
    };
    assert_eq!(said, wanted, "{flow:?}");
}

fn in_the_proxy(
    rules: &mut RuleTable,
    snapshot: &Snapshot,
    flow: &Flow<'_>,
    decision: &Decision,
    request: &Request,
) {
    let steered = match flow.direction {
        Direction::Ingress => {
            SteeredValue { src_identity: flow.peer.id, dst_endpoint: 1, ..SteeredValue::default() }
        }
        Direction::Egress => {
            SteeredValue { dst_identity: flow.peer.id, src_endpoint: 1, ..SteeredValue::default() }
        }
    };
    let judgement = snapshot.judge(&steered, flow.port, Judging::Request(request.as_http()));
    let said = match flow.direction {
        Direction::Ingress => judgement.ingress,
        Direction::Egress => judgement.egress,
    };
    let wanted = match decision {
        Decision::NotEnforced => (Action::Allow, 0),
        Decision::DefaultDeny(_) => (Action::Deny, said.rule),
        Decision::Rule(L4Verdict::Deny { rule }) => (Action::Deny, rules.id(&rule.to_string())),
        Decision::Rule(L4Verdict::Allow { rule }) => (Action::Allow, rules.id(&rule.to_string())),
        Decision::Rule(L4Verdict::Redirect { rule, l7 }) => {
            let specs = l7.requests.specs();
            match (first_http_rule(&specs, &request.as_http()), &l7.any) {
                (Some(index), _) => (Action::Allow, rules.id(&l7.requests.origin(index).to_string())),
                (None, Some(any)) => (Action::Allow, rules.id(&any.to_string())),
                (None, None) => (Action::Deny, rules.id(&rule.to_string())),
            }
        }
    };
    assert_eq!((said.action, said.rule), wanted, "{flow:?} {request:?}");
    assert_eq!(said.enforced, *decision != Decision::NotEnforced);
}
