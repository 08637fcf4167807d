//! Tells those who write records what the numbers mean: what is coming before it decides anything,
//! and what is there once it does.

use std::{collections::HashMap, sync::Arc};

use policy_engine::identity::Identity;

use super::State;
use crate::{
    agent::{
        datapath::{Wanted, default_deny_text},
        endpoints::Endpoint,
        identities::label_texts,
        names::{DIRECTIONS, Snapshot, rule_texts, shared},
    },
    flows::EndpointName,
};

impl State {
    /// Before identities have an address.
    pub(super) fn announce_identities(&self, fresh: &[Arc<Identity>]) {
        let identities = fresh.iter().map(|identity| (identity.id, shared(label_texts(&identity.labels))));
        self.names.learn(Snapshot { identities: identities.collect(), ..Snapshot::default() });
    }

    /// Before `wanted` is in force.
    pub(super) fn announce(&self, wanted: &Wanted) {
        let mut coming = Snapshot { endpoints: self.endpoint_names(), ..Snapshot::default() };
        for (endpoint, identity) in &wanted.endpoints {
            let Some(compiled) = wanted.subjects.get(identity) else { continue };
            let policies = [&compiled.policy.ingress, &compiled.policy.egress];
            for ((_, direction), policy) in DIRECTIONS.into_iter().zip(policies) {
                if let Some(text) = policy.as_ref().and_then(|policy| default_deny_text(&policy.default_deny))
                {
                    coming.default_deny.insert((*endpoint, direction), text.into());
                }
            }
        }
        self.names.learn(coming);
    }

    /// What is known now, without what is gone for good.
    pub fn publish_names(&self) {
        let before = self.names.snapshot();
        let mut snapshot = Snapshot {
            rules: rule_texts(&before, self.rules.iter()),
            endpoints: self.endpoint_names(),
            ..Snapshot::default()
        };
        for identity in self.table.iter() {
            let labels = before.identities.get(&identity.id).cloned();
            let labels = labels.unwrap_or_else(|| shared(label_texts(&identity.labels)));
            snapshot.identities.insert(identity.id, labels);
        }
        for endpoint in self.endpoints.iter() {
            let Some(identity) = self.identity_of.get(&endpoint.id) else { continue };
            for (engine, records) in DIRECTIONS {
                if let Some(text) = self.enforcement.default_deny(*identity, engine) {
                    snapshot.default_deny.insert((endpoint.id, records), text.into());
                }
            }
        }
        self.names.replace(snapshot);
    }

    fn endpoint_names(&self) -> HashMap<u32, EndpointName> {
        let name = |endpoint: &Endpoint| EndpointName {
            name: endpoint.name.as_str().into(),
            namespace: endpoint.namespace.as_str().into(),
        };
        self.endpoints.iter().map(|endpoint| (endpoint.id, name(endpoint))).collect()
    }
}
