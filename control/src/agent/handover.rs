//! Tells the kernel on which devices packets between two workloads of this node are handed over,
//! past the node's own stack.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tektin_abi::maps::{DeviceValue, ENDPOINTS_MAX};
use tektin_loader::{MapError, Maps, to_addr};

use super::{
    Agent,
    endpoints::{Endpoint, restore::device_of},
    netlink::Link,
    state::State,
};
use crate::config::LocalDelivery;

mod netfilter;

/// How often a packet filter is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// What is written in the kernel's table, by endpoint id.
pub struct Handover {
    maps: Arc<Maps>,
    written: BTreeMap<u32, DeviceValue>,
    /// `Some`: why nothing is handed over.
    kept_from: Option<String>,
}

impl Handover {
    /// Takes over the pinned table with the entries of an earlier run. They go at once where nothing
    /// shall be handed over.
    pub async fn take_over(
        maps: Arc<Maps>,
        chosen: LocalDelivery,
        supported: bool,
    ) -> Result<Self, MapError> {
        let mut written = BTreeMap::new();
        for endpoint in 1..ENDPOINTS_MAX {
            let value = maps.devices.get(endpoint)?;
            if value != DeviceValue::default() {
                written.insert(endpoint, value);
            }
        }
        let kept_from = match chosen {
            LocalDelivery::Stack => Some("switched off".to_owned()),
            _ if !supported => Some("redirect_peer needs Linux 5.10".to_owned()),
            LocalDelivery::Direct => None,
            LocalDelivery::Auto => netfilter::somebody_looks_on().await,
        };
        let mut handover = Self { maps, written, kept_from };
        if handover.kept_from.is_some() {
            handover.set(BTreeMap::new())?;
        }
        Ok(handover)
    }

    /// Why packets between workloads go through the node's stack; `None`: they do not.
    pub fn kept_from(&self) -> Option<&str> {
        self.kept_from.as_deref()
    }

    /// From here on, packets to the endpoint go through the node's stack.
    pub fn close(&mut self, endpoint: u32) -> Result<(), MapError> {
        if self.written.contains_key(&endpoint) {
            self.maps.devices.set(endpoint, &DeviceValue::default())?;
            self.written.remove(&endpoint);
        }
        Ok(())
    }

    fn set(&mut self, wanted: BTreeMap<u32, DeviceValue>) -> Result<(), MapError> {
        let gone: Vec<u32> = self.written.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        for endpoint in gone {
            self.close(endpoint)?;
        }
        for (endpoint, value) in wanted {
            if self.written.get(&endpoint) != Some(&value) {
                self.maps.devices.set(endpoint, &value)?;
                self.written.insert(endpoint, value);
            }
        }
        Ok(())
    }
}

impl State {
    /// Brings the kernel's table to the endpoints and devices that there are now.
    pub fn hand_over(&mut self, links: &[Link]) -> Result<(), MapError> {
        let mut wanted = BTreeMap::new();
        if self.handover.kept_from.is_none() {
            let working = self.endpoints.iter().filter(|endpoint| endpoint.is_ready());
            wanted.extend(
                working.filter_map(|endpoint| {
                    Some((endpoint.id, value(endpoint, device_of(endpoint, links)?)?))
                }),
            );
        }
        self.handover.set(wanted)
    }
}

/// Follows who filters packets on this node, where that decides.
pub async fn watch(agent: Arc<Agent>) {
    let supported = agent.state.lock().await.datapath.features().redirect_peer;
    if agent.config.local_delivery != LocalDelivery::Auto || !supported {
        return;
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let found = netfilter::somebody_looks_on().await;
        let mut state = agent.state.lock().await;
        if state.handover.kept_from == found {
            continue;
        }
        match &found {
            Some(reason) => tracing::info!(%reason, "packets between workloads go through the node's stack"),
            None => tracing::info!("packets between workloads are handed over, past the node's stack"),
        }
        state.handover.kept_from = found;
        if let Err(error) = state.look_at_devices(&agent.config.devices).await {
            tracing::error!(%error, "devices");
        }
    }
}

fn value(endpoint: &Endpoint, link: &Link) -> Option<DeviceValue> {
    Some(DeviceValue {
        ifindex: link.index,
        mtu: link.mtu,
        ipv4: endpoint.ipv4.map(|v4| to_addr(v4.into())).unwrap_or_default(),
        ipv6: endpoint.ipv6.map(|v6| to_addr(v6.into())).unwrap_or_default(),
        mac: endpoint.mac(),
        host_mac: link.mac?,
        _pad: [0; 4],
    })
}
