//! The workloads of this node: what is remembered about each across restarts.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use policy_engine::labels::{LabelKey, Labels, NAMESPACE_LABELS, Source};
use serde::{Deserialize, Serialize};
use tektin_abi::maps::ENDPOINTS_MAX;

use super::{
    error::AgentError,
    identities::{NamedPorts, WorkloadKey},
    ipam::Cursor,
    netns::NetnsId,
    state_file::{self, StateFileError},
    veth::{self, Workload},
};
use crate::api;

pub mod add;
mod delete;
pub mod restore;

/// What is kept about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub id: u32,
    pub name: String,
    pub namespace: String,
    /// `key=value` or `source:key=value`, as given.
    pub labels: Vec<String>,
    #[serde(default)]
    pub named_ports: NamedPorts,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    /// The workload's own, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Host-side device.
    pub veth: String,
    pub ifindex: u32,
    pub netns: PathBuf,
    /// Who speaks from there does not speak for the node.
    pub netns_id: NetnsId,
    /// The veth is not ours to delete.
    pub adopted: bool,
    /// Its deletion has begun: whatever ends the agent, the next one finishes it.
    #[serde(default)]
    pub leaving: bool,
    /// Why its packets are dropped, where something is wrong with it. Found out again at each start.
    #[serde(skip)]
    pub failure: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    last_id: u32,
    cursor: Cursor,
    endpoints: Vec<Endpoint>,
}

/// All endpoints, by id.
#[derive(Clone, Debug)]
pub struct Endpoints {
    path: PathBuf,
    last_id: u32,
    by_id: BTreeMap<u32, Endpoint>,
}

impl Endpoint {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Says on a device of our own making whose it is.
    pub fn alias(&self) -> String {
        format!("{}{}", add::ALIAS, self.full_name())
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// All zeros only if the file was edited: no packet has that source.
    pub fn mac(&self) -> [u8; 6] {
        veth::mac_from_text(&self.mac).unwrap_or_default()
    }

    pub fn workload(&self) -> Workload {
        Workload { mac: self.mac(), ipv4: self.ipv4, ipv6: self.ipv6 }
    }

    /// What its identity is made of.
    pub fn key(&self) -> Result<WorkloadKey, AgentError> {
        workload_key(&self.namespace, &self.labels, &self.named_ports)
    }
}

impl Endpoints {
    /// Reads what an earlier run kept; the file need not exist yet.
    pub fn load(path: PathBuf) -> Result<(Self, Cursor), StateFileError> {
        let stored = state_file::read::<Stored>(&path)?;
        let (last_id, cursor, endpoints) = match stored {
            Some(stored) => (stored.last_id, stored.cursor, stored.endpoints),
            None => (0, Cursor::default(), Vec::new()),
        };
        let by_id = endpoints.into_iter().map(|endpoint| (endpoint.id, endpoint)).collect();
        Ok((Self { path, last_id, by_id }, cursor))
    }

