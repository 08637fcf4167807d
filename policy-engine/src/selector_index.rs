//! From an identity to the selectors and peers that may select it, without asking the others.
//!
//! A selector is kept under one of its requirements, the one that tells most; who looks up an
//! identity's labels finds it there and asks the whole selector.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
};

use ipnet::IpNet;

use crate::{
    identity::Identity,
    labels::{CLUSTER, NAMESPACE, NAMESPACE_LABELS, Source},
    model::{FqdnSelector, Operator, Peer, Requirement, Selector},
};

/// Selectors, each with what asks for it. Several may ask for the same.
#[derive(Clone, Debug)]
pub(crate) struct SelectorIndex<T> {
    by_value: HashMap<String, HashMap<String, Counted<T>>>,
    by_key: HashMap<String, Counted<T>>,
    /// Selectors that no label leads to.
    others: Counted<T>,
}

/// As [`SelectorIndex`], for every kind of peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerIndex<T> {
    labels: SelectorIndex<T>,
    nets: HashMap<IpNet, Counted<T>>,
    fqdns: HashMap<FqdnSelector, Counted<T>>,
}

/// How often each was entered.
type Counted<T> = BTreeMap<T, u32>;

/// Where a selector is kept.
enum Place<'a> {
    Values(&'a str, BTreeSet<&'a str>),
    Key(&'a str),
    Others,
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self { by_value: HashMap::new(), by_key: HashMap::new(), others: BTreeMap::new() }
    }
}

impl<T> Default for PeerIndex<T> {
    fn default() -> Self {
        Self { labels: SelectorIndex::default(), nets: HashMap::new(), fqdns: HashMap::new() }
    }
}

impl<T: Ord + Clone> SelectorIndex<T> {
    pub(crate) fn insert(&mut self, selector: &Selector, who: &T) {
        match place(selector) {
            Place::Values(key, values) => {
                let of_key = self.by_value.entry(key.to_owned()).or_default();
                for value in values {
                    enter(of_key.entry(value.to_owned()).or_default(), who);
                }
            }
            Place::Key(key) => enter(self.by_key.entry(key.to_owned()).or_default(), who),
            Place::Others => enter(&mut self.others, who),
        }
    }

    /// Takes back one insertion.
    pub(crate) fn remove(&mut self, selector: &Selector, who: &T) {
        match place(selector) {
            Place::Values(key, values) => {
                let Some(of_key) = self.by_value.get_mut(key) else { return };
                values.into_iter().for_each(|value| leave(of_key, value, who));
                if of_key.is_empty() {
                    self.by_value.remove(key);
                }
            }
            Place::Key(key) => leave(&mut self.by_key, key, who),
            Place::Others => discard(&mut self.others, who),
        }
    }

    /// Whoever asks for a selector that may select the identity.
    pub(crate) fn candidates(&self, identity: &Identity) -> BTreeSet<T> {
        let mut found: BTreeSet<T> = self.others.keys().cloned().collect();
        for (key, value) in &identity.labels.0 {
            let by_value = self.by_value.get(&key.key).and_then(|values| values.get(value));
            for asking in by_value.into_iter().chain(self.by_key.get(&key.key)) {
                found.extend(asking.keys().cloned());
            }
        }
        found
    }
}

impl<T: Ord + Clone> PeerIndex<T> {
    pub(crate) fn insert(&mut self, peer: &Peer, who: &T) {
        match peer {
            Peer::Labels(selector) => self.labels.insert(selector, who),
            Peer::Cidr { net, .. } => enter(self.nets.entry(net.trunc()).or_default(), who),
            Peer::Fqdn(selector) => enter(self.fqdns.entry(selector.clone()).or_default(), who),
            Peer::Service(_) | Peer::CidrGroup(_) => {}
        }
    }

    /// Takes back one insertion.
    pub(crate) fn remove(&mut self, peer: &Peer, who: &T) {
        match peer {
            Peer::Labels(selector) => self.labels.remove(selector, who),
            Peer::Cidr { net, .. } => leave(&mut self.nets, &net.trunc(), who),
            Peer::Fqdn(selector) => leave(&mut self.fqdns, selector, who),
            Peer::Service(_) | Peer::CidrGroup(_) => {}
        }
    }

    /// Whoever asks for a peer that may be the identity.
    pub(crate) fn candidates(&self, identity: &Identity) -> BTreeSet<T> {
        let mut found = self.labels.candidates(identity);
        let mut covering = identity.prefix.filter(|_| !self.nets.is_empty());
        while let Some(net) = covering {
            found.extend(self.nets.get(&net).into_iter().flat_map(|asking| asking.keys().cloned()));
            covering = net.supernet();
        }
        for selector in &identity.fqdns {
            found.extend(self.fqdns.get(selector).into_iter().flat_map(|asking| asking.keys().cloned()));
        }
        found
    }
}

fn place(selector: &Selector) -> Place<'_> {
    // `cidr:` keys match by containment, not by equality.
    let by_label = |requirement: &&Requirement| requirement.key.source != Source::Cidr;
    let mut best: Option<(u8, Place<'_>)> = None;
    for requirement in selector.requirements.iter().filter(by_label) {
        let key = requirement.key.key.as_str();
        let (rank, place) = match &requirement.operator {
            Operator::In(values) => {
                (u8::from(is_broad(key)), Place::Values(key, values.iter().map(String::as_str).collect()))
            }
            Operator::Exists => (2 + u8::from(is_broad(key)), Place::Key(key)),
            Operator::NotIn(_) | Operator::DoesNotExist => continue,
        };
        if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
            best = Some((rank, place));
        }
    }
    best.map_or(Place::Others, |(_, place)| place)
}

/// Keys that many workloads carry with the same value.
fn is_broad(key: &str) -> bool {
    key == NAMESPACE || key == CLUSTER || key.starts_with(NAMESPACE_LABELS)
}

fn enter<T: Ord + Clone>(counted: &mut Counted<T>, who: &T) {
    match counted.get_mut(who) {
        Some(count) => *count += 1,
        None => drop(counted.insert(who.clone(), 1)),
    }
}

fn discard<T: Ord>(counted: &mut Counted<T>, who: &T) {
    if let Some(count) = counted.get_mut(who) {
        *count -= 1;
        if *count == 0 {
            counted.remove(who);
        }
    }
}

fn leave<K, Q, T>(map: &mut HashMap<K, Counted<T>>, key: &Q, who: &T)
where
    K: Hash + Eq + std::borrow::Borrow<Q>,
    Q: Hash + Eq + ?Sized,
    T: Ord,
{
    if let Some(counted) = map.get_mut(key) {
        discard(counted, who);
        if counted.is_empty() {
            map.remove(key);
        }
    }
}
