//! Follows the node's devices and addresses: packets that arrive on a new device are judged, and an
//! address of this host has identity `host`.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use rtnetlink::MulticastGroup;
use tokio::time;

use super::{
    Agent,
    endpoints::restore::device_of,
    error::AgentError,
    netlink::{Link, NetlinkError},
    node::{HOST_DEVICE, NodeAddresses},
    state::{Change, State},
    veth::{GATEWAY4, GATEWAY6},
};

/// Events come in bursts; each burst is one look.
const QUIET: Duration = Duration::from_millis(20);
/// A look without an event: the socket drops events that it has no room for.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Follows devices and addresses until the agent ends.
pub async fn watch(agent: Arc<Agent>) -> Result<(), NetlinkError> {
    let mut events = subscribe()?;
    loop {
        let mut heard = time::timeout(HEARTBEAT, events.next()).await;
        while let Ok(Some(_)) = heard {
            heard = time::timeout(QUIET, events.next()).await;
        }
        if let Ok(None) = heard {
            // A burst that the socket had no room for ends the stream. What it said shows below.
            time::sleep(QUIET).await;
            events = subscribe()?;
        }
        let mut state = agent.state.lock().await;
        if let Err(error) = state.look_at_devices(&agent.config.devices).await {
            tracing::error!(%error, "devices");
        }
    }
}

fn subscribe() -> Result<impl Stream<Item = impl Sized> + Unpin, NetlinkError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, _handle, events) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    Ok(events)
}

impl State {
    /// Brings attachments, endpoints and host addresses to what the kernel has now.
    pub async fn look_at_devices(&mut self, chosen: &[String]) -> Result<(), AgentError> {
        let links = self.netlink.links().await?;
        self.follow_renamed(&links);
        let gone: Vec<u32> = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.failure.is_none() && device_of(endpoint, &links).is_none())
            .map(|endpoint| endpoint.id)
            .collect();
        for id in gone {
            self.fail_endpoint(id, "its device is gone");
        }
        self.attach_outside(&links, chosen);
        self.hand_over(&links)?;
        let host = self.host_addresses().await?;
        if host != self.host && !self.first_change {
            self.change(Change { host: Some(host), ..Change::default() }).await?;
        }
        Ok(())
    }

    /// All addresses of this namespace, and those that are its own by convention.
    pub async fn host_addresses(&self) -> Result<BTreeSet<IpAddr>, AgentError> {
        let mut addresses = always_host(self.node);
        addresses.extend(self.netlink.addresses().await?.into_iter().map(|(_, address)| address.addr()));
        // An adopted workload's address is the workload's, also while somebody has it here as well.
        for endpoint in self.endpoints.iter() {
            endpoint.addresses().for_each(|address| {
                addresses.remove(&address);
            });
        }
        Ok(addresses)
    }

    fn attach_outside(&mut self, links: &[Link], chosen: &[String]) {
        let judged: Vec<&Link> = links.iter().filter(|link| self.is_outside(link, chosen)).collect();
        let before = self.outside.clone();
        for link in &judged {
            match self.outside.get(&link.index) {
                Some(name) if *name == link.name => continue,
                Some(name) => {
                    if let Err(error) = self.datapath.rename(name, &link.name) {
                        tracing::error!(device = %link.name, %error, "cannot follow its new name");
                    }
                }
                None => {}
            }
            match self.datapath.attach_outside(&link.name) {
                Ok(_) => {
                    tracing::info!(device = %link.name, "packets that arrive here are judged");
                    self.outside.insert(link.index, link.name.clone());
                }
                Err(error) => {
                    tracing::error!(device = %link.name, %error, "cannot judge packets that arrive")
                }
            }
        }
        for (index, name) in before {
            let follows_a_rename_later =
                judged.iter().any(|link| link.index == index) && self.outside.get(&index) == Some(&name);
            if judged.iter().any(|link| link.name == name) || follows_a_rename_later {
                continue;
            }
            // An endpoint's device is no outside device, but its programs stay.
            if self.endpoints.iter().all(|endpoint| endpoint.veth != name || endpoint.failure.is_some())
                && let Err(error) = self.datapath.detach(&name)
            {
                tracing::warn!(device = %name, %error, "cannot detach");
            }
            if self.outside.get(&index) == Some(&name) {
                self.outside.remove(&index);
            }
        }
    }

    fn is_outside(&self, link: &Link, chosen: &[String]) -> bool {
        link.name != "lo"
            && link.name != HOST_DEVICE
            && self.endpoints.by_ifindex(link.index).is_none()
            && (chosen.is_empty() || chosen.contains(&link.name))
    }
}

/// Whatever the namespace's devices have now. Knowing the gateways before the first workload comes
/// saves a change of policy then.
fn always_host(node: NodeAddresses) -> BTreeSet<IpAddr> {
    BTreeSet::from([
        node.v4.into(),
        node.v6.into(),
        GATEWAY4.into(),
        GATEWAY6.into(),
        std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::Ipv6Addr::LOCALHOST.into(),
    ])
}
