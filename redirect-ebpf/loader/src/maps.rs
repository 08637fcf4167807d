//! All maps of a node, by their pins.

use std::{
    collections::BTreeSet,
    mem::size_of,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use tektin_abi::maps::{self as abi, *};

use crate::{
    error::{LoadError, MapError},
    listeners::Listeners,
    sys,
    table::{self, ArrayMap, Iteration, Layout, Table},
};

/// Handles to the maps; may be opened as often as needed, also without loading programs.
#[derive(Debug)]
pub struct Maps {
    pub ipcache: Table<IpcacheKey, IpcacheValue>,
    /// Key: ifindex of the host-side veth.
    pub endpoints: Table<u32, EndpointValue>,
    /// Index: endpoint id.
    pub devices: ArrayMap<DeviceValue>,
    /// Index: endpoint id.
    pub policy_root: ArrayMap<PolicyRoot>,
    pub peer_class: Table<PeerClassKey, PeerClass>,
    pub policy: Table<PolicyKey, PolicyValue>,
    pub ct: Table<FlowKey, CtValue>,
    pub fragments: Table<FragmentKey, FragmentValue>,
    pub steered: Table<FlowKey, SteeredValue>,
    pub verdicts: Table<VerdictKey, VerdictValue>,
    pub listeners: Listeners,
    pub config: ConfigMap,
    pub metrics: Metrics,
}

impl Maps {
    /// Opens the maps pinned below `pin_dir`.
    pub fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        use Iteration::{Batch, NextKey};
        Ok(Self {
            ipcache: Table::open(pin_dir, abi::IPCACHE, NextKey)?,
            endpoints: Table::open(pin_dir, abi::ENDPOINTS, Batch)?,
            devices: ArrayMap::open(pin_dir, abi::DEVICES)?,
            policy_root: ArrayMap::open(pin_dir, abi::POLICY_ROOT)?,
            peer_class: Table::open(pin_dir, abi::PEER_CLASS, Batch)?,
            policy: Table::open(pin_dir, abi::POLICY, NextKey)?,
            ct: Table::open(pin_dir, abi::CT, Batch)?,
            fragments: Table::open(pin_dir, abi::FRAGMENTS, Batch)?,
            steered: Table::open(pin_dir, abi::STEERED, Batch)?,
            verdicts: Table::open(pin_dir, abi::VERDICTS, Batch)?,
            listeners: Listeners::open(pin_dir)?,
            config: ConfigMap(ArrayMap::open(pin_dir, abi::CONFIG)?),
            metrics: Metrics::open(pin_dir)?,
        })
    }

    /// How full each table is. Counts by listing: not for a hot path.
    pub fn fill(&self) -> Result<Vec<MapFill>, MapError> {
        fn of<K: aya::Pod, V: aya::Pod>(table: &Table<K, V>) -> Result<MapFill, MapError> {
            Ok(MapFill { name: table.name(), entries: table.count()?, max: table.max_entries() })
        }
        Ok(vec![
            of(&self.ipcache)?,
            of(&self.endpoints)?,
            of(&self.peer_class)?,
            of(&self.policy)?,
            of(&self.ct)?,
            of(&self.fragments)?,
            of(&self.steered)?,
            of(&self.verdicts)?,
        ])
    }

    /// Deletes what belongs to policies that are not in force any more; returns how many entries.
    pub fn clear_policies(&self, ids: &BTreeSet<u32>) -> Result<usize, MapError> {
        let mut cleared = 0;
        for (key, _) in self.policy.entries()? {
            if ids.contains(&u32::from_be_bytes(key.policy_be)) {
                cleared += usize::from(self.policy.remove(&key)?);
            }
        }
        for (key, _) in self.peer_class.entries()? {
            if ids.contains(&key.policy) {
                cleared += usize::from(self.peer_class.remove(&key)?);
            }
        }
        Ok(cleared)
    }
}

/// How full one table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFill {
    pub name: &'static str,
    pub entries: u32,
    pub max: u32,
}

/// The one value that every program reads. Written by one process, the agent.
#[derive(Debug)]
pub struct ConfigMap(ArrayMap<Config>);

impl ConfigMap {
    pub fn read(&self) -> Result<Config, MapError> {
        self.0.get(0)
    }

    /// From here on, established flows are judged again.
    pub fn set_revision(&self, revision: u32) -> Result<(), MapError> {
        self.0.set(0, &Config { revision, ..self.read()? })
    }

