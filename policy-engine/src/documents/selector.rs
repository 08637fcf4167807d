//! Label selectors, and the namespace and cluster that a policy adds to them.

use super::cursor::{At, Findings};
use crate::{
    labels::{self, CLUSTER, DEFAULT_CLUSTER, LabelKey, NAMESPACE, NAMESPACE_LABELS, Source},
    model::{Operator, Requirement, Selector},
    names,
};

/// Whose rules the keys follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Keys may name a source (`k8s:app`); without one they mean any.
    Cilium,
    /// Plain keys, of pods.
    Kubernetes,
    /// Plain keys, of namespaces; all of them count.
    Namespace,
}

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Reads `matchLabels` and `matchExpressions`; nothing is added to them.
pub(super) fn read(at: &At<'_>, dialect: Dialect, f: &mut Findings) -> Selector {
    let mut requirements = Vec::new();
    let Some(object) = at.object(&["matchLabels", "matchExpressions"], f) else {
        return Selector { requirements };
    };
    if let Some(labels) = object.get("matchLabels", f) {
        for (key, value) in labels.strings(f) {
            let path = format!("{}[{key:?}]", labels.path);
            if let Err(reason) = names::label_value(value) {
                f.problem(&path, reason);
            }
            let key = read_key(key, &path, dialect, f);
            let requirement = Requirement { key, operator: Operator::In(vec![value.to_owned()]) };
            // `app` and `any:app`: Cilium keeps one of the values, now this one, now that one.
            if requirements.iter().any(|r: &Requirement| r.key == requirement.key && *r != requirement) {
                let reason = format!("{} stands twice, with different values", requirement.key);
                f.problem(&path, reason);
            }
            requirements.push(requirement);
        }
    }
    for item in object.list("matchExpressions", f).unwrap_or_default() {
        requirements.extend(read_expression(&item, dialect, f));
    }
    Selector { requirements }
}

fn read_expression(at: &At<'_>, dialect: Dialect, f: &mut Findings) -> Option<Requirement> {
    let object = at.object(&["key", "operator", "values"], f)?;
    let key = object.require("key", f).and_then(|key| {
        let text = key.string(f)?;
        Some(read_key(text, &key.path, dialect, f))
    });
    let operator = object.require("operator", f).and_then(|operator| operator.word(&OPERATORS, f));
    let mut values = Vec::new();
    for item in object.list("values", f).unwrap_or_default() {
        let Some(value) = item.string(f) else { continue };
        if let Err(reason) = names::label_value(value) {
            f.problem(&item.path, reason);
        }
        values.push(value.to_owned());
    }
    let (key, operator) = (key?, operator?);
    let takes_values = matches!(operator, "In" | "NotIn");
    if takes_values && values.is_empty() {
        f.problem(&object.path_of("values"), format!("must hold at least one value for operator {operator}"));
    }
    if !takes_values && !values.is_empty() {
        f.problem(&object.path_of("values"), format!("must be left out for operator {operator}"));
    }
    let operator = match operator {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        _ => Operator::DoesNotExist,
    };
    Some(Requirement { key, operator })
}

fn read_key(text: &str, path: &str, dialect: Dialect, f: &mut Findings) -> LabelKey {
    let (valid, key) = match dialect {
        Dialect::Cilium => (names::cilium_label_key(text), LabelKey::parse(text)),
        Dialect::Kubernetes | Dialect::Namespace => (names::label_key(text), LabelKey::k8s(text)),
    };
    if let Err(reason) = valid {
        f.problem(path, reason);
    } else if dialect != Dialect::Namespace && matches!(key.source, Source::Any | Source::K8s) {
        if !labels::in_identity(&key.key) {
            f.warn(path, format!("the label {:?} is kept out of identities, so it never matches", key.key));
        } else if let Some(rest) = key.key.strip_prefix("k8s.").filter(|_| dialect == Dialect::Cilium) {
            f.warn(
                path,
                format!("is a label of that very name; for the label {rest:?} write \"k8s:{rest}\""),
            );
        }
    }
    key
}

