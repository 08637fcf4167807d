//! The full copy of what proxies judge by.

use std::collections::{BTreeMap, BTreeSet};

use tektin_proxy::link_proto::{Class, EndpointRoot, Policy, PolicyUpdate};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the first policy update must be a full one")]
    NotFull,
    #[error("policy revision {new} does not follow {current}")]
    Revision { new: u32, current: u32 },
    #[error("endpoint {endpoint} refers to policy {policy}, which does not exist")]
    UnknownPolicy { endpoint: u32, policy: u32 },
    #[error("policy {policy} is to be changed, and does not exist")]
    UnknownChanged { policy: u32 },
}

/// Changed in place: what an update costs follows the update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    revision: u32,
    policies: BTreeMap<u32, Held>,
    endpoints: BTreeMap<u32, EndpointRoot>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    classes: BTreeMap<u32, Class>,
    class_of: BTreeMap<u32, u32>,
    default_deny_rule: u32,
}

impl State {
    /// Whether `update` can follow `before`.
    pub fn check(before: Option<&Self>, update: &PolicyUpdate) -> Result<(), StateError> {
        let current = before.map_or(0, |state| state.revision);
        if update.revision <= current {
            return Err(StateError::Revision { new: update.revision, current });
        }
        let before = match before {
            _ if update.full => None,
            Some(before) => Some(before),
            None => return Err(StateError::NotFull),
        };
        let stays = |id: &u32| {
            before.is_some_and(|state| state.policies.contains_key(id))
                && !update.removed_policies.contains(id)
        };
        let exists = |id: u32| stays(&id) || update.policies.iter().any(|policy| policy.id == id);
        for change in &update.changes {
            if !exists(change.id) {
                return Err(StateError::UnknownChanged { policy: change.id });
            }
        }
        for root in &update.endpoints {
            for policy in [root.ingress_policy, root.egress_policy] {
                if policy != 0 && !exists(policy) {
                    return Err(StateError::UnknownPolicy { endpoint: root.endpoint, policy });
                }
            }
        }
        match before {
            Some(before) if !update.removed_policies.is_empty() => before.check_removed(update),
            _ => Ok(()),
        }
    }

    /// Whether no endpoint that stays as it is has a policy that goes. Endpoints are few.
    fn check_removed(&self, update: &PolicyUpdate) -> Result<(), StateError> {
        let ids = update.endpoints.iter().map(|root| root.endpoint);
        let changed: BTreeSet<u32> = ids.chain(update.removed_endpoints.iter().copied()).collect();
        for root in self.endpoints.values().filter(|root| !changed.contains(&root.endpoint)) {
            for policy in [root.ingress_policy, root.egress_policy] {
                if update.removed_policies.contains(&policy) {
                    return Err(StateError::UnknownPolicy { endpoint: root.endpoint, policy });
                }
            }
        }
        Ok(())
    }

    /// Makes an update that was checked.
    pub fn follow(&mut self, update: PolicyUpdate) {
        if update.full {
            *self = Self::default();
        }
        self.revision = update.revision;
        for id in &update.removed_policies {
            self.policies.remove(id);
        }
        for id in &update.removed_endpoints {
            self.endpoints.remove(id);
        }
        for policy in update.policies {
            let held = Held {
                classes: policy.classes.into_iter().map(|class| (class.id, class)).collect(),
                class_of: policy.class_of.into_iter().collect(),
                default_deny_rule: policy.default_deny_rule,
            };
            self.policies.insert(policy.id, held);
        }
        for change in update.changes {
            let Some(held) = self.policies.get_mut(&change.id) else { continue };
            held.default_deny_rule = change.default_deny_rule;
            held.classes.extend(change.classes.into_iter().map(|class| (class.id, class)));
            for (peer, class) in change.class_of {
                match class {
                    0 => drop(held.class_of.remove(&peer)),
                    class => drop(held.class_of.insert(peer, class)),
                }
            }
            for class in change.removed_classes {
                held.classes.remove(&class);
            }
        }
        self.endpoints.extend(update.endpoints.into_iter().map(|root| (root.endpoint, root)));
    }

    #[must_use]
    pub fn as_full_update(&self) -> PolicyUpdate {
        let policy = |(id, held): (&u32, &Held)| Policy {
            id: *id,
            classes: held.classes.values().cloned().collect(),
            class_of: held.class_of.iter().map(|(peer, class)| (*peer, *class)).collect(),
            default_deny_rule: held.default_deny_rule,
        };
        PolicyUpdate {
            revision: self.revision,
            full: true,
            policies: self.policies.iter().map(policy).collect(),
            endpoints: self.endpoints.values().copied().collect(),
            ..PolicyUpdate::default()
        }
    }
}
