//! The flow record, in the form that `observe --output json` prints.

use std::{fmt, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod header;

pub use header::{Mac, TcpFlags};

/// One verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Of the verdict.
    pub time: Timestamp,
    pub node: Arc<str>,
    pub layer: Layer,
    pub verdict: Verdict,
    /// Why, in words, where the verdict is not a rule's, and with a drop always; else empty.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub reason: Arc<str>,
    pub source: End,
    pub destination: End,
    pub l4: L4,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Of a gRPC call, beside `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<Grpc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// Where the kernel judged; requests have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The answer of the source endpoint's policy.
    pub egress: Decision,
    /// The answer of the destination endpoint's policy.
    pub ingress: Decision,
    /// The deciding rule in one line: the denying one, or the ones that let it pass.
    pub rule: Arc<str>,
    /// Policy revision, 0 where the source does not say.
    #[serde(default)]
    pub revision: u32,
    /// Octets of the packet on the wire; 0 for requests.
    #[serde(default)]
    pub length: u32,
}

/// Whether a packet or a request was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// A packet, by the kernel.
    L4,
    /// A request or a connection, by the proxy.
    L7,
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A packet or request went on to its destination.
    Forwarded,
    /// A packet was dropped in the kernel.
    Dropped,
    /// A connection was handed to the proxy.
    Redirected,
    /// A request was denied by policy.
    Denied,
    /// A request was refused as malformed or over a limit.
    Refused,
    /// A request was allowed but could not be served.
    Error,
}

impl Verdict {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Forwarded => "forwarded",
            Verdict::Dropped => "dropped",
            Verdict::Redirected => "redirected",
            Verdict::Denied => "denied",
            Verdict::Refused => "refused",
            Verdict::Error => "error",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One end of a flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub identity: u32,
    /// `source:key=value`, sorted.
    pub labels: Arc<[Arc<str>]>,
    /// The endpoint's number and names where the end lives on this node; else 0 and empty.
    #[serde(default)]
    pub endpoint: u32,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// 0 for protocols without ports.
    #[serde(default)]
    pub port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// The transport header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct L4 {
    pub protocol: Protocol,
    #[serde(default, skip_serializing_if = "TcpFlags::is_empty")]
    pub flags: TcpFlags,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    #[serde(rename = "type")]
    pub kind: u8,
    pub code: u8,
}

/// Protocol by name, or by IANA number where it has none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    Icmpv6,
    #[serde(untagged)]
    Other(u8),
}

impl Protocol {
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        use tektin_abi::maps::proto;
        match number {
            proto::TCP => Protocol::Tcp,
            proto::UDP => Protocol::Udp,
            proto::SCTP => Protocol::Sctp,
            proto::ICMP => Protocol::Icmp,
            proto::ICMPV6 => Protocol::Icmpv6,
            other => Protocol::Other(other),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Tcp => f.pad("TCP"),
            Protocol::Udp => f.pad("UDP"),
            Protocol::Sctp => f.pad("SCTP"),
            Protocol::Icmp => f.pad("ICMP"),
            Protocol::Icmpv6 => f.pad("ICMPv6"),
            Protocol::Other(number) => f.pad(&number.to_string()),
        }
    }
}

/// An HTTP request as it was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub host: String,
    /// `HTTP/1.1`, `HTTP/2`, …
    pub protocol: String,
    /// Sent to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From the end of the request head to the end of the response head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<u64>,
}

/// A gRPC call as it was judged, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grpc {
    /// With its package; empty where the path names no call.
    pub service: String,
    pub method: String,
    /// gRPC's status code; `None`: the call ended without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// The code's name; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_name: String,
    /// Whole messages each way.
    #[serde(default)]
    pub messages_from_client: u64,
    #[serde(default)]
    pub messages_from_server: u64,
    /// From the end of the request head to the end of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<u64>,
}

/// The name that gRPC gives a status code; empty: none.
#[must_use]
pub fn grpc_status_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code as usize).copied().unwrap_or_default()
}

/// A Kafka request as it was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kafka {
    /// The protocol's number of the request, and its name; the name is empty where it is unknown.
    pub api_key: i32,
    pub api: String,
    pub api_version: i32,
    pub correlation_id: i32,
    pub client_id: String,
    /// The first ones that the request names ...
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// ... of so many.
    #[serde(default)]
    pub topics_in_all: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transactional_id: String,
    /// The first error in the answer to the client; 0: none.
    #[serde(default)]
    pub error_code: i32,
    /// From the end of the request to its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    FromWorkload,
    ToWorkload,
    FromOutside,
    SkLookup,
}

/// What one end's policy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub action: Action,
    /// The deciding rule (`CiliumNetworkPolicy default/web spec.ingress[0]`), `default deny (…)`,
    /// or `no policy`; empty where the end is no endpoint of this node.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub rule: Arc<str>,
    /// The rule's number in kernel maps; 0: none.
    #[serde(default)]
    pub rule_id: u32,
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Allow,
    Deny,
    /// Requests are judged one by one.
    Redirect,
    /// That end is no policed endpoint, or no policy selects it.
    None,
}

impl Action {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Deny => "deny",
            Action::Redirect => "redirect",
            Action::None => "none",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
