//! The JSON types of the agent's API, version 1, shared by the server, the command line and
//! `--output json`: what a script reads from the one it can send to the other.
//!
//! Every answer outside 2xx has an [`ApiError`] as its body. Unknown fields in requests are
//! refused, so that a misspelt field never means "all".

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

pub mod explain;
pub mod status;

pub use crate::flows::{filter::FlowFilter, record::FlowRecord};
pub use explain::{DirectionExplanation, ExplainRequest, Explanation, HttpRequest, OtherRule};
pub use status::{
    AgentStatus, Feature, FlowsStatus, NodeStatus, PolicyFile, PolicyStatus, Program, ProxyHealth, Status,
};

/// Paths of the API. `{name}` and `{id}` are one percent-encoded segment.
pub mod route {
    /// GET [`Status`](super::Status).
    pub const STATUS: &str = "/v1/status";
    /// GET a list of [`Endpoint`](super::Endpoint); POST [`EndpointAdd`](super::EndpointAdd) gives
    /// the [`Endpoint`](super::Endpoint), its policy in force (201), or 409 where the name is taken.
    pub const ENDPOINTS: &str = "/v1/endpoints";
    /// GET [`Endpoint`](super::Endpoint) or DELETE (204). The segment is a name,
    /// `namespace/name`, or a number; 404 where there is none, 409 where several are meant.
    pub const ENDPOINT: &str = "/v1/endpoints/{name}";
    /// GET a list of [`Identity`](super::Identity).
    pub const IDENTITIES: &str = "/v1/identities";
    /// GET [`Identity`](super::Identity) by number.
    pub const IDENTITY: &str = "/v1/identities/{id}";
    /// GET a list of [`PolicyDocument`](super::PolicyDocument), POST [`ApplyRequest`](super::ApplyRequest)
    /// gives [`ApplyResult`](super::ApplyResult) (all documents or none; 422 with the reasons),
    /// DELETE gives [`ApplyResult`](super::ApplyResult). GET and DELETE take
    /// [`PolicySelector`](super::PolicySelector) as query string; DELETE matching nothing is 404.
    pub const POLICIES: &str = "/v1/policies";
    /// POST [`ExplainRequest`](super::ExplainRequest) gives [`Explanation`](super::Explanation).
    pub const EXPLAIN: &str = "/v1/explain";
    /// GET a list of [`IpcacheEntry`](super::IpcacheEntry).
    pub const IPCACHE: &str = "/v1/ipcache";
    /// GET a list of [`MapInfo`](super::MapInfo).
    pub const MAPS: &str = "/v1/maps";
    /// GET [`MapDump`](super::MapDump).
    pub const MAP: &str = "/v1/maps/{name}";
    /// POST [`FlowQuery`](super::FlowQuery) gives lines of [`FlowLine`](super::FlowLine)
    /// (`application/x-ndjson`), oldest first; with `follow` the answer does not end.
    pub const FLOWS: &str = "/v1/flows";
}

/// Why a request was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One sentence.
    pub error: String,
    /// One line for each separate reason (each refused document, …).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.details.iter().try_for_each(|detail| write!(f, "\n  {detail}"))
    }
}

/// A workload on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 1..16384, the index into the kernel maps.
    pub id: u32,
    pub name: String,
    pub namespace: String,
    /// `source:key=value`, sorted, with the namespace's label.
    pub labels: Vec<String>,
    pub identity: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ipv4: Option<Ipv4Addr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ipv6: Option<Ipv6Addr>,
    /// The workload's own MAC address, `aa:bb:cc:dd:ee:ff`.
    pub mac: String,
    /// Host-side device.
    pub veth: String,
    pub ifindex: u32,
    /// Path of the workload's network namespace.
    pub netns: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_ports: BTreeMap<String, PortProtocol>,
    pub policy: EndpointPolicy,
    pub state: EndpointState,
}

/// Which directions the policies in force close by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointPolicy {
    /// Names of the documents that select the endpoint.
    pub documents: Vec<String>,
    pub ingress: Enforcement,
    pub egress: Enforcement,
    /// The revision at which the endpoint's policy last changed.
    pub revision: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// No policy selects the endpoint in this direction: everything passes.
    #[default]
    Open,
    /// Only what a rule allows passes.
    Enforced,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
pub enum EndpointState {
    /// Its policy is in force.
    Ready,
    /// Something is wrong with it (its namespace or device is gone, …): its packets are dropped.
    Failed(String),
}

/// Makes an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointAdd {
    pub name: String,
    /// A name below `/run/netns` (as `ip netns` makes them) or an absolute path. The client makes
    /// relative paths absolute.
    pub netns: String,
    pub namespace: String,
    /// `key=value` or `source:key=value`; without a source it is `k8s`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// At most one a family; a family that is not given gets an address of the node's pool.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
    /// A host-side veth that exists already and is adopted; else a pair is made.
    #[serde(default)]
    pub veth: Option<String>,
    #[serde(default)]
    pub named_ports: BTreeMap<String, PortProtocol>,
}

/// `80/TCP`, the form of a named port's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PortProtocol {
    pub port: u16,
    pub protocol: TransportProtocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportProtocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not PORT/PROTOCOL, such as 80/TCP (port 1 to 65535; TCP, UDP or SCTP)")]
pub struct PortProtocolError(String);

impl FromStr for PortProtocol {
    type Err = PortProtocolError;

