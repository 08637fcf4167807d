//! What a change means for the maps: new ids, changes under ids in force, roots.

use std::collections::{BTreeMap, BTreeSet};

use policy_engine::{
    compile::{Before, DirectionChange, Patch, SubjectChange},
    compiled::DirectionPolicy,
    direction::Direction,
    engine::Engine,
};
use tektin_abi::maps::PolicyRoot;

use super::{DatapathError, EndpointChanges, Enforcement, sides};

/// A subject's identity and a direction.
pub(super) type Key = (u32, Direction);

pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// Of the endpoints that get another one; `None`: gone.
    pub(super) roots: BTreeMap<u32, Option<PolicyRoot>>,
}

/// What becomes of one direction of one subject.
pub(super) enum Step<'a> {
    /// No longer enforced.
    Open { key: Key, before: Option<Replaced<'a>> },
    /// Another policy under a new id, or the first one.
    Replace { key: Key, id: u32, policy: &'a DirectionPolicy, before: Option<Replaced<'a>> },
    /// Changes under the id in force. `policy` is as it shall be.
    Patch { key: Key, id: u32, policy: &'a DirectionPolicy, patch: &'a Patch },
}

/// A policy that goes out of force, and its id.
pub(super) struct Replaced<'a> {
    pub(super) id: u32,
    pub(super) before: &'a Before,
}

impl Enforcement {
    pub(super) fn plan<'a>(
        &mut self,
        engine: &'a Engine,
        changes: &'a BTreeMap<u32, SubjectChange>,
        endpoints: &EndpointChanges,
    ) -> Result<Plan<'a>, DatapathError> {
        let mut steps = Vec::new();
        let mut ids: BTreeMap<Key, u32> = BTreeMap::new();
        for (subject, change) in changes {
            for (direction, change, policy) in sides(engine, *subject, change) {
                let key = (*subject, direction);
                let in_force = self.ids.get(&key).copied();
                match (change, policy, in_force) {
                    (DirectionChange::Nothing, _, _) => {}
                    (DirectionChange::Patch(patch), Some(policy), Some(id)) => {
                        steps.push(Step::Patch { key, id, policy, patch });
                    }
                    (DirectionChange::Anew { before }, policy, id) => {
                        let before = id.zip(before.as_ref()).map(|(id, before)| Replaced { id, before });
                        match policy {
                            Some(policy) => {
                                let id = self.new_id()?;
                                ids.insert(key, id);
                                steps.push(Step::Replace { key, id, policy, before });
                            }
                            None => {
                                ids.insert(key, 0);
                                steps.push(Step::Open { key, before });
                            }
                        }
                    }
                    // A patch of what is not in force: it was never installed, so all of it is new.
                    (DirectionChange::Patch(_), Some(policy), None) => {
                        let id = self.new_id()?;
                        ids.insert(key, id);
                        steps.push(Step::Replace { key, id, policy, before: None });
                    }
                    (DirectionChange::Patch(_), None, _) => {}
                }
            }
        }
        let roots = self.changed_roots(&ids, endpoints);
        Ok(Plan { steps, roots })
    }

    fn new_id(&mut self) -> Result<u32, DatapathError> {
        self.last_policy = self.last_policy.checked_add(1).ok_or(DatapathError::PolicyIdsExhausted)?;
        Ok(self.last_policy)
    }

    /// Roots that differ from those in force, once `ids` hold.
    fn changed_roots(
        &self,
        ids: &BTreeMap<Key, u32>,
        endpoints: &EndpointChanges,
    ) -> BTreeMap<u32, Option<PolicyRoot>> {
        let of_subjects = ids.keys().filter_map(|(subject, _)| self.endpoints.get(subject)).flatten();
        let mut concerned: BTreeSet<u32> = of_subjects.chain(endpoints.keys()).copied().collect();
        if self.first_step {
            // What an earlier run has left.
            concerned.extend(self.roots.keys());
        }
        let id = |identity, direction| {
            let key = (identity, direction);
            ids.get(&key).or_else(|| self.ids.get(&key)).copied().unwrap_or(0)
        };
        let root = |endpoint: &u32| {
            let identity = match endpoints.get(endpoint) {
                Some(identity) => *identity,
                None => self.identities.get(endpoint).copied(),
            };
            identity.map(|identity| PolicyRoot {
                ingress: id(identity, Direction::Ingress),
                egress: id(identity, Direction::Egress),
            })
        };
        let wanted = concerned.iter().map(|endpoint| (*endpoint, root(endpoint)));
        wanted.filter(|(endpoint, root)| self.roots.get(endpoint).copied() != *root).collect()
    }
}
