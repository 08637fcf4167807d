//! Labels and label sets, the raw material of identities.

use std::{collections::BTreeMap, fmt};

/// Where a label comes from. `Any` stands only in selectors, for a key without a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Any,
    K8s,
    Reserved,
    Cidr,
    Fqdn,
    Cgroup,
    /// A source that Tektin gives no meaning of its own (`container`, `unspec`, …).
    Other(String),
}

/// A label's source and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey {
    pub source: Source,
    pub key: String,
}

/// The labels of one identity. A (source, key) pair stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(pub BTreeMap<LabelKey, String>);

/// The label that carries a workload's namespace.
pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Prefix of the labels that carry the labels of a workload's namespace.
pub const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels";
/// The label that carries the cluster's name.
pub const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Any => "any",
            Source::K8s => "k8s",
            Source::Reserved => "reserved",
            Source::Cidr => "cidr",
            Source::Fqdn => "fqdn",
            Source::Cgroup => "cgroup",
            Source::Other(name) => name,
        })
    }
}
