//! Why a flow gets its verdict: the rule that decides, and what kept each other rule from deciding.

use std::fmt;

use crate::{
    compiled::{L4Verdict, L7Rules},
    http::{HttpRequest, HttpRules, HttpVerdict},
    kafka::{self, KafkaRequest, KafkaVerdict},
    model::{Origin, PortRule, Ports, Rule, Spec},
    naive::{self, Decision, Flow, evaluate},
    policy_set::PolicySet,
};

/// What one end of a flow says, and about every rule why.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub decision: Decision,
    /// Of a redirect with a request at hand.
    pub request: Option<RequestDecision>,
    /// Every rule of every spec in the order in which they are named, and of specs for others the spec.
    pub candidates: Vec<Candidate>,
}

#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestDecision {
    /// By this rule, or by a plain allow for the same traffic.
    Allowed(Origin),
    /// No rule matches.
    Denied,
}

/// What to say of a request that no rule matches: the port rule that asked for one, and that.
#[must_use]
pub fn no_request_rule(port_rule: impl fmt::Display, kind: RequestKind) -> String {
    let kind = match kind {
        RequestKind::Http => "HTTP",
        // Either kind may allow it.
        RequestKind::Grpc => "gRPC or HTTP",
        RequestKind::Kafka => "Kafka",
    };
    format!("{port_rule} (no {kind} rule matches)")
}

/// What kind of request was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    Http,
    Grpc,
    Kafka,
}

impl From<&HttpRequest<'_>> for RequestKind {
    fn from(request: &HttpRequest<'_>) -> Self {
        request.grpc().map_or(Self::Http, |_| Self::Grpc)
    }
}

/// A rule, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub origin: Origin,
    pub deny: bool,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This rule is the one that is named.
    Decides,
    /// It holds as well, but another one is stronger, or the same and first.
    Outranked(&'static str),
    /// It holds, and its requests are judged with the deciding rule's.
    Joins,
    /// A plain allow of traffic that another rule redirects: it lets every request pass.
    AnyRequest,
    /// Its spec selects other subjects.
    OtherSubject,
    OtherPeer,
    /// An empty list: nobody, or no port at all.
    SelectsNobody,
    OtherPort,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decides => "decides",
            Self::Outranked(by) => by,
            Self::Joins => "holds too: a request may match its rules as well",
            Self::AnyRequest => "holds too: it lets every request pass",
            Self::OtherSubject => "selects other workloads",
            Self::OtherPeer => "does not select the peer",
            Self::SelectsNobody => "an empty list: it selects nobody",
            Self::OtherPort => "does not cover the port",
        })
    }
}

/// Explains one end's answer to a flow, and to a request if there is one.
#[must_use]
pub fn explain(policies: &PolicySet, flow: &Flow<'_>, request: Option<&HttpRequest<'_>>) -> Explanation {
    let mut explanation = explain_flow(policies, flow);
    explanation.request = request.and_then(|request| judge(&explanation.decision, request));
    explanation
}

/// The same of a Kafka request, which `judge` knows how to judge.
///
/// # Errors
/// There is no such request.
pub fn explain_kafka(
    policies: &PolicySet,
    flow: &Flow<'_>,
    judge: kafka::Judge,
    request: &KafkaRequest,
) -> Result<Explanation, kafka::Fault> {
    let mut explanation = explain_flow(policies, flow);
    if let Decision::Rule(L4Verdict::Redirect { rule, l7 }) = &explanation.decision {
        let unasked = || RequestDecision::Allowed((**rule).clone());
        let decision = self::kafka(judge, l7, request)?;
        explanation.request = Some(decision.unwrap_or_else(unasked));
    }
    Ok(explanation)
}

/// A Kafka request where requests are judged; `None`: no rule is asked about such a one. Without a Kafka
/// rule a proxy lets no Kafka pass, whatever else is allowed.
pub(crate) fn kafka(
    judge: kafka::Judge,
    l7: &L7Rules,
    request: &KafkaRequest,
) -> Result<Option<RequestDecision>, kafka::Fault> {
    let verdict = judge(&l7.kafka, request)?;
    if l7.kafka.is_empty() {
        return Ok(Some(RequestDecision::Denied));
    }
    Ok(match (verdict, &l7.any) {
        (KafkaVerdict::Allowed(rule), _) => Some(RequestDecision::Allowed(l7.kafka[rule].origin.clone())),
        (KafkaVerdict::AlwaysAllowed, _) => None,
        (KafkaVerdict::Denied, Some(any)) => Some(RequestDecision::Allowed((**any).clone())),
        (KafkaVerdict::Denied, None) => Some(RequestDecision::Denied),
    })
}