/// Where the policy lives, which its peers take over.
#[derive(Clone)]
pub(super) enum Scope {
    Namespace(String),
    /// Clusterwide. `initializing`: the subject names `reserved:init`, whose workloads have no
    /// namespace yet, so peers need none either.
    Cluster {
        initializing: bool,
    },
}

/// The selector of a peer (`fromEndpoints`, `toEndpoints`), with namespace and cluster.
pub(super) fn read_peer(at: &At<'_>, scope: &Scope, f: &mut Findings) -> Selector {
    let mut selector = read(at, Dialect::Cilium, f);
    if let Some(reserved) = selector.requirements.iter().find(|r| r.key.source == Source::Reserved) {
        if matches!(reserved.operator, Operator::DoesNotExist | Operator::NotIn(_)) {
            let text = format!(
                "{} takes the namespace out of this selector: it selects all namespaces and the world",
                reserved.key
            );
            f.warn(&at.path, text);
        }
        return selector;
    }
    let names_namespace = selector.requirements.iter().any(|r| is_label(r, |key| key == NAMESPACE));
    let names_its_labels = selector
        .requirements
        .iter()
        .any(|r| is_label(r, |key| key.strip_prefix(NAMESPACE_LABELS).is_some_and(|k| k.starts_with('.'))));
    if !names_namespace {
        match scope {
            Scope::Namespace(namespace) if !names_its_labels => add(&mut selector, NAMESPACE, namespace),
            Scope::Cluster { initializing: false } => {
                selector.requirements.push(exists(LabelKey::k8s(NAMESPACE)));
            }
            _ => {}
        }
    }
    add_cluster(&mut selector);
    selector
}

/// The selector of a node peer (`fromNodes`, `toNodes`).
pub(super) fn read_node_peer(at: &At<'_>, f: &mut Findings) -> Selector {
    let mut selector = read(at, Dialect::Cilium, f);
    selector.requirements.push(exists(LabelKey::reserved("remote-node")));
    add_cluster(&mut selector);
    selector
}

/// Binds a policy's subject to the policy's namespace. A selector that wants another one is refused:
/// it would select nothing, or, were its wish ignored, far too much.
pub(super) fn bind_subject(selector: &mut Selector, namespace: &str, path: &str, f: &mut Findings) {
    for requirement in selector.requirements.iter().filter(|r| is_label(r, |key| key == NAMESPACE)) {
        let other = match &requirement.operator {
            Operator::In(values) => !values.iter().any(|value| value == namespace),
            Operator::NotIn(values) => values.iter().any(|value| value == namespace),
            Operator::Exists => false,
            Operator::DoesNotExist => true,
        };
        if other {
            let reason = format!(
                "names another namespace than the policy's own, {namespace:?}; put the policy into that namespace, or write a CiliumClusterwideNetworkPolicy"
            );
            f.problem(path, reason);
        }
    }
    add(selector, NAMESPACE, namespace);
}

/// Adds the cluster unless the selector names one.
pub(super) fn add_cluster(selector: &mut Selector) {
    if !selector.requirements.iter().any(|r| is_label(r, |key| key == CLUSTER)) {
        add(selector, CLUSTER, DEFAULT_CLUSTER);
    }
}

pub(super) fn add(selector: &mut Selector, key: &str, value: &str) {
    let requirement = Requirement { key: LabelKey::k8s(key), operator: Operator::In(vec![value.to_owned()]) };
    if !selector.requirements.contains(&requirement) {
        selector.requirements.push(requirement);
    }
}

pub(super) fn exists(key: LabelKey) -> Requirement {
    Requirement { key, operator: Operator::Exists }
}

fn is_label(requirement: &Requirement, wanted: impl Fn(&str) -> bool) -> bool {
    matches!(requirement.key.source, Source::Any | Source::K8s) && wanted(&requirement.key.key)
}