    pub fn save(&self, cursor: Cursor) -> Result<(), StateFileError> {
        let endpoints = self.by_id.values().cloned().collect();
        state_file::write(&self.path, &Stored { last_id: self.last_id, cursor, endpoints })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.by_id.values()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn by_id(&self, id: u32) -> Option<&Endpoint> {
        self.by_id.get(&id)
    }

    /// Of one that works: a device that is gone may leave its index to another.
    pub fn by_ifindex(&self, ifindex: u32) -> Option<&Endpoint> {
        self.by_id.values().find(|endpoint| endpoint.ifindex == ifindex && endpoint.failure.is_none())
    }

    /// The endpoint that a person means: `namespace/name`, a name where only one has it, or an id.
    pub fn find(&self, wanted: &str) -> Result<&Endpoint, AgentError> {
        let matching: Vec<&Endpoint> = match wanted.split_once('/') {
            Some((namespace, name)) => self
                .by_id
                .values()
                .filter(|endpoint| endpoint.namespace == namespace && endpoint.name == name)
                .collect(),
            None => self.by_id.values().filter(|endpoint| endpoint.name == wanted).collect(),
        };
        let by_id = || wanted.parse().ok().and_then(|id| self.by_id.get(&id));
        match matching.as_slice() {
            [one] => Ok(one),
            [] => by_id().ok_or_else(|| AgentError::NotFound(format!("there is no endpoint {wanted:?}"))),
            several => Err(AgentError::Conflict {
                reason: format!("several endpoints are called {wanted:?}; give one of these"),
                details: several.iter().map(|endpoint| endpoint.full_name()).collect(),
            }),
        }
    }

    /// A number that no endpoint has, and none had lately.
    pub fn next_id(&mut self) -> Result<u32, AgentError> {
        let last = ENDPOINTS_MAX - 1;
        let start = if (1..last).contains(&self.last_id) { self.last_id + 1 } else { 1 };
        let id = (start..=last).chain(1..start).find(|id| !self.by_id.contains_key(id)).ok_or_else(|| {
            AgentError::Full(format!("this node has {last} endpoints, the most it can have"))
        })?;
        self.last_id = id;
        Ok(id)
    }

    pub fn insert(&mut self, endpoint: Endpoint) {
        self.by_id.insert(endpoint.id, endpoint);
    }

    pub fn remove(&mut self, id: u32) -> Option<Endpoint> {
        self.by_id.remove(&id)
    }

    pub fn set_leaving(&mut self, id: u32, leaving: bool) {
        if let Some(endpoint) = self.by_id.get_mut(&id) {
            endpoint.leaving = leaving;
        }
    }

    pub fn set_failure(&mut self, id: u32, failure: Option<String>) {
        if let Some(endpoint) = self.by_id.get_mut(&id) {
            endpoint.failure = failure;
        }
    }
}

/// The label that carries the name of a workload's Kubernetes service account.
const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";

/// The label set of a workload: its own labels, its namespace's, the cluster's.
pub fn workload_key(
    namespace: &str,
    labels: &[String],
    named_ports: &NamedPorts,
) -> Result<WorkloadKey, AgentError> {
    let mut own = BTreeMap::new();
    let mut others: Vec<(LabelKey, String)> = Vec::new();
    for text in labels {
        let (key, value) = Labels::parse_one(text, Source::K8s)
            .map_err(|error| AgentError::Invalid(format!("label {text:?}: {error}")))?;
        match key.source {
            Source::K8s => {
                if own.insert(key.key.clone(), value).is_some() {
                    return Err(AgentError::Invalid(format!("label {} is given twice", key.key)));
                }
            }
            // Identities of that kind are not a workload's to claim.
            Source::Reserved | Source::Cidr | Source::Fqdn | Source::Any => {
                return Err(AgentError::Invalid(format!(
                    "label {text:?}: a workload cannot have labels of source {}",
                    key.source
                )));
            }
            Source::Cgroup | Source::Other(_) => others.push((key, value)),
        }
    }
    // Without an orchestrator to ask, whoever adds the workload says what its namespace is labelled
    // with and which account it has.
    let of_namespace = format!("{NAMESPACE_LABELS}.");
    let namespace_labels = own
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(&of_namespace)?.to_owned(), value.clone())))
        .collect();
    let mut labels = Labels::workload(namespace, &own, &namespace_labels);
    if let Some(account) = own.get(SERVICE_ACCOUNT) {
        labels.insert(LabelKey::k8s(SERVICE_ACCOUNT), account.clone());
    }
    for (key, value) in others {
        labels.insert(key, value);
    }
    let named_ports = named_ports.iter().map(|(name, port)| (name.to_lowercase(), *port)).collect();
    Ok(WorkloadKey { labels, named_ports })
}

/// A Kubernetes-style name, so that it can stand in paths, tables and file names.
pub fn check_name(what: &str, name: &str) -> Result<(), AgentError> {
    let fine = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let bytes = name.as_bytes();
    let ends = bytes.first().is_some_and(|b| fine(*b)) && bytes.last().is_some_and(|b| fine(*b));
    if ends && bytes.len() <= 63 && bytes.iter().all(|octet| fine(*octet) || matches!(octet, b'-' | b'.')) {
        return Ok(());
    }
    Err(AgentError::Invalid(format!(
        "{what} {name:?}: at most 63 lower-case letters, digits, '-' or '.', with a letter or digit at both ends"
    )))
}

