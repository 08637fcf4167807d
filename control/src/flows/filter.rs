//! Which flow records a reader wants.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{Layer, Verdict};

/// Fields are joined by AND, the values of one field by OR; an empty field asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowFilter {
    pub verdict: Vec<Verdict>,
    pub layer: Vec<Layer>,
    /// `name` or `namespace/name` of either end, of the source, of the destination.
    pub endpoint: Vec<String>,
    pub from_endpoint: Vec<String>,
    pub to_endpoint: Vec<String>,
    /// `[source:]key[=value]` of either end, of the source, of the destination.
    pub label: Vec<String>,
    pub from_label: Vec<String>,
    pub to_label: Vec<String>,
    /// Addresses or prefixes of either end, of the source, of the destination.
    pub ip: Vec<IpNet>,
    pub from_ip: Vec<IpNet>,
    pub to_ip: Vec<IpNet>,
    /// Number of either end, of the source, of the destination.
    pub identity: Vec<u32>,
    /// Destination port.
    pub port: Vec<u16>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number; `http` for HTTP requests.
    pub protocol: Vec<String>,
    pub method: Vec<String>,
    /// Regular expressions that the whole path (with query) must match.
    pub path: Vec<String>,
    pub host: Vec<String>,
    /// `404` or `4xx`.
    pub status: Vec<String>,
    /// Records at or after, before.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A prefix, or an address as its own prefix.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|net| net.trunc())
        .map_err(|_| format!("{text:?} is neither an address nor a prefix"))
}