    /// How many listener slots of each family are in use.
    pub fn set_listeners(&self, listeners: u32) -> Result<(), MapError> {
        self.0.set(0, &Config { listeners, ..self.read()? })
    }

    /// The network namespace whose processes are the host's (SO_NETNS_COOKIE).
    pub fn set_netns_cookie(&self, netns_cookie: u64) -> Result<(), MapError> {
        self.0.set(0, &Config { netns_cookie, ..self.read()? })
    }
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    fd: OwnedFd,
    cpus: usize,
}

impl Metrics {
    fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        let layout = Layout { key: 4, value: size_of::<u64>() };
        let (fd, _) = table::open(pin_dir, abi::METRICS, &layout)?;
        let cpus = aya::util::nr_cpus()
            .map_err(|(file, source)| LoadError::OpenMap { path: file.into(), source })?;
        Ok(Self { fd, cpus })
    }

    /// All counters, summed over the CPUs: [`METRICS_MAX`] of them, indexed by `drop` and `metric` codes.
    pub fn read(&self) -> Result<Vec<u64>, MapError> {
        (0..METRICS_MAX).map(|index| self.one(index)).collect()
    }

    fn one(&self, index: u32) -> Result<u64, MapError> {
        let mut values = vec![0u64; self.cpus];
        // SAFETY: the key is 4 octets; `values` has 8 for each possible CPU.
        let found = unsafe {
            sys::map_lookup(self.fd.as_fd(), (&raw const index).cast(), values.as_mut_ptr().cast())
        };
        found.map_err(|source| MapError::Access { map: abi::METRICS, source })?;
        Ok(values.iter().fold(0, |sum, value| sum.wrapping_add(*value)))
    }

    /// The name of a `drop` code, as logs and metrics show it.
    #[must_use]
    pub fn drop_name(reason: u8) -> &'static str {
        match reason {
            abi::drop::NONE => "none",
            abi::drop::POLICY_DENY => "policy-deny",
            abi::drop::DEFAULT_DENY => "default-deny",
            abi::drop::NO_PROXY => "no-proxy",
            abi::drop::PROXIED_NO_SOCKET => "proxied-no-socket",
            abi::drop::NOT_FROM_PROXY => "not-from-proxy",
            abi::drop::NEEDS_PROXY_MIDSTREAM => "needs-proxy-midstream",
            abi::drop::SPOOFED_SOURCE_IP => "spoofed-source-ip",
            abi::drop::SPOOFED_SOURCE_MAC => "spoofed-source-mac",
            abi::drop::SPOOFED_ARP => "spoofed-arp",
            abi::drop::SPOOFED_ND => "spoofed-nd",
            abi::drop::INVALID_PACKET => "invalid-packet",
            abi::drop::INVALID_DESTINATION => "invalid-destination",
            abi::drop::UNSUPPORTED_L3 => "unsupported-l3",
            abi::drop::UNSUPPORTED_L4 => "unsupported-l4",
            abi::drop::FRAGMENT_WITHOUT_FIRST => "fragment-without-first",
            abi::drop::FRAGMENT_OF_STEERED => "fragment-of-steered",
            abi::drop::UNKNOWN_ENDPOINT => "unknown-endpoint",
            abi::drop::VERDICT_HOLD => "verdict-hold",
            abi::drop::MAP_FULL => "map-full",
            abi::drop::ASSIGN_FAILED => "assign-failed",
            abi::drop::EXTENSION_HEADERS => "extension-headers",
            _ => "unknown",
        }
    }
}

/// The three maps that the proxy process needs, and nothing that could touch policy.
#[derive(Debug)]
pub struct ProxyMaps {
    pub steered: Table<FlowKey, SteeredValue>,
    pub verdicts: Table<VerdictKey, VerdictValue>,
    pub listeners: Listeners,
}

impl ProxyMaps {
    /// Opens them by their pins; needs CAP_BPF only for this.
    pub fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        Ok(Self {
            steered: Table::open(pin_dir, abi::STEERED, Iteration::Batch)?,
            verdicts: Table::open(pin_dir, abi::VERDICTS, Iteration::Batch)?,
            listeners: Listeners::open(pin_dir)?,
        })
    }
}

/// [`ProxyMaps::open`].
pub fn open_proxy_maps(pin_dir: &Path) -> Result<ProxyMaps, LoadError> {
    ProxyMaps::open(pin_dir)
}