    /// The protocol may be left out (TCP) and be of either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || PortProtocolError(text.to_owned());
        let (port, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refused)?;
        let protocol = match protocol.to_ascii_uppercase().as_str() {
            "TCP" => TransportProtocol::Tcp,
            "UDP" => TransportProtocol::Udp,
            "SCTP" => TransportProtocol::Sctp,
            _ => return Err(refused()),
        };
        Ok(Self { port, protocol })
    }
}

impl TryFrom<String> for PortProtocol {
    type Error = PortProtocolError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PortProtocol> for String {
    fn from(port: PortProtocol) -> Self {
        port.to_string()
    }
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            TransportProtocol::Tcp => "TCP",
            TransportProtocol::Udp => "UDP",
            TransportProtocol::Sctp => "SCTP",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}

/// A security identity: a number for a set of labels (and named ports).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub id: u32,
    pub kind: IdentityKind,
    /// `source:key=value`, sorted.
    pub labels: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_ports: BTreeMap<String, PortProtocol>,
    /// Names (`namespace/name`) of this node's endpoints that have it.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityKind {
    /// A fixed number such as `world`.
    Reserved,
    /// Labels of workloads.
    Workload,
    /// A prefix named by a policy; known on this node only.
    Cidr,
}

/// Documents to put in force, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    pub sources: Vec<PolicySource>,
}

/// One text of one or more YAML or JSON documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// What to call the text in errors: a file's name, `standard input`.
    pub name: String,
    pub text: String,
}

/// What a change of policy did. It is in force, in the kernel and in the proxy, when this is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyResult {
    pub revision: u32,
    pub documents: Vec<AppliedDocument>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedDocument {
    /// `CiliumNetworkPolicy default/web`.
    pub document: String,
    pub change: Change,
    /// How many of this node's endpoints it selects.
    pub endpoints: usize,
    /// `path: text` of things that are legal and probably not meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    Created,
    Updated,
    Unchanged,
    Deleted,
}

/// Which documents are meant; what is not given matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySelector {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A document in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDocument {
    pub kind: String,
    /// Empty for clusterwide documents.
    pub namespace: String,
    pub name: String,
    /// Where it came from: a watched file's path, or `api`.
    pub source: String,
    /// Names of this node's endpoints that it selects.
    pub endpoints: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The document as it was given, YAML or JSON.
    pub text: String,
}

/// A prefix and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpcacheEntry {
    pub prefix: ipnet::IpNet,
    pub identity: u32,
    pub labels: Vec<String>,
    /// The endpoint of this node that owns the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The node behind which the address lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<IpAddr>,
}

/// A kernel map and how full it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapInfo {
    pub name: String,
    /// `hash`, `lru_hash`, `lpm_trie`, `array`, `percpu_array`, `sockmap`, `ringbuf`.
    pub kind: String,
    /// `None` where counting makes no sense (arrays, ring buffer).
    pub entries: Option<u64>,
    pub max_entries: u64,
}

/// A map's entries, decoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MapDump {
    pub name: String,
    /// Names of the fields, key's first, in the order to show them.
    pub columns: Vec<String>,
    /// One flat object an entry: field to string or number.
    pub entries: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// Which flow records are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// So many of the newest kept records that match; `None`: all that are kept.
    #[serde(default)]
    pub last: Option<usize>,
    /// Go on with new ones.
    #[serde(default)]
    pub follow: bool,
    #[serde(default)]
    pub filter: FlowFilter,
}

/// One line of the answer to a [`FlowQuery`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FlowLine {
    /// So many records are missing here.
    Lost {
        lost: u64,
        at: LostAt,
    },
    Flow(std::sync::Arc<FlowRecord>),
}

/// Where records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LostAt {
    /// The kernel's ring buffer was full.
    Kernel,
    /// The proxy's buffer was full while no agent took its records.
    Proxy,
    /// This reader was too slow.
    Reader,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_one_spelling() {
        for (text, shown) in
            [("80/TCP", "80/TCP"), ("53/udp", "53/UDP"), ("9", "9/TCP"), ("7/Sctp", "7/SCTP")]
        {
            assert_eq!(text.parse::<PortProtocol>().unwrap().to_string(), shown);
        }
        for text in ["", "0", "65536/TCP", "80/ICMP", "http", "80/", "-1/TCP"] {
            assert_eq!(text.parse::<PortProtocol>(), Err(PortProtocolError(text.to_owned())));
        }
    }

    #[test]
    fn requests_with_unknown_fields_are_refused() {
        let add = r#"{"name": "a", "netns": "a", "namespace": "d", "lables": ["a=b"]}"#;
        assert!(serde_json::from_str::<EndpointAdd>(add).unwrap_err().to_string().contains("lables"));
        serde_json::from_str::<FlowQuery>(r#"{"folow": true}"#).unwrap_err();
        assert_eq!(serde_json::from_str::<FlowQuery>("{}").unwrap(), FlowQuery::default());
    }

    #[test]
    fn states_carry_their_reason() {
        let failed = EndpointState::Failed("gone".to_owned());
        let json = serde_json::to_string(&failed).unwrap();
        assert_eq!(json, r#"{"state":"failed","reason":"gone"}"#);
        assert_eq!(serde_json::from_str::<EndpointState>(&json).unwrap(), failed);
        assert_eq!(serde_json::to_string(&EndpointState::Ready).unwrap(), r#"{"state":"ready"}"#);
    }
}
