//! Endpoints, and ports with their protocol.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

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
    fn states_carry_their_reason() {
        let failed = EndpointState::Failed("gone".to_owned());
        let json = serde_json::to_string(&failed).unwrap();
        assert_eq!(json, r#"{"state":"failed","reason":"gone"}"#);
        assert_eq!(serde_json::from_str::<EndpointState>(&json).unwrap(), failed);
        assert_eq!(serde_json::to_string(&EndpointState::Ready).unwrap(), r#"{"state":"ready"}"#);
    }
}
