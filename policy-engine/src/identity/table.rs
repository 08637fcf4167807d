//! All identities that are known, indexed so that a selector finds its own without reading the rest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{Identity, RESERVED};
use crate::model::{FqdnSelector, Operator, Peer, Selector};

/// Identities by number, with indexes by label, prefix and DNS selector.
#[derive(Clone, Debug, Default)]
pub struct IdentityTable {
    by_id: BTreeMap<u32, Arc<Identity>>,
    /// By label key whatever its source; the full match sorts out the source.
    by_key: HashMap<String, Postings>,
    /// By first address and length: what lies inside a prefix is one range.
    by_prefix: BTreeMap<(IpAddr, u8), BTreeSet<u32>>,
    by_fqdn: HashMap<FqdnSelector, BTreeSet<u32>>,
}

#[derive(Clone, Debug, Default)]
struct Postings {
    all: BTreeSet<u32>,
    by_value: HashMap<String, BTreeSet<u32>>,
}

impl IdentityTable {
    /// A table with the reserved identities in it.
    #[must_use]
    pub fn with_reserved() -> Self {
        let mut table = Self::default();
        for identity in RESERVED.iter().filter_map(|(id, _, _)| Identity::reserved(*id)) {
            table.insert(identity);
        }
        table
    }

    /// Adds an identity, or replaces the one of that number, and returns it as shared from now on.
    pub fn insert(&mut self, identity: Identity) -> Arc<Identity> {
        self.remove(identity.id);
        let id = identity.id;
        for (key, value) in &identity.labels.0 {
            let postings = self.by_key.entry(key.key.clone()).or_default();
            postings.all.insert(id);
            postings.by_value.entry(value.clone()).or_default().insert(id);
        }
        if let Some(prefix) = identity.prefix {
            self.by_prefix.entry((prefix.network(), prefix.prefix_len())).or_default().insert(id);
        }
        for selector in &identity.fqdns {
            self.by_fqdn.entry(selector.clone()).or_default().insert(id);
        }
        let identity = Arc::new(identity);
        self.by_id.insert(id, identity.clone());
        identity
    }

    /// Takes an identity out.
    pub fn remove(&mut self, id: u32) -> Option<Arc<Identity>> {
        let identity = self.by_id.remove(&id)?;
        for (key, value) in &identity.labels.0 {
            if let Some(postings) = self.by_key.get_mut(&key.key) {
                postings.all.remove(&id);
                discard(&mut postings.by_value, value, id);
                if postings.all.is_empty() {
                    self.by_key.remove(&key.key);
                }
            }
        }
        if let Some(prefix) = identity.prefix {
            let key = (prefix.network(), prefix.prefix_len());
            if let Some(ids) = self.by_prefix.get_mut(&key) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_prefix.remove(&key);
                }
            }
        }
        for selector in &identity.fqdns {
            discard(&mut self.by_fqdn, selector, id);
        }
        Some(identity)
    }

    #[must_use]
    pub fn identity(&self, id: u32) -> Option<&Arc<Identity>> {
        self.by_id.get(&id)
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.by_id.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The identities that a peer selects. Reads about as many as it returns.
    #[must_use]
    pub fn matching(&self, peer: &Peer) -> Vec<u32> {
        let candidates: Box<dyn Iterator<Item = u32> + '_> = match peer {
            Peer::Labels(selector) => self.candidates(selector),
            Peer::Cidr { net, .. } => Box::new(self.inside(net)),
            Peer::Fqdn(selector) => Box::new(self.by_fqdn.get(selector).into_iter().flatten().copied()),
            Peer::Service(_) | Peer::CidrGroup(_) => Box::new(std::iter::empty()),
        };
        candidates.filter(|id| self.by_id.get(id).is_some_and(|i| peer.matches(i))).collect()
    }

    /// The identities that a label selector selects.
    #[must_use]
    pub fn selected(&self, selector: &Selector) -> Vec<u32> {
        self.candidates(selector)
            .filter(|id| self.by_id.get(id).is_some_and(|i| selector.matches(i)))
            .collect()
    }

    /// A superset of what the selector selects: the shortest list that one of its requirements gives.
    fn candidates<'a>(&'a self, selector: &'a Selector) -> Box<dyn Iterator<Item = u32> + 'a> {
        let mut best: Option<(usize, Vec<&'a BTreeSet<u32>>)> = None;
        for requirement in &selector.requirements {
            // `cidr:` keys match by containment, not by equality.
            if requirement.key.source == crate::labels::Source::Cidr {
                continue;
            }
            let postings = self.by_key.get(&requirement.key.key);
            let sets: Vec<&BTreeSet<u32>> = match &requirement.operator {
                Operator::In(values) => {
                    let distinct: BTreeSet<&String> = values.iter().collect();
                    postings
                        .into_iter()
                        .flat_map(|p| distinct.iter().filter_map(|v| p.by_value.get(*v)))
                        .collect()
                }
                Operator::Exists => postings.into_iter().map(|p| &p.all).collect(),
                Operator::NotIn(_) | Operator::DoesNotExist => continue,
            };
            let size = sets.iter().map(|set| set.len()).sum();
            if best.as_ref().is_none_or(|(smallest, _)| size < *smallest) {
                best = Some((size, sets));
            }
        }
        match best {
            // One identity can carry a key under two sources, so the lists may overlap.
            Some((_, sets)) if sets.len() > 1 => {
                Box::new(sets.into_iter().flatten().copied().collect::<BTreeSet<u32>>().into_iter())
            }
            Some((_, sets)) => Box::new(sets.into_iter().flatten().copied()),
            None => Box::new(self.by_id.keys().copied()),
        }
    }

    /// Identities whose prefix starts inside `net`. Those that are longer than `net` lie in it.
    fn inside(&self, net: &IpNet) -> impl Iterator<Item = u32> + '_ {
        self.by_prefix
            .range((net.network(), net.prefix_len())..=(net.broadcast(), u8::MAX))
            .flat_map(|(_, ids)| ids.iter().copied())
    }
}

fn discard<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<u32>>, key: &K, id: u32) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}
