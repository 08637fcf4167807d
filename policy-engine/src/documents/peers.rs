//! Who a rule of a Cilium policy is about: the `from…` and `to…` fields.

use super::{
    cidr,
    cursor::{At, Findings, Object},
    entities, fqdn,
    rule::{Direction, Place},
    selector::{self, Dialect},
};
use crate::model::{Peer, Peers};

/// A kind of peer, as the end of the field's name.
#[derive(Clone, Copy)]
enum Kind {
    Endpoints,
    Cidr,
    CidrSet,
    Entities,
    Nodes,
    Groups,
    Fqdns,
    Services,
}

const INGRESS: [(&str, Kind); 6] = [
    ("fromEndpoints", Kind::Endpoints),
    ("fromCIDR", Kind::Cidr),
    ("fromCIDRSet", Kind::CidrSet),
    ("fromEntities", Kind::Entities),
    ("fromNodes", Kind::Nodes),
    ("fromGroups", Kind::Groups),
];

const EGRESS: [(&str, Kind); 8] = [
    ("toEndpoints", Kind::Endpoints),
    ("toCIDR", Kind::Cidr),
    ("toCIDRSet", Kind::CidrSet),
    ("toEntities", Kind::Entities),
    ("toNodes", Kind::Nodes),
    ("toGroups", Kind::Groups),
    ("toServices", Kind::Services),
    ("toFQDNs", Kind::Fqdns),
];

/// Reads the peers of a rule. `None`: it names none at all.
pub(super) fn read(rule: &Object<'_>, place: &Place, f: &mut Findings) -> Option<Peers> {
    let fields: &[(&str, Kind)] = match place.direction {
        Direction::Ingress => &INGRESS,
        Direction::Egress => &EGRESS,
    };
    refuse_requires(rule, f);
    let mut peers = Vec::new();
    let mut filled: Vec<&str> = Vec::new();
    let mut empty: Vec<&str> = Vec::new();
    for (name, kind) in fields.iter().filter(|(name, _)| rule.has(name)) {
        let Some(items) = rule.list(name, f) else { continue };
        if items.is_empty() {
            empty.push(name);
            continue;
        }
        filled.push(name);
        for item in items {
            peers.extend(read_one(&item, *kind, place, f));
        }
    }
    if filled.len() > 1 {
        let reason =
            format!("a rule takes one kind of peer, not {}; write a rule for each", filled.join(" and "));
        f.problem(&rule.path, reason);
    }
    for name in &empty {
        f.warn(
            &rule.path_of(name),
            "is an empty list, so this rule selects nobody; leave it out to mean everybody",
        );
    }
    if !empty.is_empty() {
        return Some(Peers::OneOf(Vec::new()));
    }
    (!filled.is_empty()).then_some(Peers::OneOf(peers))
}

fn refuse_requires(rule: &Object<'_>, f: &mut Findings) {
    for (name, instead) in [("fromRequires", "fromEndpoints"), ("toRequires", "toEndpoints")] {
        let Some(items) = rule.list(name, f) else { continue };
        if !items.is_empty() {
            let reason =
                format!("is not supported any more; put these labels into the selectors of {instead}");
            f.problem(&rule.path_of(name), reason);
        }
    }
}

fn read_one(at: &At<'_>, kind: Kind, place: &Place, f: &mut Findings) -> Vec<Peer> {
    let peer = match kind {
        Kind::Entities => return entities::read(at, f),
        Kind::Endpoints => Some(Peer::Labels(selector::read_peer(at, &place.scope, f))),
        Kind::Nodes => {
            f.not_enforced(&at.path, "selectors of nodes");
            Some(Peer::Labels(selector::read_node_peer(at, f)))
        }
        Kind::Cidr => cidr::read(at, f).map(|net| Peer::Cidr { net, except: Vec::new() }),
        Kind::CidrSet => cidr::read_set_item(at, f),
        Kind::Groups => read_group(at, f),
        Kind::Services => read_service(at, f),
        Kind::Fqdns => {
            f.not_enforced(&at.path, "DNS names as peers");
            fqdn::read(at, f).map(Peer::Fqdn)
        }
    };
    peer.into_iter().collect()
}

fn read_group(at: &At<'_>, f: &mut Findings) -> Option<Peer> {
    f.not_enforced(&at.path, "groups of cloud providers");
    let group = at.object(&["aws"], f)?;
    if let Some(aws) = group.get("aws", f) {
        let fields = ["labels", "securityGroupsIds", "securityGroupsNames", "region"];
        let aws = aws.object(&fields, f)?;
        if let Some(labels) = aws.get("labels", f) {
            labels.strings(f);
        }
        for name in ["securityGroupsIds", "securityGroupsNames"] {
            for item in aws.list(name, f).unwrap_or_default() {
                item.string(f);
            }
        }
        aws.string("region", f);
    }
    Some(Peer::CidrGroup(at.value.to_string()))
}

fn read_service(at: &At<'_>, f: &mut Findings) -> Option<Peer> {
    f.not_enforced(&at.path, "Kubernetes services as peers");
    let service = at.object(&["k8sService", "k8sServiceSelector"], f)?;
    if !service.has("k8sService") && !service.has("k8sServiceSelector") {
        f.problem(&at.path, "names no service; write k8sService or k8sServiceSelector");
    }
    let mut names = Vec::new();
    if let Some(named) = service.get("k8sService", f) {
        let named = named.object(&["serviceName", "namespace"], f)?;
        let namespace = named.string("namespace", f).unwrap_or_default();
        let name = named.string("serviceName", f).unwrap_or_default();
        names.push(format!("{namespace}/{name}"));
    }
    if let Some(selected) = service.get("k8sServiceSelector", f) {
        let object = selected.object(&["selector", "namespace"], f)?;
        if let Some(selector) = object.require("selector", f) {
            selector::read(&selector, Dialect::Cilium, f);
        }
        object.string("namespace", f);
        names.push(selected.value.to_string());
    }
    Some(Peer::Service(names.join(" ")))
}
