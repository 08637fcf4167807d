//! Who is who in a test file: endpoints, entities, addresses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    TestFileError,
    format::{self, TestFile},
    policies::Loaded,
};
use crate::{
    identity::{HOST, Identity, IdentityTable, NamedPorts, RESERVED, WORLD_IPV4, WORLD_IPV6},
    labels::{LabelKey, Labels},
    model::FqdnSelector,
};

/// First number for label sets of endpoints, and for prefixes.
const FIRST_ENDPOINT: u32 = 256;
const FIRST_PREFIX: u32 = 1 << 24;

/// The label that carries a workload's service account.
const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";

pub(super) struct World {
    pub(super) identities: IdentityTable,
    endpoints: BTreeMap<String, u32>,
    by_address: HashMap<IpAddr, u32>,
    by_prefix: BTreeMap<IpNet, u32>,
    polices_host: bool,
}

/// One end of a flow.
#[derive(Clone)]
pub(super) struct End {
    pub(super) identity: Arc<Identity>,
    /// Policies of this end are asked.
    pub(super) policed: bool,
}

impl World {
    pub(super) fn new(file: &TestFile, loaded: &Loaded) -> Result<Self, TestFileError> {
        let mut world = Self {
            identities: IdentityTable::with_reserved(),
            endpoints: BTreeMap::new(),
            by_address: HashMap::new(),
            by_prefix: BTreeMap::new(),
            polices_host: loaded.polices_host,
        };
        world.add_endpoints(file)?;
        world.add_prefixes(file, loaded);
        if !file.texts.iter().chain(&loaded.texts).any(|text| is_ipv6(text)) {
            world.name_the_only_world();
        }
        Ok(world)
    }

    fn add_endpoints(&mut self, file: &TestFile) -> Result<(), TestFileError> {
        let mut known: HashMap<(Labels, NamedPorts), u32> = HashMap::new();
        let no_labels = BTreeMap::new();
        for (index, endpoint) in file.endpoints.iter().enumerate() {
            let mut ports = NamedPorts::default();
            for (name, value) in &endpoint.named_ports {
                let place = format!("endpoints[{index}].namedPorts.{name}");
                let (protocol, port, _) = format::port(value, &place)?;
                ports.0.insert(name.to_ascii_lowercase(), (protocol, port));
            }
            let namespace_labels = file.namespaces.get(&endpoint.namespace).unwrap_or(&no_labels);
            let mut labels = Labels::workload(&endpoint.namespace, &endpoint.labels, namespace_labels);
            if let Some(account) = &endpoint.service_account {
                labels.insert(LabelKey::k8s(SERVICE_ACCOUNT), account);
            }
            let next = FIRST_ENDPOINT + known.len() as u32;
            let id = *known.entry((labels.clone(), ports.clone())).or_insert(next);
            self.identities.insert(Identity::workload(id, labels, ports));
            self.endpoints.insert(endpoint.name.clone(), id);
            if let Some(ip) = endpoint.ip {
                self.by_address.insert(ip, id);
            }
        }
        Ok(())
    }

    /// An identity for each prefix that a policy names and each address that DNS has shown.
    fn add_prefixes(&mut self, file: &TestFile, loaded: &Loaded) {
        let mut prefixes: BTreeMap<IpNet, BTreeSet<FqdnSelector>> =
            loaded.set.prefixes().into_iter().map(|prefix| (prefix, BTreeSet::new())).collect();
        let selectors = loaded.set.fqdn_selectors();
        for (name, addresses) in &file.dns {
            let name = name.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name);
            let matching: Vec<&FqdnSelector> = selectors.iter().filter(|s| s.matches(name)).collect();
            if !matching.is_empty() {
                for address in addresses {
                    prefixes
                        .entry(IpNet::from(*address))
                        .or_default()
                        .extend(matching.iter().copied().cloned());
                }
            }
        }
        for (number, (prefix, fqdns)) in prefixes.into_iter().enumerate() {
            if prefix.prefix_len() > 0 {
                let identity = Identity::for_prefix(FIRST_PREFIX + number as u32, prefix, fqdns);
                self.by_prefix.insert(prefix, self.identities.insert(identity).id);
            }
        }
    }

    /// Without IPv6 there is one world, and `reserved:world` is its name.
    fn name_the_only_world(&mut self) {
        let world: Vec<Arc<Identity>> = self
            .identities
            .iter()
            .filter(|i| i.prefix.is_some_and(|p| p.addr().is_ipv4()))
            .cloned()
            .collect();
        for identity in world {
            let mut labels = (*identity.labels).clone();
            labels.insert(LabelKey::reserved("world"), "");
            self.identities.insert(Identity { labels: Arc::new(labels), ..(*identity).clone() });
        }
    }

    /// An endpoint's name, an entity, an address or a prefix.
    pub(super) fn end(&self, text: &str) -> Option<End> {
        if let Some(id) = self.endpoints.get(text) {
            return self.of(*id, true);
        }
        if text == "world" {
            return self.of(WORLD_IPV4, false);
        }
        if let Some((id, _, _)) = RESERVED.iter().find(|(_, name, _)| *name == text) {
            return self.of(*id, *id == HOST && self.polices_host);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return match self.by_address.get(&address) {
                Some(id) => self.of(*id, true),
                None => self.outside(IpNet::from(address)),
            };
        }
        self.outside(text.parse::<IpNet>().ok()?.trunc())
    }

    /// The identity of the longest known prefix around `net`.
    fn outside(&self, net: IpNet) -> Option<End> {
        let around = std::iter::successors(Some(net), IpNet::supernet);
        let known = around.into_iter().find_map(|net| self.by_prefix.get(&net).copied());
        self.of(known.unwrap_or(if net.addr().is_ipv4() { WORLD_IPV4 } else { WORLD_IPV6 }), false)
    }

    fn of(&self, id: u32, policed: bool) -> Option<End> {
        Some(End { identity: self.identities.identity(id)?.clone(), policed })
    }
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6())
        || text.parse::<IpNet>().is_ok_and(|net| net.addr().is_ipv6())
}
