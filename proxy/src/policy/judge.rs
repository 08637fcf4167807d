//! One request against both ends' policies.

use l7_parsers::kafka::{Policy, Question, Verdict};
use policy_engine::http::{HeaderAction, HttpRequest, HttpVerdict};
use tektin_abi::maps::{SteeredValue, action};

use super::snapshot::{Class, Direction, PieceVerdict, Roots, Snapshot};
use crate::link_proto::Action;

/// What one end says, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndDecision {
    pub action: Action,
    /// 0 with a denial: default deny without a document to name.
    pub rule: u32,
    /// Whether a policy selects that end at all; without one everything passes.
    pub enforced: bool,
    /// Why `rule` denies, where its name does not say it; else empty.
    pub reason: &'static str,
}

impl EndDecision {
    const FREE: Self = Self { action: Action::Allow, rule: 0, enforced: false, reason: "" };
    const FAIL_CLOSED: Self = Self {
        action: Action::Deny,
        rule: 0,
        enforced: true,
        reason: "the proxy knows no policy of this endpoint",
    };

    fn enforced(action: Action, rule: u32) -> Self {
        Self { action, rule, enforced: true, reason: "" }
    }

    fn denies(self) -> bool {
        self.action == Action::Deny
    }
}

/// What both ends say.
#[must_use]
#[derive(Debug)]
pub struct Judgement {
    pub egress: EndDecision,
    pub ingress: EndDecision,
    /// What the allowing rules do to the request's headers.
    pub header_actions: Vec<HeaderAction>,
    pub revision: u32,
}

impl Judgement {
    /// A request passes if neither end denies it.
    #[must_use]
    pub fn denies(&self) -> bool {
        self.egress.denies() || self.ingress.denies()
    }

    /// Words of the ends that deny; empty where their rules say it all.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        let mut reasons = [self.egress, self.ingress].into_iter().filter(|end| end.denies());
        reasons.find(|end| !end.reason.is_empty()).map_or("", |end| end.reason)
    }

    /// For a connection that no policy was asked about (the record of a refusal).
    pub fn none(revision: u32) -> Self {
        Self { egress: EndDecision::FREE, ingress: EndDecision::FREE, header_actions: Vec::new(), revision }
    }
}

/// What is judged.
#[derive(Clone, Copy)]
pub enum Judging<'a> {
    /// A request.
    Request(HttpRequest<'a>),
    /// One name in a Kafka request.
    Kafka(&'a Question<'a>),
    /// Whether a connection that stands may go on standing: only what no request could pass denies it.
    Connection,
}

impl Snapshot {
    /// Judges by the egress policy of the source and the ingress policy of the destination.
    pub fn judge(&self, steered: &SteeredValue, port: u16, what: Judging<'_>) -> Judgement {
        let mut header_actions = Vec::new();
        let egress = self.judge_end(
            steered.src_endpoint,
            |roots| roots.egress,
            steered.dst_identity,
            port,
            what,
            &mut header_actions,
        );
        let ingress = self.judge_end(
            steered.dst_endpoint,
            |roots| roots.ingress,
            steered.src_identity,
            port,
            what,
            &mut header_actions,
        );
        Judgement { egress, ingress, header_actions, revision: self.revision }
    }

    fn judge_end(
        &self,
        endpoint: u32,
        policy: impl Fn(&Roots) -> u32,
        peer: u32,
        port: u16,
        what: Judging<'_>,
        header_actions: &mut Vec<HeaderAction>,
    ) -> EndDecision {
        // Not on this node: its own node judges it.
        if endpoint == 0 {
            return EndDecision::FREE;
        }
        // An endpoint that the agent has not told us of, or has taken away.
        let Some(roots) = self.endpoints.get(endpoint) else { return EndDecision::FAIL_CLOSED };
        let policy = policy(roots);
        if policy == 0 {
            return EndDecision::FREE;
        }
        let Some(direction) = self.policies.get(policy) else { return EndDecision::FAIL_CLOSED };
        match direction.piece(peer, port) {
            None => EndDecision::enforced(Action::Deny, direction.default_deny_rule),
            Some(PieceVerdict::Deny { rule }) => EndDecision::enforced(Action::Deny, *rule),
            Some(PieceVerdict::Allow { rule }) => EndDecision::enforced(Action::Allow, *rule),
            Some(PieceVerdict::Redirect { rule, http, kafka, any }) => {
                let allowing = match what {
                    Judging::Connection => return EndDecision::enforced(Action::Redirect, *rule),
                    Judging::Request(request) => match http.rules.decide(&request) {
                        HttpVerdict::Allowed { rule, actions } => {
                            header_actions.extend(actions);
                            Some(http.ids.get(rule).copied().unwrap_or(0))
                        }
                        HttpVerdict::Denied => *any,
                    },
                    Judging::Kafka(question) => match kafka.judge(question) {
                        Verdict::Allow { rule } => Some(rule),
                        Verdict::Deny { .. } => *any,
                    },
                };
                match allowing {
                    Some(allowing) => EndDecision::enforced(Action::Allow, allowing),
                    None => EndDecision::enforced(Action::Deny, *rule),
                }
            }
        }
    }

    /// Whether the rules of either end expect Kafka there.
    #[must_use]
    pub fn expects_kafka(&self, steered: &SteeredValue, port: u16) -> bool {
        let has_rules = |endpoint, policy: fn(&Roots) -> u32, peer| {
            let id = self.endpoints.get(endpoint).map(policy);
            let piece = id.and_then(|id| self.policies.get(id)).and_then(|policy| policy.piece(peer, port));
            matches!(piece, Some(PieceVerdict::Redirect { kafka, .. }) if !kafka.rules.is_empty())
        };
        has_rules(steered.src_endpoint, |roots| roots.egress, steered.dst_identity)
            || has_rules(steered.dst_endpoint, |roots| roots.ingress, steered.src_identity)
    }
}

impl Direction {
    fn piece(&self, peer: u32, port: u16) -> Option<&PieceVerdict> {
        let class = self.class_of.get(peer).copied().unwrap_or(0);
        self.classes.get(class)?.piece(port)
    }
}

impl Class {
    fn piece(&self, port: u16) -> Option<&PieceVerdict> {
        let at = self.tcp.partition_point(|piece| piece.last < port);
        match self.tcp.get(at) {
            Some(piece) if piece.first <= port => Some(&piece.verdict),
            _ => self.any_protocol.as_ref(),
        }
    }
}

/// The decision of each end as the kernel took it when it steered (for records without a request).
impl From<&SteeredValue> for Judgement {
    fn from(steered: &SteeredValue) -> Self {
        let end = |number: u8, rule: u32| match number {
            action::NONE => EndDecision::FREE,
            action::ALLOW => EndDecision::enforced(Action::Allow, rule),
            action::REDIRECT => EndDecision::enforced(Action::Redirect, rule),
            _ => EndDecision::enforced(Action::Deny, rule),
        };
        Self {
            egress: end(steered.egress_action, steered.egress_rule),
            ingress: end(steered.ingress_action, steered.ingress_rule),
            header_actions: Vec::new(),
            revision: steered.revision,
        }
    }
}
