//! `endpoint delete`, and what is undone when an addition fails.

use super::Endpoint;
use crate::agent::{
    endpoints::add::ALIAS,
    error::AgentError,
    state::{Desired, State},
    veth,
};

impl State {
    /// Takes an endpoint away: its packets first, then its policy, then its device.
    pub async fn delete_endpoint(&mut self, wanted: &str) -> Result<(), AgentError> {
        let endpoint = self.endpoints.find(wanted)?.clone();
        self.unwire(&endpoint).await;
        tracing::info!(endpoint = %endpoint.full_name(), id = endpoint.id, "endpoint deleted");
        Ok(())
    }

    /// Undoes as much of [`State::add_endpoint`] as was done. One part that fails does not keep the
    /// others: it is logged, and the next start of the agent finds what is left.
    pub(super) async fn unwire(&mut self, endpoint: &Endpoint) {
        let failed = |what: &str, error: AgentError| {
            tracing::error!(endpoint = %endpoint.full_name(), %error, "{what}");
        };
        // The device of a failed one is gone; its index may be another's by now.
        let has_device = endpoint.ifindex != 0 && endpoint.failure.is_none();
        if has_device && let Err(error) = self.maps.endpoints.remove(&endpoint.ifindex) {
            failed("cannot remove its map entry", error.into());
        }
        self.endpoints.remove(endpoint.id);
        if self.desired.endpoints.contains_key(&endpoint.id)
            && let Err(error) = self.change(self.desired.without_endpoint(endpoint.id)).await
        {
            failed("cannot take its policy out of force", error);
        }
        if has_device {
            if let Err(error) = self.datapath.detach(&endpoint.veth) {
                failed("cannot detach its programs", error.into());
            }
            if let Err(error) = self.unplug(endpoint).await {
                failed("cannot remove its device or routes", error);
            }
        }
        endpoint.addresses().for_each(|address| self.ipam.release(address));
        if let Err(error) = self.endpoints.save(self.ipam.cursor()) {
            failed("cannot save the list of endpoints", error.into());
        }
    }

    async fn unplug(&self, endpoint: &Endpoint) -> Result<(), AgentError> {
        let Some(link) = self.netlink.link_by_name(&endpoint.veth).await? else { return Ok(()) };
        if link.index != endpoint.ifindex {
            return Ok(());
        }
        if endpoint.adopted {
            veth::unroute(&self.netlink, link.index, &endpoint.workload(), self.node).await?;
        } else if link.alias.starts_with(ALIAS) {
            self.netlink.delete_link(link.index).await?;
        }
        Ok(())
    }
}

impl Desired {
    pub fn without_endpoint(&self, id: u32) -> Self {
        let mut next = self.clone();
        next.endpoints.remove(&id);
        next
    }
}
