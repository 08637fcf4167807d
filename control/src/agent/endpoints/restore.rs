//! Endpoints of an earlier run: their devices go on working all the while.

use std::collections::BTreeSet;

use super::Endpoint;
use crate::agent::{endpoints::add::ALIAS, error::AgentError, netlink::Link, state::State, veth};

impl State {
    /// Before the first change: what is remembered and still there is a member again.
    pub async fn restore_endpoints(&mut self) -> Result<(), AgentError> {
        let links = self.netlink.links().await?;
        self.follow_renamed(&links);
        for endpoint in self.endpoints.iter().cloned().collect::<Vec<_>>() {
            for address in endpoint.addresses() {
                self.ipam.take(address).map_err(|error| {
                    AgentError::System(format!("endpoint {}: {error}", endpoint.full_name()))
                })?;
            }
            match device_of(&endpoint, &links) {
                // Its policy goes with the first change, which it is no part of: its packets go before.
                Some(_) if endpoint.leaving => drop(self.maps.endpoints.remove(&endpoint.ifindex)?),
                Some(_) => drop(self.datapath.attach_workload(&endpoint.veth)?),
                None => self.fail_endpoint(endpoint.id, "its device is gone"),
            }
        }
        self.remove_strays(&links).await
    }

    /// A device is the endpoint's under whatever name.
    pub fn follow_renamed(&mut self, links: &[Link]) {
        let working = self.endpoints.iter().filter(|endpoint| endpoint.failure.is_none());
        let renamed: Vec<(Endpoint, String)> = working
            .filter_map(|endpoint| {
                let link = links.iter().find(|link| is_renamed(endpoint, link, self.first_change))?;
                Some((endpoint.clone(), link.name.clone()))
            })
            .collect();
        for (endpoint, name) in renamed {
            tracing::info!(endpoint = %endpoint.full_name(), from = %endpoint.veth, to = %name, "device renamed");
            if let Err(error) = self.datapath.rename(&endpoint.veth, &name) {
                tracing::error!(endpoint = %endpoint.full_name(), %error, "cannot follow its device's new name");
                continue;
            }
            self.endpoints.insert(Endpoint { veth: name, ..endpoint });
            if let Err(error) = self.endpoints.save(self.ipam.cursor()) {
                tracing::error!(%error, "cannot save the list of endpoints");
            }
        }
    }

    /// After the first change: map entries and routes as they should be.
    pub async fn readmit_endpoints(&mut self) -> Result<(), AgentError> {
        let links = self.netlink.links().await?;
        let ready: Vec<Endpoint> =
            self.endpoints.iter().filter(|endpoint| endpoint.is_ready()).cloned().collect();
        for endpoint in &ready {
            self.admit(endpoint)?;
            if let Some(link) = device_of(endpoint, &links) {
                veth::route_to(&self.netlink, link, &endpoint.workload(), self.node).await?;
            }
        }
        let known: BTreeSet<u32> = ready.iter().map(|endpoint| endpoint.ifindex).collect();
        for (ifindex, _) in self.maps.endpoints.entries()? {
            if !known.contains(&ifindex) {
                self.maps.endpoints.remove(&ifindex)?;
            }
        }
        Ok(())
    }

    /// Marks an endpoint whose device is gone. Its name and addresses stay taken until it is deleted,
    /// and so do its programs: should the device be there after all, they drop what it sends.
    pub fn fail_endpoint(&mut self, id: u32, reason: &str) {
        let Some(endpoint) = self.endpoints.by_id(id).cloned() else { return };
        if endpoint.failure.is_some() {
            return;
        }
        tracing::warn!(endpoint = %endpoint.full_name(), reason, "endpoint failed");
        if let Err(error) = self.maps.endpoints.remove(&endpoint.ifindex) {
            tracing::error!(endpoint = %endpoint.full_name(), %error, "cannot remove its map entry");
        }
        if let Err(error) = self.handover.close(id) {
            tracing::error!(endpoint = %endpoint.full_name(), %error, "cannot stop handing packets over to it");
        }
        self.endpoints.set_failure(id, Some(reason.to_owned()));
    }

    /// Devices that an agent made which then ended before it had written the endpoint down.
    async fn remove_strays(&self, links: &[Link]) -> Result<(), AgentError> {
        for link in links.iter().filter(|link| link.alias.starts_with(ALIAS) && link.kind == "veth") {
            if self.endpoints.by_ifindex(link.index).is_none() {
                tracing::warn!(device = %link.name, "removing a device of an endpoint that was never finished");
                self.netlink.delete_link(link.index).await?;
            }
        }
        Ok(())
    }
}

/// Whether `link` is the endpoint's device under another name. Between two runs there may have been
/// a boot, after which only what stands on the device says whose it is.
fn is_renamed(endpoint: &Endpoint, link: &Link, at_start: bool) -> bool {
    link.index == endpoint.ifindex
        && link.name != endpoint.veth
        && (!at_start || link.alias == endpoint.alias())
}

/// The endpoint's device, if it is the one that was written down: indexes begin anew with a boot.
pub fn device_of<'a>(endpoint: &Endpoint, links: &'a [Link]) -> Option<&'a Link> {
    links.iter().find(|link| {
        link.index == endpoint.ifindex
            && link.name == endpoint.veth
            && (endpoint.adopted || link.alias == endpoint.alias())
    })
}
