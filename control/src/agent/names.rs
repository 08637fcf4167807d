//! Names for the numbers in events and records, readable from any thread without waiting for a
//! change that is under way.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use policy_engine::direction;

use crate::flows::{EndpointName, Resolve, resolve::Direction};

/// What is known at one moment.
#[derive(Clone, Default)]
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

    /// What is known from now on. Events that are on their way are of before: what is gone keeps its
    /// name until its number is another's ([`Snapshot::with_the_gone`]).
    pub fn replace(&self, snapshot: Snapshot) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::new(snapshot.with_the_gone(&known));
    }

    /// Makes rules known before anything decides by them.
    pub fn learn_rules(&self, new: Vec<(u32, String)>) {
        if new.is_empty() {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut known).rules.extend(new.into_iter().map(|(id, text)| (id, text.into())));
    }

    /// Makes identities and endpoints known before any packet is theirs, and what closes an endpoint
    /// that nothing has closed so far.
    pub fn learn(&self, coming: Snapshot) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::make_mut(&mut known);
        for (id, name) in &coming.endpoints {
            if known.endpoints.get(id).is_some_and(|before| before != name) {
                known.default_deny.retain(|(endpoint, _), _| endpoint != id);
            }
        }
        known.identities.extend(coming.identities);
        known.endpoints.extend(coming.endpoints);
        known.default_deny.extend(coming.default_deny);
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// With more identities than this gone, all of them are forgotten.
const GONE_IDENTITIES: usize = 4096;

impl Snapshot {
    /// Adds what `before` knew and nobody has taken the number of. Endpoint numbers come round, so
    /// there is an end to them.
    fn with_the_gone(mut self, before: &Snapshot) -> Self {
        for (id, name) in &before.endpoints {
            self.endpoints.entry(*id).or_insert_with(|| name.clone());
        }
        for (key, documents) in &before.default_deny {
            let same_endpoint = self.endpoints.get(&key.0) == before.endpoints.get(&key.0);
            if same_endpoint {
                self.default_deny.entry(*key).or_insert_with(|| documents.clone());
            }
        }
        let gone = before.identities.iter().filter(|(id, _)| !self.identities.contains_key(id));
        let gone: Vec<_> = gone.map(|(id, labels)| (*id, labels.clone())).collect();
        if gone.len() <= GONE_IDENTITIES {
            self.identities.extend(gone);
        }
        self
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

    fn closed(name: &str, documents: Option<&str>) -> Snapshot {
        let endpoint = EndpointName { name: name.into(), namespace: "default".into() };
        Snapshot {
            endpoints: HashMap::from([(1, endpoint)]),
            default_deny: documents.map(|text| ((1, Direction::Ingress), text.into())).into_iter().collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn who_closed_an_endpoint_is_known_after_it_was_opened_again() {
        let names = Names::new("node-1");
        names.replace(closed("web", Some("a document")));
        names.replace(closed("web", None));
        assert_eq!(names.default_deny(1, Direction::Ingress).as_deref(), Some("a document"));
        names.replace(closed("web", Some("another")));
        assert_eq!(names.default_deny(1, Direction::Ingress).as_deref(), Some("another"));
        names.replace(Snapshot::default());
        assert_eq!(names.endpoint(1).unwrap().name.as_ref(), "web");
        assert_eq!(names.default_deny(1, Direction::Ingress).as_deref(), Some("another"));
        // The next owner of the number inherits nothing.
        names.learn(closed("db", None));
        assert_eq!(names.default_deny(1, Direction::Ingress), None);
    }

    #[test]
    fn rules_are_known_before_they_decide() {
        let names = Names::new("node-1");
        names.learn_rules(vec![(7, "a place".to_owned())]);
        assert_eq!(names.rule(7).as_deref(), Some("a place"));
    }

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
