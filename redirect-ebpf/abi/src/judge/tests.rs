use std::collections::BTreeMap;

use super::*;
use crate::maps::{Addr, identity};

#[derive(Default)]
struct Fake {
    roots: BTreeMap<u32, PolicyRoot>,
    classes: BTreeMap<(u32, u32), u32>,
    /// Prefix length and key octets, as the trie has them.
    policy: Vec<(PolicyKey, PolicyValue)>,
}

impl Fake {
    fn entry(
        &mut self,
        policy: u32,
        class: u32,
        (proto, port, prefix_len): (u8, u16, u32),
        action: u8,
        rule: u32,
    ) {
        let key = PolicyKey {
            prefix_len,
            policy_be: policy.to_be_bytes(),
            class_be: class.to_be_bytes(),
            proto,
            _pad: 0,
            port_be: port.to_be_bytes(),
        };
        self.policy.push((key, PolicyValue { action, _pad: [0; 3], rule }));
    }
}

fn bits(key: &PolicyKey) -> u128 {
    let [a, b, c, d] = key.policy_be;
    let [e, f, g, h] = key.class_be;
    let [i, j] = key.port_be;
    u128::from_be_bytes([a, b, c, d, e, f, g, h, key.proto, 0, i, j, 0, 0, 0, 0])
}

impl Tables for Fake {
    fn policy_root(&self, endpoint: u32) -> Option<PolicyRoot> {
        self.roots.get(&endpoint).copied()
    }
    fn peer_class(&self, policy: u32, identity: u32) -> u32 {
        self.classes.get(&(policy, identity)).copied().unwrap_or(0)
    }
    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue> {
        self.policy
            .iter()
            .filter(|(entry, _)| (bits(entry) ^ bits(key)) >> (128 - entry.prefix_len) == 0)
            .max_by_key(|(entry, _)| entry.prefix_len)
            .map(|(_, value)| *value)
    }
}

const A: End = End { identity: 256, endpoint: 1 };
const B: End = End { identity: 257, endpoint: 2 };
const WORLD: End = End { identity: identity::WORLD_IPV4, endpoint: 0 };

fn flow(proto: u8, dport: u16) -> FlowKey {
    FlowKey { src: Addr::default(), dst: Addr::default(), sport: 1, dport, proto, _pad: [0; 3] }
}

fn tables() -> Fake {
    let mut tables = Fake::default();
    tables.roots.insert(1, PolicyRoot { ingress: 0, egress: 10 });
    tables.roots.insert(2, PolicyRoot { ingress: 20, egress: 0 });
    tables.classes.insert((10, 257), 1);
    tables.classes.insert((20, 256), 1);
    // A may send TCP to B; ports 80 and 443 of B judge requests or are open, 22 is closed to A.
    tables.entry(10, 1, (proto::TCP, 0, prefix::ANY_PORT), action::ALLOW, 1);
    tables.entry(20, 1, (proto::TCP, 80, prefix::FULL), action::REDIRECT, 2);
    tables.entry(20, 1, (proto::TCP, 256, prefix::FULL - 8), action::ALLOW, 3);
    tables.entry(20, 1, (proto::TCP, 22, prefix::FULL), action::DENY, 4);
    tables.entry(20, 1, (proto::UDP, 53, prefix::FULL), action::REDIRECT, 5);
    tables.entry(20, 1, (proto::ICMP, 8, prefix::FULL), action::ALLOW, 6);
    tables
}

#[test]
fn both_ends_are_combined() {
    let verdict = |port| judge(&tables(), &flow(proto::TCP, port), A, B).verdict();
    assert_eq!(verdict(80), Verdict::Redirect);
    assert_eq!(verdict(300), Verdict::Allow);
    assert_eq!(verdict(22), Verdict::Deny(DropReason(drop::POLICY_DENY)));
    assert_eq!(verdict(23), Verdict::Deny(DropReason(drop::DEFAULT_DENY)));
    let judgement = judge(&tables(), &flow(proto::TCP, 80), A, B);
    assert_eq!((judgement.egress_rule, judgement.ingress_rule), (1, 2));
    assert_eq!((judgement.egress_action, judgement.ingress_action), (action::ALLOW, action::REDIRECT));
}

#[test]
fn ends_elsewhere_and_ends_without_policy_do_not_object() {
    let judgement = judge(&tables(), &flow(proto::TCP, 5), B, WORLD);
    assert_eq!(judgement.verdict(), Verdict::Allow);
    assert_eq!((judgement.egress_action, judgement.ingress_action), (action::NONE, action::NONE));
}

#[test]
fn what_is_missing_is_denied() {
    let deny = Verdict::Deny(DropReason(drop::DEFAULT_DENY));
    // No class, no entry, no root.
    assert_eq!(judge(&tables(), &flow(proto::TCP, 80), WORLD, B).verdict(), deny);
    assert_eq!(judge(&tables(), &flow(proto::SCTP, 80), A, B).verdict(), deny);
    let stranger = End { identity: 300, endpoint: 99 };
    assert_eq!(judge(&tables(), &flow(proto::TCP, 80), stranger, WORLD).verdict(), deny);
}

#[test]
fn only_tcp_can_be_redirected() {
    let mut tables = tables();
    tables.roots.insert(1, PolicyRoot::default());
    let judgement = judge(&tables, &flow(proto::UDP, 53), A, B);
    assert_eq!(judgement.verdict(), Verdict::Deny(DropReason(drop::POLICY_DENY)));
    assert_eq!(judgement.ingress_rule, 5);
}

#[test]
fn icmp_is_looked_up_by_its_type() {
    let mut tables = tables();
    tables.roots.insert(1, PolicyRoot::default());
    // An echo's key has port 0.
    assert_eq!(judge(&tables, &flow(proto::ICMP, 0), A, B).verdict(), Verdict::Allow);
    let deny = Verdict::Deny(DropReason(drop::DEFAULT_DENY));
    assert_eq!(judge(&tables, &flow(proto::ICMP, 13), A, B).verdict(), deny);
    assert_eq!(policy_port(&flow(proto::ICMPV6, 0)), 128);
    assert_eq!(policy_port(&flow(proto::ICMP, 256)), 0);
    assert_eq!(policy_port(&flow(proto::TCP, 256)), 256);
}

#[test]
fn an_unknown_action_is_a_denial() {
    let mut tables = tables();
    tables.roots.insert(1, PolicyRoot::default());
    tables.entry(20, 1, (proto::TCP, 99, prefix::FULL), 77, 9);
    let verdict = judge(&tables, &flow(proto::TCP, 99), A, B).verdict();
    assert_eq!(verdict, Verdict::Deny(DropReason(drop::POLICY_DENY)));
}