fn explain_flow(policies: &PolicySet, flow: &Flow<'_>) -> Explanation {
    let decision = evaluate(policies, flow);
    let candidates = policies
        .iter()
        .flat_map(|document| &document.specs)
        .flat_map(|spec| spec_candidates(spec, flow, &decision))
        .collect();
    Explanation { decision, request: None, candidates }
}

fn judge(decision: &Decision, request: &HttpRequest<'_>) -> Option<RequestDecision> {
    let Decision::Rule(L4Verdict::Redirect { l7, .. }) = decision else {
        return None;
    };
    // A set that does not compile is refused when it is applied; nothing passes by it here either.
    let verdict =
        HttpRules::compile(&l7.requests.specs()).map_or(HttpVerdict::Denied, |rules| rules.decide(request));
    Some(match (verdict, &l7.any) {
        (HttpVerdict::Allowed { rule, .. }, _) => RequestDecision::Allowed(l7.requests.origin(rule).clone()),
        (HttpVerdict::Denied, Some(any)) => RequestDecision::Allowed((**any).clone()),
        (HttpVerdict::Denied, None) => RequestDecision::Denied,
    })
}

fn spec_candidates(spec: &Spec, flow: &Flow<'_>, decision: &Decision) -> Vec<Candidate> {
    let (allow, deny) = (flow.direction.allow_rules(spec), flow.direction.deny_rules(spec));
    if allow.is_empty() && deny.is_empty() {
        return Vec::new();
    }
    if !spec.subject.matches(flow.subject) {
        let outcome = Outcome::OtherSubject;
        return vec![Candidate { origin: spec.origin.clone(), deny: false, outcome }];
    }
    let allow = allow.iter().map(|rule| (rule, false));
    let deny = deny.iter().map(|rule| (rule, true));
    deny.chain(allow).flat_map(|(rule, deny)| rule_candidates(rule, deny, flow, decision)).collect()
}

/// One candidate a port rule; one for the whole rule where it has none or its peers decide already.
fn rule_candidates(rule: &Rule, deny: bool, flow: &Flow<'_>, decision: &Decision) -> Vec<Candidate> {
    let whole = |outcome| vec![Candidate { origin: rule.origin.clone(), deny, outcome }];
    if matches!(&rule.peers, crate::model::Peers::OneOf(peers) if peers.is_empty()) {
        return whole(Outcome::SelectsNobody);
    }
    if !rule.peers.matches(flow.peer) {
        return whole(Outcome::OtherPeer);
    }
    match &rule.ports {
        Ports::All => whole(holding_outcome(&rule.origin, deny, false, decision)),
        Ports::OneOf(ports) if ports.is_empty() => whole(Outcome::SelectsNobody),
        Ports::OneOf(ports) => ports
            .iter()
            .map(|port| Candidate {
                origin: port.origin.clone(),
                deny,
                outcome: port_outcome(port, deny, flow, decision),
            })
            .collect(),
    }
}

fn port_outcome(port: &PortRule, deny: bool, flow: &Flow<'_>, decision: &Decision) -> Outcome {
    if port.ports.is_empty() {
        Outcome::SelectsNobody
    } else if port.ports.iter().any(|p| naive::port_matches(p, flow)) {
        holding_outcome(&port.origin, deny, port.l7.is_some(), decision)
    } else {
        Outcome::OtherPort
    }
}

/// The outcome of a rule that holds for the flow.
fn holding_outcome(origin: &Origin, deny: bool, inspects: bool, decision: &Decision) -> Outcome {
    let Decision::Rule(verdict) = decision else {
        // Where a rule holds, evaluation names one; only a bug leads here.
        return Outcome::Outranked("holds, yet the policies were judged without it");
    };
    match verdict {
        L4Verdict::Deny { rule } | L4Verdict::Allow { rule } | L4Verdict::Redirect { rule, .. }
            if **rule == *origin =>
        {
            Outcome::Decides
        }
        L4Verdict::Deny { .. } if deny => Outcome::Outranked("holds too: another deny rule comes first"),
        L4Verdict::Deny { .. } => Outcome::Outranked("a deny rule is stronger, however narrow this one is"),
        L4Verdict::Redirect { .. } if inspects => Outcome::Joins,
        L4Verdict::Redirect { .. } => Outcome::AnyRequest,
        L4Verdict::Allow { .. } => Outcome::Outranked("holds too: another allow comes first"),
    }
}