impl Endpoint {
    /// Whether packets of its device are its packets.
    pub fn is_ready(&self) -> bool {
        self.failure.is_none() && !self.leaving
    }

    /// As the API shows it.
    pub fn shown(&self, identity: u32, labels: Vec<String>, policy: api::EndpointPolicy) -> api::Endpoint {
        api::Endpoint {
            id: self.id,
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            labels,
            identity,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            mac: self.mac.clone(),
            veth: self.veth.clone(),
            ifindex: self.ifindex,
            netns: self.netns.display().to_string(),
            named_ports: self.named_ports.clone(),
            policy,
            state: match &self.failure {
                None => api::EndpointState::Ready,
                Some(reason) => api::EndpointState::Failed(reason.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(labels: &[&str]) -> Result<WorkloadKey, AgentError> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        workload_key("shop", &labels, &NamedPorts::new())
    }

    #[test]
    fn a_workload_carries_its_namespace_and_cluster() {
        let key = key(&[
            "app=web",
            "k8s:tier=front",
            "container:id=7",
            "io.cilium.k8s.namespace.labels.team=sales",
            "io.cilium.k8s.policy.serviceaccount=till",
        ])
        .unwrap();
        let texts = super::super::identities::label_texts(&key.labels);
        for expected in [
            "k8s:app=web",
            "k8s:tier=front",
            "container:id=7",
            "k8s:io.kubernetes.pod.namespace=shop",
            "k8s:io.cilium.k8s.namespace.labels.team=sales",
            "k8s:io.cilium.k8s.policy.serviceaccount=till",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
        ] {
            assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
        }
    }

    #[test]
    fn labels_that_are_not_a_workloads_are_refused() {
        for label in ["reserved:host", "cidr:10.0.0.0/8=", "any:app=web"] {
            assert!(key(&[label]).is_err(), "{label}");
        }
        assert!(key(&["app=web", "k8s:app=db"]).is_err());
    }

    #[test]
    fn names_are_found_and_ambiguous_ones_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (mut endpoints, _) = Endpoints::load(directory.path().join("endpoints.json")).unwrap();
        for (name, namespace) in [("web", "a"), ("web", "b"), ("db", "a")] {
            let id = endpoints.next_id().unwrap();
            endpoints.insert(Endpoint {
                id,
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                labels: vec![],
                named_ports: NamedPorts::new(),
                ipv4: None,
                ipv6: None,
                mac: "02:00:00:00:00:01".to_owned(),
                veth: format!("tek{id:x}"),
                ifindex: id,
                netns: PathBuf::from("/run/netns/x"),
                netns_id: super::super::netns::current().unwrap(),
                adopted: false,
                leaving: false,
                failure: None,
            });
        }
        assert_eq!(endpoints.find("db").unwrap().id, 3);
        assert_eq!(endpoints.find("b/web").unwrap().id, 2);
        assert_eq!(endpoints.find("1").unwrap().id, 1);
        assert!(matches!(endpoints.find("web"), Err(AgentError::Conflict { .. })));
        assert!(matches!(endpoints.find("nobody"), Err(AgentError::NotFound(_))));
        endpoints.save(Cursor::default()).unwrap();
        // A number given back comes last, also after a restart.
        endpoints.remove(3);
        endpoints.save(Cursor::default()).unwrap();
        let (mut endpoints, _) = Endpoints::load(directory.path().join("endpoints.json")).unwrap();
        assert_eq!(endpoints.len(), 2);
        assert_eq!(endpoints.next_id().unwrap(), 4);
    }

    #[test]
    fn names_stay_simple() {
        for good in ["web", "web-1", "a.b", "0"] {
            assert!(check_name("name", good).is_ok(), "{good}");
        }
        for bad in ["", "Web", "-a", "a/b", "a_b", "..", "a\n"] {
            assert!(check_name("name", bad).is_err(), "{bad:?}");
        }
    }
}
