//! All subjects of a node with their policies, kept up to date change by change.
//!
//! Cost follows the change: a document concerns the subjects that it selects, and of those the
//! identities that its changed rules name; an identity concerns the subjects whose rules may name it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    compile::{Asked, Compiled, SubjectChange, compile},
    direction::Direction,
    identity::{Identity, IdentityTable},
    model::Subject,
    policy_set::{DocumentChange, Options, PolicySet},
    selector_index::PeerIndex,
};

/// Documents, identities, and the compiled policies of the subjects among them.
#[derive(Clone, Debug)]
pub struct Engine {
    policies: PolicySet,
    identities: IdentityTable,
    subjects: BTreeMap<u32, Compiled>,
    /// The subjects' identities once more: documents find here whom they select.
    subject_table: IdentityTable,
    /// Whose rules ask for a peer.
    interest: PeerIndex<u32>,
    /// Whose rules name ports of their peers.
    asking_names: BTreeSet<u32>,
    /// Subjects whose changes were not taken yet, perhaps.
    touched: BTreeSet<u32>,
    /// What has become of subjects that are gone.
    gone: BTreeMap<u32, SubjectChange>,
}

impl Engine {
    /// Without documents and subjects; of the identities, the reserved ones are known.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            policies: PolicySet::new(options),
            identities: IdentityTable::with_reserved(),
            subjects: BTreeMap::new(),
            subject_table: IdentityTable::default(),
            interest: PeerIndex::default(),
            asking_names: BTreeSet::new(),
            touched: BTreeSet::new(),
            gone: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    #[must_use]
    pub fn identities(&self) -> &IdentityTable {
        &self.identities
    }

    #[must_use]
    pub fn subject(&self, identity: u32) -> Option<&Compiled> {
        self.subjects.get(&identity)
    }

    pub fn subjects(&self) -> impl Iterator<Item = (u32, &Compiled)> {
        self.subjects.iter().map(|(identity, compiled)| (*identity, compiled))
    }

    /// Makes a number known that stands for nobody yet, and gives it its class everywhere.
    /// **It must not be in use before the changes that this makes are in force.**
    pub fn add_identity(&mut self, identity: Identity) -> Arc<Identity> {
        let identity = self.identities.insert(identity);
        for subject in self.asking(&identity) {
            if let Some(compiled) = self.subjects.get_mut(&subject) {
                let _ = compiled.add(&identity);
                self.touched.insert(subject);
            }
        }
        identity
    }

    pub fn remove_identity(&mut self, id: u32) {
        let Some(identity) = self.identities.remove(id) else { return };
        for subject in self.asking(&identity) {
            if let Some(compiled) = self.subjects.get_mut(&subject) {
                compiled.remove(id);
                self.touched.insert(subject);
            }
        }
    }

    /// Polices a known identity from now on.
    pub fn add_subject(&mut self, id: u32) {
        let Some(identity) = self.identities.identity(id).filter(|_| !self.subjects.contains_key(&id)) else {
            return;
        };
        self.subject_table.insert((**identity).clone());
        let mut compiled = compile(&self.policies, identity, &self.identities);
        if let Some(before) = self.gone.remove(&id) {
            compiled.give_back(before);
        }
        self.subjects.insert(id, compiled);
        self.note(id);
    }

    pub fn remove_subject(&mut self, id: u32) {
        let Some(mut compiled) = self.subjects.remove(&id) else { return };
        compiled.close();
        self.subject_table.remove(id);
        let change = compiled.take_changes();
        self.follow_interest(id, compiled.take_asked());
        self.asking_names.remove(&id);
        self.touched.remove(&id);
        if !change.is_nothing() {
            self.gone.insert(id, change);
        }
    }

    /// Puts another version of a document in force, or the first one, or takes it out of force.
    pub fn follow(&mut self, change: &DocumentChange) {
        self.policies.follow(change);
        let specs = change.before.iter().chain(&change.after).flat_map(|document| &document.specs);
        let selected: BTreeSet<u32> = specs
            .flat_map(|spec| {
                let (Subject::Endpoints(selector) | Subject::Nodes(selector)) = &spec.subject;
                self.subject_table.selected(selector)
            })
            .collect();
        for subject in selected {
            if let Some(compiled) = self.subjects.get_mut(&subject) {
                compiled.follow(change, &self.policies, &self.identities);
                self.note(subject);
            }
        }
    }

    /// What has changed since this was asked last, by subject.
    #[must_use]
    pub fn take_changes(&mut self) -> BTreeMap<u32, SubjectChange> {
        let mut changes = std::mem::take(&mut self.gone);
        for subject in std::mem::take(&mut self.touched) {
            if let Some(compiled) = self.subjects.get_mut(&subject) {
                let change = compiled.take_changes();
                if !change.is_nothing() {
                    changes.insert(subject, change);
                }
            }
        }
        changes
    }

    /// Takes back changes that were taken last and could not be put in force.
    pub fn give_back(&mut self, changes: BTreeMap<u32, SubjectChange>) {
        for (subject, change) in changes {
            match self.subjects.get_mut(&subject) {
                Some(compiled) => {
                    compiled.give_back(change);
                    self.touched.insert(subject);
                }
                None => drop(self.gone.insert(subject, change)),
            }
        }
    }

    /// Subjects whose rules may treat the identity otherwise than somebody unknown.
    fn asking(&self, identity: &Identity) -> BTreeSet<u32> {
        let mut asking = self.interest.candidates(identity);
        if !identity.named_ports.0.is_empty() {
            asking.extend(&self.asking_names);
        }
        asking
    }

    /// After a subject was compiled or has followed a change.
    fn note(&mut self, subject: u32) {
        self.touched.insert(subject);
        let Some(compiled) = self.subjects.get_mut(&subject) else { return };
        let asked = compiled.take_asked();
        if compiled.asks_for_names() {
            self.asking_names.insert(subject);
        } else {
            self.asking_names.remove(&subject);
        }
        self.follow_interest(subject, asked);
    }

    fn follow_interest(&mut self, subject: u32, asked: Vec<Asked>) {
        for asked in asked {
            match asked {
                Asked::NowFor(peer) => self.interest.insert(&peer, &subject),
                Asked::NoMoreFor(peer) => self.interest.remove(&peer, &subject),
            }
        }
    }
}

impl Compiled {
    fn asks_for_names(&self) -> bool {
        [Direction::Ingress, Direction::Egress]
            .into_iter()
            .any(|direction| self.rules(direction).is_some_and(|rules| !rules.names.is_empty()))
    }
}
