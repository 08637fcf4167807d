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

/// Name of the cluster, the value of the [`CLUSTER`] label: one cluster is all Tektin knows.
pub const DEFAULT_CLUSTER: &str = "default";

impl Source {
    /// The source of a name as written before the colon of a label (`k8s`, `reserved`, …).
    #[must_use]
    pub fn from_name(name: &str) -> Source {
        match name {
            "any" => Source::Any,
            "k8s" => Source::K8s,
            "reserved" => Source::Reserved,
            "cidr" => Source::Cidr,
            "fqdn" => Source::Fqdn,
            "cgroup" => Source::Cgroup,
            other => Source::Other(other.to_owned()),
        }
    }
}

impl LabelKey {
    pub fn new(source: Source, key: impl Into<String>) -> LabelKey {
        LabelKey { source, key: key.into() }
    }

    pub fn k8s(key: impl Into<String>) -> LabelKey {
        LabelKey::new(Source::K8s, key)
    }

    pub fn reserved(key: impl Into<String>) -> LabelKey {
        LabelKey::new(Source::Reserved, key)
    }

    /// `k8s:app` as written in selectors; a bare key has `Source::Any`.
    #[must_use]
    pub fn parse(text: &str) -> LabelKey {
        LabelKey::parse_with(text, Source::Any)
    }

    /// As [`LabelKey::parse`], with another source for bare keys.
    #[must_use]
    pub fn parse_with(text: &str, bare: Source) -> LabelKey {
        match text.split_once(':') {
            Some((source, key)) => LabelKey::new(Source::from_name(source), key),
            None => LabelKey::new(bare, text),
        }
    }
}

impl fmt::Display for LabelKey {
    /// `k8s:app`; without a source where any will do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Any => f.write_str(&self.key),
            _ => write!(f, "{}:{}", self.source, self.key),
        }
    }
}

/// A text that is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no label: {reason}")]
pub struct LabelError {
    pub text: String,
    pub reason: String,
}

impl Labels {
    /// One label as written on a command line: `k8s:app=web`, `app=web`, `reserved:host`.
    ///
    /// `bare` is the source of a key without one.
    ///
    /// # Errors
    /// The key or the value breaks the rules of Kubernetes.
    pub fn parse_one(text: &str, bare: Source) -> Result<(LabelKey, String), LabelError> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        crate::names::cilium_label_key(key)
            .and_then(|()| crate::names::label_value(value))
            .map_err(|reason| LabelError { text: text.to_owned(), reason })?;
        Ok((LabelKey::parse_with(key, bare), value.to_owned()))
    }

    /// The labels of a workload's identity: its own that count ([`in_identity`]), its namespace, the
    /// labels of that namespace and the cluster.
    #[must_use]
    pub fn workload(
        namespace: &str,
        own: &BTreeMap<String, String>,
        namespace_labels: &BTreeMap<String, String>,
    ) -> Labels {
        let mut keys: BTreeMap<String, String> = own
            .iter()
            .filter(|(key, _)| !key.starts_with(CILIUM_PREFIX))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in namespace_labels {
            keys.insert(format!("{NAMESPACE_LABELS}.{key}"), value.clone());
        }
        keys.insert(format!("{NAMESPACE_LABELS}.kubernetes.io/metadata.name"), namespace.to_owned());
        keys.insert(NAMESPACE.to_owned(), namespace.to_owned());
        keys.insert(CLUSTER.to_owned(), DEFAULT_CLUSTER.to_owned());
        let counted = keys.into_iter().filter(|(key, _)| in_identity(key));
        Labels(counted.map(|(key, value)| (LabelKey::k8s(key), value)).collect())
    }

    /// The single label of a reserved identity (`reserved:host`).
    #[must_use]
    pub fn reserved(name: &str) -> Labels {
        Labels(BTreeMap::from([(LabelKey::reserved(name), String::new())]))
    }

    pub fn insert(&mut self, key: LabelKey, value: impl Into<String>) {
        self.0.insert(key, value.into());
    }
}

impl fmt::Display for Labels {
    /// `k8s:app=web,k8s:tier=front`; the value is left out where it is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let equals = if value.is_empty() { "" } else { "=" };
            write!(f, "{comma}{key}{equals}{value}")?;
        }
        Ok(())
    }
}

/// Keys of labels that only the system gives.
const CILIUM_PREFIX: &str = "io.cilium.k8s";

/// Keys that are part of identities although a pattern of [`IGNORED`] fits them too.
const INCLUDED: [&str; 5] =
    [NAMESPACE, NAMESPACE_LABELS, "app.kubernetes.io", CLUSTER, "io.cilium.k8s.policy.serviceaccount"];

/// Beginnings of keys that change too often, or say too little, to be part of an identity.
const IGNORED: [&str; 14] = [
    "io.kubernetes",
    "kubernetes.io",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/controller-uid",
    "k8s.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "annotation",
    "etcd_node",
    "topology.kubernetes.io",
];

/// Whether a Kubernetes label of this key is part of its workload's identity, as Cilium's default
/// filter has it: the longest included beginning against the shortest ignored one.
#[must_use]
pub fn in_identity(key: &str) -> bool {
    const BETA: &str = "beta.kubernetes.io";
    let beta = key.rfind(BETA).map(|at| at + BETA.len());
    let ignored = IGNORED.iter().filter(|prefix| key.starts_with(**prefix)).map(|prefix| prefix.len());
    let Some(ignored) = ignored.chain(beta).min() else { return true };
    let included = INCLUDED.iter().filter(|prefix| key.starts_with(**prefix)).map(|prefix| prefix.len());
    included.max().is_some_and(|included| included > ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn one_label() {
        let parse = |text| Labels::parse_one(text, Source::K8s).map(|(key, value)| format!("{key}={value}"));
        assert_eq!(parse("app=web"), Ok("k8s:app=web".to_owned()));
        assert_eq!(parse("any:app="), Ok("app=".to_owned()));
        assert_eq!(parse("reserved:host"), Ok("reserved:host=".to_owned()));
        assert_eq!(parse("container:a.b/c=d"), Ok("container:a.b/c=d".to_owned()));
        for text in ["", "=web", "app=a b", "a b=c", ":app=web", "a:b:c", "app=a=b"] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains("is no label"), "{error}");
        }
    }

    #[test]
    fn labels_of_a_workload() {
        let own =
            map(&[("app", "web"), ("pod-template-hash", "x"), ("io.cilium.k8s.policy.cluster", "mine")]);
        let labels = Labels::workload("team", &own, &map(&[("tier", "one")]));
        assert_eq!(
            labels.to_string(),
            "k8s:app=web,\
             k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=team,\
             k8s:io.cilium.k8s.namespace.labels.tier=one,\
             k8s:io.cilium.k8s.policy.cluster=default,\
             k8s:io.kubernetes.pod.namespace=team"
        );
        assert_eq!(Labels::reserved("host").to_string(), "reserved:host");
    }

    #[test]
    fn labels_that_count() {
        for key in [
            "app",
            "app.kubernetes.io/name",
            NAMESPACE,
            CLUSTER,
            "node.kubernetes.io/x",
            "example.com/k8s.io",
        ] {
            assert!(in_identity(key), "{key}");
        }
        for key in [
            "kubernetes.io/os",
            "io.kubernetes.pod.name",
            "k8s.io/x",
            "failure-domain.beta.kubernetes.io/zone",
            "topology.kubernetes.io/zone",
            "controller-revision-hash",
            "annotation.x",
        ] {
            assert!(!in_identity(key), "{key}");
        }
    }
}
