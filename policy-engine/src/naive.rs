//! The semantics in their plainest form: walk all rules, ask each whether it holds, take the
//! strongest. Nothing is indexed, shared or merged; the compiled form is tested against this.

use std::sync::Arc;

use crate::{
    compiled::{L4Verdict, L7Rules},
    direction::Direction,
    grpc::{GrpcCall, Service},
    http::{HttpRequest, HttpRuleSpec},
    identity::{HOST, Identity},
    model::{KafkaRule, L7, Mismatch, Origin, PortMatch, PortRef, Ports, Protocol, RequestRules, Rule, Spec},
    policy_set::{AllowLocalhost, PolicySet},
};

/// What one end of a flow says.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// No policy selects the subject in this direction.
    NotEnforced,
    /// Policies select it and no rule matches. Named: the specs that switched default deny on.
    DefaultDeny(Vec<Arc<Origin>>),
    /// A rule decides.
    Rule(L4Verdict),
}

/// A flow as one of its ends sees it.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    pub subject: &'a Identity,
    pub direction: Direction,
    pub peer: &'a Identity,
    pub protocol: Protocol,
    /// Destination port; of ICMP the type.
    pub port: u16,
}

/// Judges the first packet of a flow.
pub fn evaluate(policies: &PolicySet, flow: &Flow<'_>) -> Decision {
    let specs: Vec<&Spec> = policies
        .iter()
        .flat_map(|document| &document.specs)
        .filter(|spec| spec.subject.matches(flow.subject) && speaks(spec, flow.direction))
        .collect();
    let init = flow.subject.has_reserved_label("init");
    if specs.is_empty() && !init {
        return Decision::NotEnforced;
    }
    let default_deny: Vec<Arc<Origin>> = specs
        .iter()
        .filter(|spec| flow.direction.default_deny(spec))
        .map(|spec| Arc::new(spec.origin.clone()))
        .collect();

    let denies = specs.iter().flat_map(|spec| flow.direction.deny_rules(spec));
    if let Some(origin) = denies.flat_map(|rule| holding(rule, flow)).map(|held| held.origin).next() {
        return Decision::Rule(L4Verdict::Deny { rule: Arc::new(origin) });
    }
    let mut inspecting: Vec<Held<'_>> = Vec::new();
    let mut plain: Option<Origin> = None;
    for held in specs.iter().flat_map(|spec| flow.direction.allow_rules(spec)).flat_map(|r| holding(r, flow))
    {
        match held.l7 {
            Some(_) => inspecting.push(held),
            None => plain = plain.or(Some(held.origin)),
        }
    }
    plain = plain.or_else(|| unwritten_allow(policies, flow, specs.first()?, &default_deny));

    if let Some(first) = inspecting.first() {
        let mut requests = RequestRules::default();
        for rules in inspecting.iter().filter_map(|held| held.requests()) {
            requests.http.extend(rules.http.iter().cloned());
            requests.grpc.extend(rules.grpc.iter().cloned());
        }
        let kafka = inspecting.iter().flat_map(|held| held.kafka()).cloned().collect();
        let l7 = Arc::new(L7Rules { requests, kafka, any: plain.map(Arc::new) });
        return Decision::Rule(L4Verdict::Redirect { rule: Arc::new(first.origin.clone()), l7 });
    }
    match plain {
        Some(origin) => Decision::Rule(L4Verdict::Allow { rule: Arc::new(origin) }),
        None => Decision::DefaultDeny(default_deny),
    }
}

fn speaks(spec: &Spec, direction: Direction) -> bool {
    direction.default_deny(spec)
        || !direction.allow_rules(spec).is_empty()
        || !direction.deny_rules(spec).is_empty()
}

