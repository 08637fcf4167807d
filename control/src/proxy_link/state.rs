//! The full copy of what proxies judge by.

use std::{collections::BTreeMap, sync::Arc};

use tektin_proxy::link_proto::{EndpointRoot, Policy, PolicyUpdate};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error("the first policy update must be a full one")]
    NotFull,
    #[error("policy revision {new} does not follow {current}")]
    Revision { new: u32, current: u32 },
    #[error("endpoint {endpoint} refers to policy {policy}, which does not exist")]
    UnknownPolicy { endpoint: u32, policy: u32 },
}

/// Policies are shared between states, so that a state is cheap to keep for the way back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    revision: u32,
    policies: BTreeMap<u32, Arc<Policy>>,
    endpoints: BTreeMap<u32, EndpointRoot>,
}

impl State {
    /// What `update` makes of `before`, which stays as it is.
    pub fn after(before: Option<&Self>, update: &PolicyUpdate) -> Result<Self, StateError> {
        let current = before.map_or(0, |state| state.revision);
        if update.revision <= current {
            return Err(StateError::Revision { new: update.revision, current });
        }
        let mut next = match before {
            _ if update.full => Self::default(),
            Some(before) => before.clone(),
            None => return Err(StateError::NotFull),
        };
        next.revision = update.revision;
        next.policies.retain(|id, _| !update.removed_policies.contains(id));
        next.endpoints.retain(|id, _| !update.removed_endpoints.contains(id));
        next.policies.extend(update.policies.iter().map(|policy| (policy.id, Arc::new(policy.clone()))));
        next.endpoints.extend(update.endpoints.iter().map(|root| (root.endpoint, *root)));
        next.check()?;
        Ok(next)
    }

    fn check(&self) -> Result<(), StateError> {
        for root in self.endpoints.values() {
            for policy in [root.ingress_policy, root.egress_policy] {
                if policy != 0 && !self.policies.contains_key(&policy) {
                    return Err(StateError::UnknownPolicy { endpoint: root.endpoint, policy });
                }
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn as_full_update(&self) -> PolicyUpdate {
        PolicyUpdate {
            revision: self.revision,
            full: true,
            policies: self.policies.values().map(|policy| Policy::clone(policy)).collect(),
            removed_policies: Vec::new(),
            endpoints: self.endpoints.values().copied().collect(),
            removed_endpoints: Vec::new(),
        }
    }
}
