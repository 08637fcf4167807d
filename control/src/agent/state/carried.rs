//! Numbers that the kernel's tables of an earlier run carry. Until this run's policies are in force they mean
//! what they meant: none of them may be another's by then, whatever became of the file that had them.

use tektin_abi::maps::identity;

use super::State;
use crate::agent::{error::AgentError, identities::Carried, leftovers};

impl State {
    /// Before the first change.
    pub fn reserve_numbers(&mut self) -> Result<(), AgentError> {
        let mut carried = Vec::new();
        for (prefix, owner) in self.ipcache.written() {
            carried.push(match owner.endpoint {
                0 if owner.identity & identity::LOCAL_SCOPE != 0 => Carried::Prefix(owner.identity, *prefix),
                endpoint => self.carried_by(endpoint, owner.identity),
            });
        }
        for (_, endpoint) in self.maps.endpoints.entries()? {
            carried.push(self.carried_by(endpoint.id, endpoint.identity));
        }
        carried.extend(self.enforcement.take_inherited_peers().into_iter().map(Carried::Unknown));
        carried.iter().for_each(|carried| self.identities.reserve(carried));
        Ok(())
    }

    fn carried_by(&self, endpoint: u32, number: u32) -> Carried {
        let key = self.endpoints.by_id(endpoint).and_then(|endpoint| endpoint.key().ok());
        key.map_or(Carried::Unknown(number), |key| Carried::Workload(number, key))
    }

    /// After it: whoever gets one of these numbers now inherits no hold and no counts.
    pub fn end_reservation(&mut self) {
        let reserved: Vec<u32> = self.identities.end_reservation().into_iter().collect();
        if let Err(error) = leftovers::forget_identities(&self.maps, &reserved) {
            tracing::error!(%error, "counts of identities that are gone are kept");
        }
    }
}