/// The allows that nobody wrote down: everything where no spec switched default deny on, and the
/// local host where the options say so.
fn unwritten_allow(
    policies: &PolicySet,
    flow: &Flow<'_>,
    first: &Spec,
    default_deny: &[Arc<Origin>],
) -> Option<Origin> {
    let named = |spec: &Origin, why: &str| Origin {
        document: spec.document.clone(),
        path: format!("{} ({why})", spec.path),
    };
    if default_deny.is_empty() && !flow.subject.has_reserved_label("init") {
        return Some(named(&first.origin, "no default deny"));
    }
    let localhost = flow.direction == Direction::Ingress
        && flow.peer.has_reserved_label("host")
        && flow.subject.id != HOST
        && policies.options.allow_localhost == AllowLocalhost::Always;
    localhost.then(|| named(default_deny.first().map_or(&first.origin, |o| o), "allow-localhost"))
}

/// A part of a rule that holds for the flow.
struct Held<'a> {
    origin: Origin,
    l7: Option<&'a L7>,
}

impl<'a> Held<'a> {
    fn requests(&self) -> Option<&'a RequestRules> {
        match self.l7 {
            Some(L7::Http(rules)) => Some(rules),
            _ => None,
        }
    }

    fn kafka(&self) -> &'a [KafkaRule] {
        match self.l7 {
            Some(L7::Kafka(rules)) => rules,
            _ => &[],
        }
    }
}

fn holding<'a>(rule: &'a Rule, flow: &Flow<'_>) -> Vec<Held<'a>> {
    if !rule.peers.matches(flow.peer) {
        return Vec::new();
    }
    match &rule.ports {
        Ports::All => vec![Held { origin: rule.origin.clone(), l7: None }],
        Ports::OneOf(ports) => ports
            .iter()
            .filter(|port| port.ports.iter().any(|p| port_matches(p, flow)))
            .map(|port| Held { origin: port.origin.clone(), l7: port.l7.as_ref() })
            .collect(),
    }
}

pub(crate) fn port_matches(port: &PortMatch, flow: &Flow<'_>) -> bool {
    // A name belongs to the workload that listens.
    let listener = match flow.direction {
        Direction::Ingress => flow.subject,
        Direction::Egress => flow.peer,
    };
    port.protocol == flow.protocol
        && match &port.port {
            PortRef::Range(first, last) => (*first..=*last).contains(&flow.port),
            PortRef::Named(name) => listener.named_ports.port(name, flow.protocol) == Some(flow.port),
        }
}

/// Index of the first rule that lets the request pass, with one regular expression at a time.
#[must_use]
pub fn first_http_rule(rules: &[HttpRuleSpec], request: &HttpRequest<'_>) -> Option<usize> {
    rules.iter().position(|rule| {
        rule.grpc.as_ref().is_none_or(|call| is_call(call, request))
            && full_match(rule.method.as_deref(), request.method)
            && full_match(rule.path.as_deref(), request.path)
            && full_match(rule.host.as_deref(), request.host)
            && rule.headers.iter().all(|(name, value)| match (request.header(name), value) {
                (Some(found), Some(wanted)) => found == wanted.as_bytes(),
                (found, None) => found.is_some(),
                (None, Some(_)) => false,
            })
            && rule.header_matches.iter().filter(|m| m.mismatch == Mismatch::Deny).all(|m| {
                let found = request.header(&m.name);
                if m.value.is_empty() {
                    found.is_some()
                } else {
                    found.as_deref() == Some(m.value.as_bytes())
                }
            })
    })
}

/// Whether the request is a gRPC one, and for this.
fn is_call(call: &GrpcCall, request: &HttpRequest<'_>) -> bool {
    let Some(("", name)) = request.path.split_once('/') else { return false };
    let Some((service, method)) = name.split_once('/') else { return false };
    let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '?']);
    let is_service = match &call.service {
        Service::Any => true,
        Service::Named(name) => service == name,
        Service::Within(package) => {
            let within = service.strip_prefix(package.as_str()).and_then(|rest| rest.strip_prefix('.'));
            within.is_some_and(|rest| !rest.is_empty())
        }
    };
    request.grpc().is_some()
        && request.method == "POST"
        && is_name(service)
        && is_name(method)
        && is_service
        && call.method.as_ref().is_none_or(|name| method == name)
}

fn full_match(pattern: Option<&str>, text: &str) -> bool {
    pattern.is_none_or(|pattern| crate::regex::is_full_match(pattern, text).unwrap_or(false))
}
