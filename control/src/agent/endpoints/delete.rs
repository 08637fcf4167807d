//! `endpoint delete`, and what is undone when an addition fails.

use super::Endpoint;
use crate::agent::{
    error::AgentError,
    leftovers,
    state::{Change, State},
    veth,
};

impl State {
    /// Takes an endpoint away: its packets first, then its policy, then its device. That it leaves is
    /// written down before anything is done, so that no agent leaves it half-way.
    pub async fn delete_endpoint(&mut self, wanted: &str) -> Result<(), AgentError> {
        let endpoint = self.endpoints.find(wanted)?.clone();
        let name = endpoint.full_name();
        self.endpoints.set_leaving(endpoint.id, true);
        self.endpoints
            .save(self.ipam.cursor())
            .inspect_err(|_| self.endpoints.set_leaving(endpoint.id, endpoint.leaving))?;
        match self.unwire(&endpoint).await {
            Ok(()) => {
                tracing::info!(endpoint = %name, id = endpoint.id, "endpoint deleted");
                Ok(())
            }
            Err(error) => Err(AgentError::System(format!("endpoint {name} is deleted, but {error}"))),
        }
    }

    /// What an earlier run had begun to delete. Its packets are dropped and its policy is gone by now.
    pub async fn finish_deletions(&mut self) {
        let leaving = self.endpoints.iter().filter(|endpoint| endpoint.leaving);
        for endpoint in leaving.cloned().collect::<Vec<_>>() {
            // What fails is in the log.
            if self.unwire(&endpoint).await.is_ok() {
                tracing::info!(endpoint = %endpoint.full_name(), id = endpoint.id, "its deletion is finished");
            }
        }
    }

    /// Undoes as much of [`State::add_endpoint`] as was done. One part that fails does not keep the
    /// others: it is logged, and the next change or start of the agent finds what is left. The first
    /// failure is returned.
    pub(super) async fn unwire(&mut self, endpoint: &Endpoint) -> Result<(), AgentError> {
        let mut first = Ok(());
        let mut note = |what: &str, result: Result<(), AgentError>| {
            if let Err(error) = result {
                tracing::error!(endpoint = %endpoint.full_name(), %error, "{what}");
                if first.is_ok() {
                    first = Err(AgentError::System(format!("{what}: {error}")));
                }
            }
        };
        // The device of a failed one is gone; its index may be another's by now.
        let has_device = endpoint.ifindex != 0 && endpoint.failure.is_none();
        if has_device {
            let removed = self.maps.endpoints.remove(&endpoint.ifindex);
            note("cannot remove its map entry", removed.map(drop).map_err(AgentError::from));
        }
        let closed = self.handover.close(endpoint.id);
        note("cannot stop handing packets over to it", closed.map_err(AgentError::from));
        self.endpoints.remove(endpoint.id);
        if self.members.contains_key(&endpoint.id) {
            let changed = self.change(Change::of_endpoint(endpoint.id, None)).await;
            note("cannot take its policy out of force", changed.map(drop));
        }
        // Its device before its programs: never one without the other.
        note("cannot remove its device or routes", self.unplug(endpoint, has_device).await);
        let detached = self.datapath.detach(&endpoint.veth);
        note("cannot detach its programs", detached.map_err(AgentError::from));
        // Should another device have that name by now, it gets its programs again.
        self.outside.retain(|_, name| *name != endpoint.veth);
        note(
            "cannot forget its connections",
            leftovers::forget(&self.maps, endpoint.id).map_err(AgentError::from),
        );
        endpoint.addresses().for_each(|address| self.ipam.release(address));
        let saved = self.endpoints.save(self.ipam.cursor());
        note("cannot save the list of endpoints", saved.map_err(AgentError::from));
        first
    }

    /// Our own device goes by name and owner: an addition may have failed before its index was known.
    async fn unplug(&self, endpoint: &Endpoint, has_device: bool) -> Result<(), AgentError> {
        let Some(link) = self.netlink.link_by_name(&endpoint.veth).await? else { return Ok(()) };
        if !endpoint.adopted && link.alias == endpoint.alias() {
            self.netlink.delete_link(link.index).await?;
        } else if endpoint.adopted && has_device && link.index == endpoint.ifindex {
            veth::unroute(&self.netlink, link.index, &endpoint.workload(), self.node).await?;
        }
        Ok(())
    }
}
