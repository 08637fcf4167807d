//! One item of `ingress`, `ingressDeny`, `egress` or `egressDeny` of a Cilium policy.

use std::sync::Arc;

use super::{
    cursor::{At, Findings},
    icmp, peers, ports,
    selector::Scope,
};
use crate::model::{DocumentId, Origin, Peers, Ports, Rule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// Where a rule stands, which decides what it may say.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) document: Arc<DocumentId>,
    pub(super) scope: Scope,
    pub(super) direction: Direction,
    pub(super) effect: Effect,
    /// The subject is a host (nodeSelector).
    pub(super) on_host: bool,
}

impl Place {
    pub(super) fn origin(&self, path: &str) -> Origin {
        Origin { document: Arc::clone(&self.document), path: path.to_owned() }
    }
}

const INGRESS: [&str; 9] = [
    "fromEndpoints",
    "fromCIDR",
    "fromCIDRSet",
    "fromEntities",
    "fromNodes",
    "fromGroups",
    "fromRequires",
    "toPorts",
    "icmps",
];
const EGRESS: [&str; 10] = [
    "toEndpoints",
    "toCIDR",
    "toCIDRSet",
    "toEntities",
    "toNodes",
    "toGroups",
    "toServices",
    "toRequires",
    "toPorts",
    "icmps",
];

const IN_INGRESS: [(&str, &str); 10] = [
    ("toEndpoints", "belongs to egress rules; in ingress write fromEndpoints"),
    ("toCIDR", "belongs to egress rules; in ingress write fromCIDR"),
    ("toCIDRSet", "belongs to egress rules; in ingress write fromCIDRSet"),
    ("toEntities", "belongs to egress rules; in ingress write fromEntities"),
    ("toNodes", "belongs to egress rules; in ingress write fromNodes"),
    ("toGroups", "belongs to egress rules; in ingress write fromGroups"),
    ("toFQDNs", "belongs to egress rules; ingress knows no DNS names"),
    ("toServices", "belongs to egress rules; ingress knows no services"),
    ("fromFQDNs", "does not exist: ingress knows no DNS names; write fromCIDR or fromEntities"),
    ("fromServices", "does not exist: ingress knows no services; write fromEndpoints"),
];
const IN_EGRESS: [(&str, &str); 6] = [
    ("fromEndpoints", "belongs to ingress rules; in egress write toEndpoints"),
    ("fromCIDR", "belongs to ingress rules; in egress write toCIDR"),
    ("fromCIDRSet", "belongs to ingress rules; in egress write toCIDRSet"),
    ("fromEntities", "belongs to ingress rules; in egress write toEntities"),
    ("fromNodes", "belongs to ingress rules; in egress write toNodes"),
    ("fromGroups", "belongs to ingress rules; in egress write toGroups"),
];
const IN_DENY: [(&str, &str); 2] = [
    ("toFQDNs", "does not work in deny rules; DNS names can only be allowed"),
    ("authentication", "makes no sense in a deny rule; remove it"),
];

pub(super) fn read(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<Rule> {
    let mut known: Vec<&str> = match place.direction {
        Direction::Ingress => INGRESS.to_vec(),
        Direction::Egress => EGRESS.to_vec(),
    };
    if place.effect == Effect::Allow {
        known.push("authentication");
        if place.direction == Direction::Egress {
            known.push("toFQDNs");
        }
    }
    let mut hints = match place.direction {
        Direction::Ingress => IN_INGRESS.to_vec(),
        Direction::Egress => IN_EGRESS.to_vec(),
    };
    hints.extend(IN_DENY);
    let object = at.object_with(&known, &hints, f)?;

    let peers = peers::read(&object, place, f);
    let port_rules = object.list("toPorts", f);
    let icmps = object.list("icmps", f);
    if port_rules.as_ref().is_some_and(|p| !p.is_empty()) && icmps.as_ref().is_some_and(|i| !i.is_empty()) {
        f.problem(&object.path_of("icmps"), "stands beside toPorts; write a rule of its own for it");
    }
    let mut items = Vec::new();
    for item in port_rules.unwrap_or_default() {
        items.extend(ports::read(&item, place, f));
    }
    for item in icmps.unwrap_or_default() {
        items.extend(icmp::read(&item, place, f));
    }
    if let Some(authentication) = object.get("authentication", f) {
        read_authentication(&authentication, f);
    }

    let ports = if items.is_empty() { Ports::All } else { Ports::OneOf(items) };
    let peers = match (peers, &ports) {
        (Some(peers), _) => peers,
        // Ports alone hold for everybody; nothing at all only switches default deny on.
        (None, Ports::OneOf(_)) => Peers::Any,
        (None, Ports::All) => Peers::OneOf(Vec::new()),
    };
    Some(Rule { origin: place.origin(&at.path), peers, ports })
}

fn read_authentication(at: &At<'_>, f: &mut Findings) {
    let Some(object) = at.object(&["mode"], f) else { return };
    let mode =
        object.require("mode", f).and_then(|m| m.word(&["disabled", "required", "test-always-fail"], f));
    if mode.is_some_and(|mode| mode != "disabled") {
        f.not_enforced(&at.path, "mutual authentication");
    }
}
