//! NetworkPolicy of networking.k8s.io/v1, checked as the Kubernetes API server does.

use std::sync::Arc;

use serde_json::Value;

use super::{
    cidr::{self, Except},
    cursor::{At, Findings, Object},
    ports,
    selector::{self, Dialect},
};
use crate::{
    labels::{LabelKey, NAMESPACE, NAMESPACE_LABELS},
    model::{
        DocumentId, Origin, Peer, Peers, PortMatch, PortRef, PortRule, Ports, Protocol, Rule, Selector, Spec,
        Subject,
    },
    names,
};

pub(super) fn read(document: &At<'_>, id: &Arc<DocumentId>, f: &mut Findings) -> Option<Spec> {
    let object = document.object(&["apiVersion", "kind", "metadata", "spec"], f)?;
    let Some(spec_at) = object.get("spec", f) else {
        f.problem("spec", "is missing; write spec: {podSelector: {}} to isolate the whole namespace");
        return None;
    };
    let spec = spec_at.object(&["podSelector", "ingress", "egress", "policyTypes"], f)?;
    let mut subject = match spec.get("podSelector", f) {
        Some(pods) => selector::read(&pods, Dialect::Kubernetes, f),
        None => {
            f.warn(&spec.path_of("podSelector"), "is missing, which selects every pod of the namespace");
            Selector::default()
        }
    };
    selector::bind_subject(&mut subject, &id.namespace, &spec.path_of("podSelector"), f);

    let ingress = read_rules(&spec, "ingress", "from", id, f);
    let egress = read_rules(&spec, "egress", "to", id, f);
    let (has_ingress, has_egress) = read_types(&spec, !egress.is_empty(), f);
    Some(Spec {
        subject: Subject::Endpoints(subject),
        default_deny_ingress: has_ingress,
        default_deny_egress: has_egress,
        origin: origin(id, &spec_at.path),
        ingress: in_force(ingress, has_ingress, &spec, "ingress", f),
        ingress_deny: Vec::new(),
        egress: in_force(egress, has_egress, &spec, "egress", f),
        egress_deny: Vec::new(),
    })
}

fn origin(id: &Arc<DocumentId>, path: &str) -> Origin {
    Origin { document: Arc::clone(id), path: path.to_owned() }
}

/// Rules of a direction that policyTypes leaves out do not count.
fn in_force(rules: Vec<Rule>, listed: bool, spec: &Object<'_>, name: &str, f: &mut Findings) -> Vec<Rule> {
    if listed {
        return rules;
    }
    if !rules.is_empty() {
        f.warn(&spec.path_of(name), "is ignored, since policyTypes does not list this direction");
    }
    Vec::new()
}

/// Which directions the policy is for: ingress always and egress where it has rules, unless
/// `policyTypes` says otherwise.
fn read_types(spec: &Object<'_>, has_egress_rules: bool, f: &mut Findings) -> (bool, bool) {
    let items = spec.list("policyTypes", f).unwrap_or_default();
    if items.len() > 2 {
        f.problem(&spec.path_of("policyTypes"), "takes at most the two entries Ingress and Egress");
    }
    if items.is_empty() {
        return (true, has_egress_rules);
    }
    let types: Vec<&str> = items.iter().filter_map(|item| item.word(&["Ingress", "Egress"], f)).collect();
    (types.contains(&"Ingress"), types.contains(&"Egress"))
}

fn read_rules(
    spec: &Object<'_>,
    section: &str,
    peers_field: &str,
    id: &Arc<DocumentId>,
    f: &mut Findings,
) -> Vec<Rule> {
    let other = if peers_field == "from" { "to" } else { "from" };
    let hint = format!("belongs to the other direction; in {section} write {peers_field}");
    let mut rules = Vec::new();
    for at in spec.list(section, f).unwrap_or_default() {
        let Some(rule) = at.object_with(&[peers_field, "ports"], &[(other, &hint)], f) else { continue };
        let peers = rule.list(peers_field, f).unwrap_or_default();
        let peers = if peers.is_empty() {
            Peers::Any
        } else {
            Peers::OneOf(peers.iter().filter_map(|peer| read_peer(peer, &id.namespace, f)).collect())
        };
        let ports = rule.list("ports", f).unwrap_or_default();
        let ports = if ports.is_empty() {
            Ports::All
        } else {
            Ports::OneOf(ports.iter().filter_map(|port| read_port(port, id, f)).collect())
        };
        rules.push(Rule { origin: origin(id, &at.path), peers, ports });
    }
    rules
}

