//! Names for the numbers in events and records, readable from any thread without waiting for a
//! change that is under way.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use policy_engine::direction;

use crate::flows::{EndpointName, Resolve, resolve::Direction};

/// What numbers mean.
#[derive(Clone, Default)]
pub struct Known {
    pub identities: HashMap<u32, Arc<[Arc<str>]>>,
    pub endpoints: HashMap<u32, EndpointName>,
    pub rules: HashMap<u32, Arc<str>>,
    /// By endpoint: the specs that closed ingress and egress, or did last.
    pub default_deny: HashMap<(u32, Direction), Arc<str>>,
}

/// The agent's answer to whoever writes records. It only learns: events that are on their way are of
/// before, so what is gone keeps its name until its number is another's.
pub struct Names {
    node: Arc<str>,
    known: RwLock<Known>,
    /// Identities that are gone, the first one first.
    gone: Mutex<VecDeque<u32>>,
}

/// So many identities that are gone keep their names.
const GONE_IDENTITIES: usize = 4096;

impl Names {
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), known: RwLock::default(), gone: Mutex::default() }
    }

    /// Makes rules known before anything decides by them.
    pub fn learn_rules(&self, new: Vec<(u32, String)>) {
        if !new.is_empty() {
            self.known_mut().rules.extend(new.into_iter().map(|(id, text)| (id, text.into())));
        }
    }

    pub fn forget_rules(&self, ids: &[u32]) {
        if !ids.is_empty() {
            let mut known = self.known_mut();
            ids.iter().for_each(|id| drop(known.rules.remove(id)));
        }
    }

    /// Makes identities and endpoints known before any packet is theirs, and what closes an endpoint
    /// before it does.
    pub fn learn(&self, coming: Known) {
        if !coming.identities.is_empty() {
            let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.retain(|id| !coming.identities.contains_key(id));
        }
        let mut known = self.known_mut();
        for (id, name) in &coming.endpoints {
            if known.endpoints.get(id).is_some_and(|before| before != name) {
                for (_, direction) in DIRECTIONS {
                    known.default_deny.remove(&(*id, direction));
                }
            }
        }
        known.identities.extend(coming.identities);
        known.endpoints.extend(coming.endpoints);
        known.rules.extend(coming.rules);
        known.default_deny.extend(coming.default_deny);
    }

    /// Identities that nobody has any more.
    pub fn identities_gone(&self, ids: &[u32]) {
        if ids.is_empty() {
            return;
        }
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.extend(ids);
        let surplus = gone.len().saturating_sub(GONE_IDENTITIES);
        let mut known = self.known_mut();
        gone.drain(..surplus).for_each(|id| drop(known.identities.remove(&id)));
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolve for Names {
    fn node(&self) -> Arc<str> {
        self.node.clone()
    }

    fn identity_labels(&self, identity: u32) -> Option<Arc<[Arc<str>]>> {
        self.known().identities.get(&identity).cloned()
    }

    fn endpoint(&self, id: u32) -> Option<EndpointName> {
        self.known().endpoints.get(&id).cloned()
    }

    fn rule(&self, id: u32) -> Option<Arc<str>> {
        self.known().rules.get(&id).cloned()
    }

    fn default_deny(&self, endpoint: u32, direction: Direction) -> Option<Arc<str>> {
        self.known().default_deny.get(&(endpoint, direction)).cloned()
    }
}

/// Both kinds of direction, the policy engine's and the records'.
pub const DIRECTIONS: [(direction::Direction, Direction); 2] =
    [(direction::Direction::Ingress, Direction::Ingress), (direction::Direction::Egress, Direction::Egress)];

/// Labels in the form that records carry.
pub fn shared(texts: Vec<String>) -> Arc<[Arc<str>]> {
    texts.into_iter().map(Arc::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(name: &str, documents: Option<&str>) -> Known {
        let endpoint = EndpointName { name: name.into(), namespace: "default".into() };
        Known {
            endpoints: HashMap::from([(1, endpoint)]),
            default_deny: documents.map(|text| ((1, Direction::Ingress), text.into())).into_iter().collect(),
            ..Known::default()
        }
    }

    #[test]
    fn who_closed_an_endpoint_is_known_after_it_was_opened_again() {
        let names = Names::new("node-1");
        names.learn(closed("web", Some("a document")));
        names.learn(closed("web", None));
        assert_eq!(names.default_deny(1, Direction::Ingress).as_deref(), Some("a document"));
        names.learn(closed("web", Some("another")));
        assert_eq!(names.default_deny(1, Direction::Ingress).as_deref(), Some("another"));
        assert_eq!(names.endpoint(1).unwrap().name.as_ref(), "web");
        // The next owner of the number inherits nothing.
        names.learn(closed("db", None));
        assert_eq!(names.default_deny(1, Direction::Ingress), None);
    }

    fn workload(id: u32) -> Known {
        let identities = HashMap::from([(id, shared(vec![format!("k8s:app=a{id}")]))]);
        Known { identities, ..Known::default() }
    }

    #[test]
    fn identities_that_are_gone_are_known_for_a_while() {
        let names = Names::new("node-1");
        (256..258).for_each(|id| names.learn(workload(id)));
        names.identities_gone(&[256, 257]);
        assert_eq!(names.identity_labels(256).unwrap()[0].as_ref(), "k8s:app=a256");
        // Its number is another's now, who must not be forgotten in its place.
        names.learn(workload(256));
        names.identities_gone(&(1000..1000 + GONE_IDENTITIES as u32).collect::<Vec<_>>());
        assert!(names.identity_labels(256).is_some() && names.identity_labels(257).is_none());
    }

    #[test]
    fn rules_are_known_before_they_decide_until_they_are_forgotten() {
        let names = Names::new("node-1");
        assert!(names.rule(7).is_none() && names.identity_labels(256).is_none());
        names.learn_rules(vec![(7, "a place".to_owned())]);
        assert_eq!(names.rule(7).as_deref(), Some("a place"));
        names.forget_rules(&[7]);
        assert!(names.rule(7).is_none());
        assert_eq!(names.node().as_ref(), "node-1");
    }
}
