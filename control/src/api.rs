//! The JSON types of the agent's API, version 1, shared by the server, the command line and
//! `--output json`: what a script reads from the one it can send to the other.
//!
//! Every answer outside 2xx has an [`ApiError`] as its body. Unknown fields in requests are
//! refused, so that a misspelt field never means "all".

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

pub mod endpoint;
pub mod explain;
pub mod policy;
pub mod status;

pub use crate::flows::{filter::FlowFilter, record::FlowRecord};
pub use endpoint::{
    Endpoint, EndpointAdd, EndpointPolicy, EndpointState, Enforcement, PortProtocol, PortProtocolError,
    TransportProtocol,
};
pub use explain::{DirectionExplanation, ExplainRequest, Explanation, HttpRequest, OtherRule};
pub use policy::{
    AppliedDocument, ApplyRequest, ApplyResult, Change, PolicyDocument, PolicySelector, PolicySource,
};
pub use status::{
    AgentStatus, DrainingProxy, Feature, FlowsStatus, NodeStatus, PolicyFile, PolicyStatus, Program,
    ProxyHealth, ProxyReplaced, Status,
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
    /// POST (no body) gives [`ProxyReplaced`](super::ProxyReplaced) once a new proxy serves; 409 where
    /// the old one was kept.
    pub const PROXY_REPLACE: &str = "/v1/proxy/replace";
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
    fn requests_with_unknown_fields_are_refused() {
        let add = r#"{"name": "a", "netns": "a", "namespace": "d", "lables": ["a=b"]}"#;
        assert!(serde_json::from_str::<EndpointAdd>(add).unwrap_err().to_string().contains("lables"));
        serde_json::from_str::<FlowQuery>(r#"{"folow": true}"#).unwrap_err();
        assert_eq!(serde_json::from_str::<FlowQuery>("{}").unwrap(), FlowQuery::default());
    }
}