fn read_peer(at: &At<'_>, namespace: &str, f: &mut Findings) -> Option<Peer> {
    let peer = at.object(&["podSelector", "namespaceSelector", "ipBlock"], f)?;
    let pods = peer.get("podSelector", f);
    let namespaces = peer.get("namespaceSelector", f);
    if let Some(block) = peer.get("ipBlock", f) {
        if pods.is_some() || namespaces.is_some() {
            f.problem(
                &block.path,
                "does not go with podSelector or namespaceSelector; write a peer of its own",
            );
        }
        let block = block.object(&["cidr", "except"], f)?;
        let net = block.require("cidr", f).and_then(|cidr| cidr::read(&cidr, f))?;
        let except = block.list("except", f).unwrap_or_default();
        return Some(Peer::Cidr { net, except: cidr::read_except(except, net, Except::StrictlyWithin, f) });
    }
    if pods.is_none() && namespaces.is_none() {
        f.problem(&at.path, "names nobody; write podSelector, namespaceSelector or ipBlock");
        return None;
    }
    let mut selector = pods.map(|pods| selector::read(&pods, Dialect::Kubernetes, f)).unwrap_or_default();
    match namespaces {
        None => selector::add(&mut selector, NAMESPACE, namespace),
        Some(namespaces) => {
            // A namespace's labels stand under a prefix among the labels of its workloads.
            let labels = selector::read(&namespaces, Dialect::Namespace, f);
            if labels.requirements.is_empty() {
                selector.requirements.push(selector::exists(LabelKey::k8s(NAMESPACE)));
            }
            for mut requirement in labels.requirements {
                requirement.key = LabelKey::k8s(format!("{NAMESPACE_LABELS}.{}", requirement.key.key));
                selector.requirements.push(requirement);
            }
        }
    }
    selector::add_cluster(&mut selector);
    Some(Peer::Labels(selector))
}

fn read_port(at: &At<'_>, id: &Arc<DocumentId>, f: &mut Findings) -> Option<PortRule> {
    let object = at.object(&["protocol", "port", "endPort"], f)?;
    let protocol = match object.get("protocol", f) {
        None => Protocol::Tcp,
        Some(protocol) => match protocol.word(&["TCP", "UDP", "SCTP"], f)? {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => Protocol::Sctp,
        },
    };
    let mut port = match object.get("port", f) {
        None => PortRef::Range(0, u16::MAX),
        Some(port) => read_port_ref(&port, f)?,
    };
    if let Some(end) = object.get("endPort", f) {
        let number = u16::try_from(end.integer(1, 65535, f)?).ok()?;
        if !object.has("port") {
            f.problem(&end.path, "needs port, the first port of the range");
            return None;
        }
        port = ports::with_end(port, number).map_err(|reason| f.problem(&end.path, reason)).ok()?;
    }
    let ports = vec![PortMatch { protocol, port }];
    Some(PortRule { origin: origin(id, &at.path), ports, l7: None })
}

fn read_port_ref(at: &At<'_>, f: &mut Findings) -> Option<PortRef> {
    let Value::String(name) = at.value else {
        let number = u16::try_from(at.integer(1, 65535, f)?).ok()?;
        return Some(PortRef::Range(number, number));
    };
    if names::is_service_name(name) && !name.contains(|c: char| c.is_ascii_uppercase()) {
        return Some(PortRef::Named(name.clone()));
    }
    let reason = if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        format!("is a string; write the number {} without quotes", name.trim_start_matches('0'))
    } else {
        format!(
            "{name:?} is no port name: 1 to 15 lower-case letters, digits and single dashes, with a letter"
        )
    };
    f.problem(&at.path, reason);
    None
}
