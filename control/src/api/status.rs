//! The answer of `GET /v1/status`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::MapInfo;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub agent: AgentStatus,
    pub node: NodeStatus,
    /// What the kernel was probed for, with what is used instead where it lacks something.
    pub features: Vec<Feature>,
    pub programs: Vec<Program>,
    pub maps: Vec<MapInfo>,
    pub proxy: ProxyHealth,
    pub policy: PolicyStatus,
    pub endpoints: usize,
    pub identities: usize,
    pub flows: FlowsStatus,
    /// Packets: `forwarded`, `steered`, …, and `drop_…` for each reason.
    pub counters: BTreeMap<String, u64>,
    /// What needs a person; empty: all is well.
    pub problems: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    pub version: String,
    pub pid: u32,
    pub started: jiff::Timestamp,
    pub state_dir: String,
    pub run_dir: String,
    pub pin_dir: String,
    pub policy_dir: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// The node's own addresses towards workloads.
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub pool4: Option<ipnet::Ipv4Net>,
    pub pool6: Option<ipnet::Ipv6Net>,
    /// Addresses of each pool in use.
    pub pool4_used: u64,
    pub pool6_used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    pub name: String,
    pub present: bool,
    /// What is done with it or, where it is missing, without it.
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// Devices, or the hook's name where there is no device.
    pub attached: Vec<String>,
}

/// State of the proxy that serves now. Counts are sums over it and those that drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyHealth {
    /// It holds the link to the agent.
    pub connected: bool,
    pub pid: u32,
    pub version: String,
    pub threads: u32,
    /// Policy revision that every thread of it judges by.
    pub revision: u32,
    /// Proxies on the link; more than one while a new one takes over.
    pub links: usize,
    /// Those that finish what is open.
    #[serde(default)]
    pub draining: Vec<DrainingProxy>,
    /// How often the agent had to start it again since the agent started.
    pub restarts: u64,
    pub connections_open: u64,
    pub connections_total: u64,
    pub requests_allowed: u64,
    pub requests_denied: u64,
    pub requests_refused: u64,
    pub upstream_failures: u64,
    pub rss_bytes: u64,
    /// Records that the buffers had no room for.
    pub lost_records: u64,
    /// Records that wait in the buffers.
    #[serde(default)]
    pub waiting_records: u64,
}

/// A proxy that another one has replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainingProxy {
    pub pid: u32,
    pub version: String,
    pub connections_open: u64,
}

/// Two processes: the one that serves, and the one that it has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyReplaced {
    pub old: u32,
    pub new: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    pub revision: u32,
    /// Documents in force.
    pub documents: usize,
    /// The watched files; one that is refused leaves its last good content in force.
    pub files: Vec<PolicyFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFile {
    pub path: String,
    pub documents: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsStatus {
    /// Records since the agent started.
    pub seen: u64,
    /// Records of the agents before this one that it took over.
    #[serde(default)]
    pub restored: u64,
    /// Records kept for `observe --last`.
    pub kept: usize,
    /// Events that found the kernel's buffer full, also while no agent read it. As the next one, it
    /// goes on counting where an agent before this one ended.
    pub lost_kernel: u64,
    /// Records that the proxies' buffers had no room for, and those that an agent took with it.
    pub lost_proxy: u64,
    /// Sum over readers that were too slow.
    pub lost_readers: u64,
}
