//! Names for the numbers in events and records, readable from any thread without waiting for a
//! change that is under way.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use policy_engine::direction;

use crate::flows::{EndpointName, Resolve, resolve::Direction};

/// What is known at one moment.
#[derive(Default)]
pub struct Snapshot {
    pub identities: HashMap<u32, Arc<[Arc<str>]>>,
    pub endpoints: HashMap<u32, EndpointName>,
    pub rules: HashMap<u32, Arc<str>>,
    /// By endpoint: the specs that closed ingress and egress.
    pub default_deny: HashMap<(u32, Direction), Arc<str>>,
}

/// The agent's answer to whoever writes records.
pub struct Names {
    node: Arc<str>,
    known: RwLock<Arc<Snapshot>>,
}

impl Names {
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), known: RwLock::default() }
    }

    pub fn replace(&self, snapshot: Snapshot) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Resolve for Names {
    fn node(&self) -> Arc<str> {
        self.node.clone()
    }

    fn identity_labels(&self, identity: u32) -> Option<Arc<[Arc<str>]>> {
        self.snapshot().identities.get(&identity).cloned()
    }

    fn endpoint(&self, id: u32) -> Option<EndpointName> {
        self.snapshot().endpoints.get(&id).cloned()
    }

    fn rule(&self, id: u32) -> Option<Arc<str>> {
        self.snapshot().rules.get(&id).cloned()
    }

    fn default_deny(&self, endpoint: u32, direction: Direction) -> Option<Arc<str>> {
        self.snapshot().default_deny.get(&(endpoint, direction)).cloned()
    }
}

/// Both kinds of direction, the policy engine's and the records'.
pub const DIRECTIONS: [(direction::Direction, Direction); 2] =
    [(direction::Direction::Ingress, Direction::Ingress), (direction::Direction::Egress, Direction::Egress)];

/// Keeps the texts of one snapshot for the next: most rules stay.
pub fn rule_texts<'a>(
    before: &Snapshot,
    rules: impl Iterator<Item = (u32, &'a str)>,
) -> HashMap<u32, Arc<str>> {
    rules
        .map(|(id, text)| {
            let kept = before.rules.get(&id).filter(|kept| kept.as_ref() == text);
            (id, kept.cloned().unwrap_or_else(|| text.into()))
        })
        .collect()
}

/// Labels in the form that records carry.
pub fn shared(texts: Vec<String>) -> Arc<[Arc<str>]> {
    texts.into_iter().map(Arc::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_have_no_name_and_known_ones_do() {
        let names = Names::new("node-1");
        assert!(names.identity_labels(256).is_none());
        assert!(names.rule(7).is_none());
        let snapshot = Snapshot {
            identities: HashMap::from([(256, shared(vec!["k8s:app=web".to_owned()]))]),
            rules: rule_texts(&Snapshot::default(), [(7, "a place")].into_iter()),
            ..Snapshot::default()
        };
        names.replace(snapshot);
        assert_eq!(names.rule(7).as_deref(), Some("a place"));
        assert_eq!(names.identity_labels(256).unwrap()[0].as_ref(), "k8s:app=web");
        assert_eq!(names.node().as_ref(), "node-1");
    }
}
