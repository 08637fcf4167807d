//! The verdict over a flow, from the policy maps alone.

use crate::{
    DropReason,
    maps::{CtValue, FlowKey, PolicyKey, PolicyRoot, PolicyValue, action, drop, prefix, proto},
};

/// The maps that a judgement reads.
pub trait Tables {
    /// `None`: the id is out of range.
    fn policy_root(&self, endpoint: u32) -> Option<PolicyRoot>;
    /// The peer's class in that policy; 0 where it has no entry.
    fn peer_class(&self, policy: u32, identity: u32) -> u32;
    /// Longest match.
    fn policy(&self, key: &PolicyKey) -> Option<PolicyValue>;
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub identity: u32,
    /// Id on this node, 0: not here, so that nothing is enforced for it here.
    pub endpoint: u32,
}

/// What the policies of both ends say. Actions are [`action`] codes.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub egress_action: u8,
    pub ingress_action: u8,
    pub egress_rule: u32,
    pub ingress_rule: u32,
}

/// Both ends together: a denial wins over a redirect, a redirect over an allow.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Redirect,
    Deny(DropReason),
}

impl Judgement {
    #[inline(always)]
    pub fn verdict(&self) -> Verdict {
        if self.egress_action == action::DENY {
            return deny(self.egress_rule);
        }
        if self.ingress_action == action::DENY {
            return deny(self.ingress_rule);
        }
        if self.egress_action == action::REDIRECT || self.ingress_action == action::REDIRECT {
            return Verdict::Redirect;
        }
        Verdict::Allow
    }

    /// Whether the verdict is [`Verdict::Allow`], without a verdict to carry about.
    #[must_use]
    #[inline(always)]
    pub fn allows(&self) -> bool {
        let passes = |number| number == action::ALLOW || number == action::NONE;
        passes(self.egress_action) && passes(self.ingress_action)
    }

    /// The judgement that a connection was entered with.
    #[inline(always)]
    pub fn of_entry(entry: &CtValue) -> Self {
        Self {
            egress_action: entry.egress_action,
            ingress_action: entry.ingress_action,
            egress_rule: entry.egress_rule,
            ingress_rule: entry.ingress_rule,
        }
    }
}

#[inline(always)]
fn deny(rule: u32) -> Verdict {
    Verdict::Deny(DropReason(if rule == 0 { drop::DEFAULT_DENY } else { drop::POLICY_DENY }))
}

/// Judges a flow, given as its originator sends it: the egress policy of `src` and the ingress
/// policy of `dst`, as far as they live on this node.
#[inline(always)]
pub fn judge(tables: &impl Tables, flow: &FlowKey, src: End, dst: End) -> Judgement {
    let port = policy_port(flow);
    let (egress_action, egress_rule) = match side(tables, src.endpoint) {
        Side::Unpoliced => (action::NONE, 0),
        Side::Unknown => (action::DENY, 0),
        Side::Roots(PolicyRoot { egress, .. }) => look_up(tables, egress, dst.identity, flow.proto, port),
    };
    let (ingress_action, ingress_rule) = match side(tables, dst.endpoint) {
        Side::Unpoliced => (action::NONE, 0),
        Side::Unknown => (action::DENY, 0),
        Side::Roots(PolicyRoot { ingress, .. }) => look_up(tables, ingress, src.identity, flow.proto, port),
    };
    Judgement { egress_action, ingress_action, egress_rule, ingress_rule }
}

enum Side {
    Unpoliced,
    Unknown,
    Roots(PolicyRoot),
}

#[inline(always)]
fn side(tables: &impl Tables, endpoint: u32) -> Side {
    if endpoint == 0 {
        return Side::Unpoliced;
    }
    match tables.policy_root(endpoint) {
        Some(root) => Side::Roots(root),
        None => Side::Unknown,
    }
}

#[inline(always)]
fn look_up(tables: &impl Tables, policy: u32, peer: u32, protocol: u8, port: u16) -> (u8, u32) {
    if policy == 0 {
        return (action::NONE, 0);
    }
    let class = tables.peer_class(policy, peer);
    let key = PolicyKey {
        prefix_len: prefix::FULL,
        policy_be: policy.to_be_bytes(),
        class_be: class.to_be_bytes(),
        proto: protocol,
        _pad: 0,
        port_be: port.to_be_bytes(),
    };
    match tables.policy(&key) {
        Some(PolicyValue { action: action::ALLOW, rule, .. }) => (action::ALLOW, rule),
        // Only TCP can be handed to the proxy; nothing else has a parser, so it cannot be allowed.
        Some(PolicyValue { action: action::REDIRECT, rule, .. }) if protocol == proto::TCP => {
            (action::REDIRECT, rule)
        }
        Some(PolicyValue { rule, .. }) => (action::DENY, rule),
        None => (action::DENY, 0),
    }
}

/// The port (of ICMP: the type) that policy entries match, of a flow as its originator sends it.
#[must_use]
#[inline(always)]
pub fn policy_port(flow: &FlowKey) -> u16 {
    match (flow.proto, flow.dport) {
        (proto::ICMP, 0) => 8,
        (proto::ICMPV6, 0) => 128,
        (proto::ICMP | proto::ICMPV6, 256) => 0,
        (_, port) => port,
    }
}

#[cfg(test)]
mod tests;
