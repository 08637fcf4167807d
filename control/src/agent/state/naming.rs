//! Tells those who write records what the numbers mean, before anything comes of them.

use std::collections::BTreeMap;

use policy_engine::{compile::SubjectChange, identity::Identity};

use super::State;
use crate::{
    agent::{
        datapath::{EndpointChanges, default_deny_text},
        identities::label_texts,
        names::{DIRECTIONS, Known, shared},
    },
    flows::EndpointName,
};

impl State {
    /// Before identities have an address.
    pub(super) fn announce_identities(&self, fresh: &[Identity]) {
        let identities = fresh.iter().map(|identity| (identity.id, shared(label_texts(&identity.labels))));
        self.names.learn(Known { identities: identities.collect(), ..Known::default() });
    }

    /// What has been known since the start.
    pub fn announce_all(&self) {
        let identities = self.engine.identities().iter();
        let identities = identities.map(|identity| (identity.id, shared(label_texts(&identity.labels))));
        let rules = self.rules.iter().map(|(id, text)| (id, text.into()));
        let known = Known { identities: identities.collect(), rules: rules.collect(), ..Known::default() };
        self.names.learn(known);
    }

    /// Before the changes are in force.
    pub(super) fn announce(&self, changes: &BTreeMap<u32, SubjectChange>, endpoints: &EndpointChanges) {
        let mut coming = Known::default();
        let of_changes = changes.keys().flat_map(|subject| self.enforcement.endpoints_of(*subject));
        let come = endpoints.iter().filter_map(|(endpoint, identity)| Some((*endpoint, (*identity)?)));
        for (endpoint, identity) in of_changes.chain(come) {
            if let Some(endpoint) = self.endpoints.by_id(endpoint) {
                let name = EndpointName {
                    name: endpoint.name.as_str().into(),
                    namespace: endpoint.namespace.as_str().into(),
                };
                coming.endpoints.insert(endpoint.id, name);
            }
            let Some(compiled) = self.engine.subject(identity) else { continue };
            let policies = [&compiled.policy.ingress, &compiled.policy.egress];
            for ((_, direction), policy) in DIRECTIONS.into_iter().zip(policies) {
                let text = policy.as_ref().and_then(|policy| default_deny_text(policy.default_deny.values()));
                coming.default_deny.extend(text.map(|text| ((endpoint, direction), text.into())));
            }
        }
        self.names.learn(coming);
    }
}
