//! What a document is: its kind, name and namespace.

use serde_json::Value;

use super::cursor::{At, Findings, Object};
use crate::{
    model::{DocumentId, DocumentKind},
    names,
};

pub(super) enum Head {
    Policy(DocumentId),
    /// Nothing that Tektin reads; with a problem in the findings, something that it should not skip.
    Other {
        kind: String,
        name: Option<String>,
    },
}

const FIELDS: [&str; 16] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "clusterName",
];

const DEFAULT_NAMESPACE: &str = "default";

/// Reads apiVersion, kind and metadata. `list` is what a typed list says about its items.
pub(super) fn read(document: &At<'_>, list: Option<(&str, &str)>, f: &mut Findings) -> Head {
    let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind").or(list.map(|(kind, _)| kind)).unwrap_or_default();
    let api_version = text("/apiVersion").or(list.map(|(_, version)| version)).unwrap_or_default();
    let name = text("/metadata/name").map(str::to_owned);
    let other = || Head::Other { kind: kind.to_owned(), name: name.clone() };
    if !document.value.is_object() {
        f.problem("", "is no Kubernetes object; a policy starts with apiVersion and kind");
        return other();
    }
    let (policy, wanted) = match kind {
        "CiliumNetworkPolicy" => (DocumentKind::CiliumNetworkPolicy, "cilium.io/v2"),
        "CiliumClusterwideNetworkPolicy" => (DocumentKind::CiliumClusterwideNetworkPolicy, "cilium.io/v2"),
        "NetworkPolicy" => (DocumentKind::NetworkPolicy, "networking.k8s.io/v1"),
        "" => {
            f.problem(
                "kind",
                "is missing; write CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy",
            );
            return other();
        }
        // To skip a policy in another dialect, or a misspelt one, would leave open what it closes.
        _ if kind.to_ascii_lowercase().contains("networkpolic") => {
            f.problem("kind", format!("{kind} ({api_version}) is no policy that Tektin reads; write CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy"));
            return other();
        }
        _ => return other(),
    };
    if api_version != wanted {
        f.problem(
            "apiVersion",
            format!("{api_version:?} is no version of {kind} that Tektin reads; write {wanted}"),
        );
    }
    Head::Policy(read_metadata(document, policy, f))
}

fn read_metadata(document: &At<'_>, kind: DocumentKind, f: &mut Findings) -> DocumentId {
    let mut id = DocumentId { kind, namespace: String::new(), name: String::new() };
    let clusterwide = kind == DocumentKind::CiliumClusterwideNetworkPolicy;
    if !clusterwide {
        DEFAULT_NAMESPACE.clone_into(&mut id.namespace);
    }
    let Some(metadata) = document.value.get("metadata").filter(|metadata| !metadata.is_null()) else {
        f.problem("metadata.name", "is missing");
        return id;
    };
    let Some(metadata) = At::new(metadata, "metadata").object(&FIELDS, f) else { return id };
    if let Some(name) = metadata.require("name", f)
        && let Some(text) = name.string(f)
    {
        if let Err(reason) = names::dns_subdomain(text) {
            f.problem(&name.path, reason);
        }
        text.clone_into(&mut id.name);
    }
    read_namespace(&metadata, clusterwide, &mut id, f);
    for field in ["labels", "annotations"] {
        if let Some(entries) = metadata.get(field, f) {
            entries.strings(f);
        }
    }
    id
}

fn read_namespace(metadata: &Object<'_>, clusterwide: bool, id: &mut DocumentId, f: &mut Findings) {
    let Some(namespace) = metadata.get("namespace", f) else { return };
    // An empty one is the default one.
    let Some(text) = namespace.string(f).filter(|text| !text.is_empty()) else { return };
    if clusterwide {
        f.warn(&namespace.path, "does nothing in a clusterwide policy");
        return;
    }
    if let Err(reason) = names::dns_label(text) {
        f.problem(&namespace.path, reason);
    }
    text.clone_into(&mut id.namespace);
}
