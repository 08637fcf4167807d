//! CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.

use std::sync::Arc;

use super::{
    cursor::{At, Findings, Object},
    rule::{self, Direction, Effect, Place},
    selector::{self, Dialect, Scope},
};
use crate::{
    labels::{LabelKey, Source},
    model::{DocumentId, DocumentKind, Origin, Rule, Selector, Spec, Subject},
};

/// Reads `spec` and `specs`.
pub(super) fn read(document: &At<'_>, id: &Arc<DocumentId>, f: &mut Findings) -> Vec<Spec> {
    let known = ["apiVersion", "kind", "metadata", "spec", "specs", "status"];
    let Some(object) = document.object(&known, f) else { return Vec::new() };
    let mut specs = Vec::new();
    if let Some(spec) = object.get("spec", f) {
        specs.extend(read_spec(&spec, id, f));
    }
    let list = object.list("specs", f).unwrap_or_default();
    for item in &list {
        specs.extend(read_spec(item, id, f));
    }
    if !object.has("spec") && list.is_empty() {
        f.problem("spec", "is missing; a policy needs spec or specs");
    }
    specs
}

const SECTIONS: [&str; 4] = ["ingress", "ingressDeny", "egress", "egressDeny"];

fn read_spec(at: &At<'_>, id: &Arc<DocumentId>, f: &mut Findings) -> Option<Spec> {
    let known = [
        "endpointSelector",
        "nodeSelector",
        "ingress",
        "ingressDeny",
        "egress",
        "egressDeny",
        "enableDefaultDeny",
        "labels",
        "description",
        "log",
    ];
    let spec = at.object(&known, f)?;
    let subject = read_subject(&spec, id, f);
    let on_host = matches!(subject, Subject::Nodes(_));
    let scope = match id.kind {
        DocumentKind::CiliumClusterwideNetworkPolicy => Scope::Cluster { initializing: names_init(&subject) },
        _ => Scope::Namespace(id.namespace.clone()),
    };
    let mut section = |name: &str, direction, effect| -> Vec<Rule> {
        let place = Place { document: Arc::clone(id), scope: scope.clone(), direction, effect, on_host };
        let items = spec.list(name, f).unwrap_or_default();
        items.iter().filter_map(|item| rule::read(item, &place, f)).collect()
    };
    let ingress = section("ingress", Direction::Ingress, Effect::Allow);
    let ingress_deny = section("ingressDeny", Direction::Ingress, Effect::Deny);
    let egress = section("egress", Direction::Egress, Effect::Allow);
    let egress_deny = section("egressDeny", Direction::Egress, Effect::Deny);
    let filled = |name: &str| !spec.list(name, &mut Findings::default()).is_none_or(|items| items.is_empty());
    if !SECTIONS.into_iter().any(filled) {
        f.problem(&at.path, "has no rule; write at least one of ingress, ingressDeny, egress and egressDeny");
    }

    let (wish_ingress, wish_egress) = read_default_deny(&spec, f);
    let default_deny_ingress =
        default_deny(&at.path, "ingress", wish_ingress, filled("ingress"), filled("ingressDeny"), f);
    let default_deny_egress =
        default_deny(&at.path, "egress", wish_egress, filled("egress"), filled("egressDeny"), f);

    read_labels(&spec, f);
    spec.string("description", f);
    read_log(&spec, f);
    let origin = Origin { document: Arc::clone(id), path: at.path.clone() };
    Some(Spec {
        subject,
        default_deny_ingress,
        default_deny_egress,
        origin,
        ingress,
        ingress_deny,
        egress,
        egress_deny,
    })
}

/// Whom the spec is for. After a problem, anything: the document is refused.
fn read_subject(spec: &Object<'_>, id: &DocumentId, f: &mut Findings) -> Subject {
    match (spec.has("endpointSelector"), spec.has("nodeSelector")) {
        (true, true) => f.problem(&spec.path, "takes one of endpointSelector and nodeSelector, not both"),
        (false, false) if id.kind == DocumentKind::CiliumNetworkPolicy => {
            f.problem(
                &spec.path_of("endpointSelector"),
                "is missing; write {} to select the whole namespace",
            );
        }
        (false, false) => {
            f.problem(&spec.path_of("endpointSelector"), "is missing; write {} to select every workload");
        }
        _ => {}
    }
    if let Some(nodes) = spec.get("nodeSelector", f) {
        if id.kind == DocumentKind::CiliumNetworkPolicy {
            f.problem(&nodes.path, "works only in a CiliumClusterwideNetworkPolicy");
        }
        f.not_enforced(&nodes.path, "policies for hosts");
        return Subject::Nodes(selector::read(&nodes, Dialect::Cilium, f));
    }
    let Some(endpoints) = spec.get("endpointSelector", f) else {
        return Subject::Endpoints(Selector::default());
    };
    let mut selector = selector::read(&endpoints, Dialect::Cilium, f);
    if id.kind == DocumentKind::CiliumNetworkPolicy {
        selector::bind_subject(&mut selector, &id.namespace, &endpoints.path, f);
    }
    Subject::Endpoints(selector)
}

fn names_init(subject: &Subject) -> bool {
    let (Subject::Endpoints(selector) | Subject::Nodes(selector)) = subject;
    selector.requirements.iter().any(|r| r.key == LabelKey::new(Source::Reserved, "init"))
}

fn read_default_deny(spec: &Object<'_>, f: &mut Findings) -> (Option<bool>, Option<bool>) {
    let Some(at) = spec.get("enableDefaultDeny", f) else { return (None, None) };
    let Some(object) = at.object(&["ingress", "egress"], f) else { return (None, None) };
    let mut wish = |name: &str| object.get(name, f).and_then(|value| value.boolean(f));
    (wish("ingress"), wish("egress"))
}

/// Default deny comes with the first rule of a direction, unless the document says no.
fn default_deny(
    path: &str,
    direction: &str,
    wish: Option<bool>,
    allows: bool,
    denies: bool,
    f: &mut Findings,
) -> bool {
    if wish == Some(true) && !allows && !denies {
        let text = format!(
            "does nothing, since there is no {direction} rule; write `{direction}: [{{}}]` to allow nothing"
        );
        f.warn(&format!("{path}.enableDefaultDeny.{direction}"), text);
    }
    let on = wish.unwrap_or(true) && (allows || denies);
    if on && !allows {
        let text = format!(
            "deny rules alone also switch default deny on, so nothing is allowed; to deny only what they name, set enableDefaultDeny.{direction}: false"
        );
        f.warn(&format!("{path}.{direction}Deny"), text);
    }
    on
}

fn read_labels(spec: &Object<'_>, f: &mut Findings) {
    for item in spec.list("labels", f).unwrap_or_default() {
        let Some(label) = item.object(&["key", "value", "source"], f) else { continue };
        if let Some(key) = label.require("key", f) {
            key.string(f);
        }
        label.string("value", f);
        label.string("source", f);
    }
}

fn read_log(spec: &Object<'_>, f: &mut Findings) {
    let Some(at) = spec.get("log", f) else { return };
    let Some(log) = at.object(&["value"], f) else { return };
    let Some(value) = log.get("value", f) else { return };
    let Some(text) = value.string(f) else { return };
    if text.chars().count() > 32 || text.chars().any(char::is_control) {
        f.problem(&value.path, "must be at most 32 printable characters");
    } else {
        f.warn(&value.path, "is not shown in flow records yet");
    }
}
