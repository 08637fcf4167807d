//! Identities: what policies select. A number, a label set, and for some a prefix or DNS names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    labels::{LabelKey, Labels, Source},
    model::{FqdnSelector, Protocol},
};

mod table;
pub use table::IdentityTable;

/// The local host.
pub const HOST: u32 = 1;
/// All of IPv4 that no longer prefix covers.
pub const WORLD_IPV4: u32 = 9;
/// All of IPv6 that no longer prefix covers.
pub const WORLD_IPV6: u32 = 10;

/// Numbers, names and `reserved:` labels of the identities with a fixed meaning (the numbers are Cilium's).
pub const RESERVED: [(u32, &str, &[&str]); 10] = [
    (HOST, "host", &["host"]),
    (2, "world", &["world"]),
    (3, "unmanaged", &["unmanaged"]),
    (4, "health", &["health"]),
    (5, "init", &["init"]),
    (6, "remote-node", &["remote-node"]),
    (7, "kube-apiserver", &["kube-apiserver", "remote-node"]),
    (8, "ingress", &["ingress"]),
    (WORLD_IPV4, "world-ipv4", &["world-ipv4"]),
    (WORLD_IPV6, "world-ipv6", &["world-ipv6"]),
];

/// Port names of a workload, in lower case: each stands for one port of one protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPorts(pub BTreeMap<String, (Protocol, u16)>);

impl NamedPorts {
    /// The number behind `name`, where the name is one of this protocol.
    #[must_use]
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.0.get(name).filter(|(p, _)| *p == protocol).map(|(_, port)| *port)
    }
}

/// One identity as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: u32,
    pub labels: Arc<Labels>,
    pub named_ports: Arc<NamedPorts>,
    /// Of the world's identities: the addresses that they stand for. `None` for all others, which
    /// no CIDR rule matches.
    pub prefix: Option<IpNet>,
    /// The selectors of toFQDNs rules whose names DNS has shown for this prefix.
    pub fqdns: BTreeSet<FqdnSelector>,
}

impl Identity {
    /// A workload's identity.
    #[must_use]
    pub fn workload(id: u32, labels: Labels, named_ports: NamedPorts) -> Self {
        Self {
            id,
            labels: Arc::new(labels),
            named_ports: Arc::new(named_ports),
            prefix: None,
            fqdns: BTreeSet::new(),
        }
    }

    /// The identity with a fixed number; `None` for a number that has no fixed meaning.
    #[must_use]
    pub fn reserved(id: u32) -> Option<Self> {
        let (_, _, names) = RESERVED.iter().find(|(number, _, _)| *number == id)?;
        let mut identity = Self::workload(id, reserved_labels(names), NamedPorts::default());
        identity.prefix = match id {
            WORLD_IPV4 => Some(everything(true)),
            WORLD_IPV6 => Some(everything(false)),
            _ => None,
        };
        Some(identity)
    }

    /// The identity of a prefix outside the cluster. `fqdns` are the toFQDNs selectors that match it.
    #[must_use]
    pub fn for_prefix(id: u32, prefix: IpNet, fqdns: BTreeSet<FqdnSelector>) -> Self {
        let prefix = prefix.trunc();
        let family = if prefix.addr().is_ipv4() { "world-ipv4" } else { "world-ipv6" };
        let mut labels = reserved_labels(&[family]);
        if prefix.prefix_len() > 0 {
            labels.0.insert(LabelKey { source: Source::Cidr, key: prefix.to_string() }, String::new());
        }
        for selector in &fqdns {
            let (FqdnSelector::Name(key) | FqdnSelector::Pattern(key)) = selector;
            labels.0.insert(LabelKey { source: Source::Fqdn, key: key.clone() }, String::new());
        }
        let mut identity = Self::workload(id, labels, NamedPorts::default());
        identity.prefix = Some(prefix);
        identity.fqdns = fqdns;
        identity
    }

    #[must_use]
    pub fn has_reserved_label(&self, name: &str) -> bool {
        self.labels.0.iter().any(|(k, _)| k.source == Source::Reserved && k.key == name)
    }
}

fn reserved_labels(names: &[&str]) -> Labels {
    let key = |name: &&str| LabelKey { source: Source::Reserved, key: (*name).to_owned() };
    Labels(names.iter().map(|name| (key(name), String::new())).collect())
}

/// `0.0.0.0/0` or `::/0`.
fn everything(ipv4: bool) -> IpNet {
    if ipv4 { IpNet::V4(ipnet::Ipv4Net::default()) } else { IpNet::V6(ipnet::Ipv6Net::default()) }
}
