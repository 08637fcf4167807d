//! All documents in force, and the options that change what they mean.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    identity::Identity,
    model::{Document, DocumentId, FqdnSelector, Peer, Peers, Rule, Selector, Spec, Subject},
    selector_index::SelectorIndex,
};

/// Whether the local host may always enter a workload (Kubernetes probes need it).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowLocalhost {
    /// Yes, unless a deny rule says no; L7 rules still apply.
    #[default]
    Always,
    /// Only where a policy allows it.
    Policy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub allow_localhost: AllowLocalhost,
}

/// The documents in force, in the order of their ids. Where several rules of equal strength match,
/// the first in this order is the one that is named.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    documents: BTreeMap<DocumentId, Arc<Document>>,
    /// Documents by the labels of those whom they select.
    by_subject: SelectorIndex<Arc<DocumentId>>,
    pub options: Options,
}

/// One document before and after. `None` stands for "was not there" and "is gone".
#[derive(Clone, Debug)]
pub struct DocumentChange {
    id: Arc<DocumentId>,
    pub before: Option<Arc<Document>>,
    pub after: Option<Arc<Document>>,
}

impl DocumentChange {
    /// `None` where nothing changes.
    #[must_use]
    pub fn new(before: Option<Arc<Document>>, after: Option<Arc<Document>>) -> Option<Self> {
        let id = before.as_ref().or(after.as_ref())?.id.clone();
        (before != after).then_some(Self { id, before, after })
    }

    #[must_use]
    pub fn id(&self) -> &Arc<DocumentId> {
        &self.id
    }

    /// What takes the change back.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { id: self.id.clone(), before: self.after.clone(), after: self.before.clone() }
    }
}

impl PolicySet {
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Puts a document in force and returns the one it replaces.
    pub fn upsert(&mut self, document: impl Into<Arc<Document>>) -> Option<Arc<Document>> {
        let document = document.into();
        let before = self.remove(&document.id);
        for selector in subjects(&document) {
            self.by_subject.insert(selector, &document.id);
        }
        self.documents.insert((*document.id).clone(), document);
        before
    }

    pub fn remove(&mut self, id: &DocumentId) -> Option<Arc<Document>> {
        let document = self.documents.remove(id)?;
        for selector in subjects(&document) {
            self.by_subject.remove(selector, &document.id);
        }
        Some(document)
    }

    /// Makes the change.
    pub fn follow(&mut self, change: &DocumentChange) {
        match &change.after {
            Some(document) => drop(self.upsert(document.clone())),
            None => drop(self.remove(&change.id)),
        }
    }

    /// Documents that may select the subject, all that do among them, in their order.
    pub fn selecting(&self, subject: &Identity) -> impl Iterator<Item = &Arc<Document>> {
        self.by_subject.candidates(subject).into_iter().filter_map(|id| self.documents.get(&*id))
    }

    #[must_use]
    pub fn document(&self, id: &DocumentId) -> Option<&Arc<Document>> {
        self.documents.get(id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// Every prefix that a CIDR rule names, as `net` or as `except`: each needs an identity of its
    /// own, or addresses inside and outside could not be told apart.
    #[must_use]
    pub fn prefixes(&self) -> BTreeSet<IpNet> {
        self.iter().flat_map(|document| document_prefixes(document)).collect()
    }

    /// Every selector of a toFQDNs rule.
    #[must_use]
    pub fn fqdn_selectors(&self) -> BTreeSet<FqdnSelector> {
        let fqdn = |peer: &Peer| match peer {
            Peer::Fqdn(selector) => Some(selector.clone()),
            _ => None,
        };
        self.iter().flat_map(|document| document_peers(document)).filter_map(fqdn).collect()
    }
}

/// The prefixes that one document names.
#[must_use]
pub fn document_prefixes(document: &Document) -> BTreeSet<IpNet> {
    document_peers(document)
        .flat_map(|peer| match peer {
            Peer::Cidr { net, except } => std::iter::once(*net).chain(except.iter().copied()).collect(),
            _ => Vec::new(),
        })
        .collect()
}

/// Which of the subjects a change touches: those that the document selected before or selects now.
/// `None` stands for "was not there" and "is gone".
pub fn subjects_affected<'a>(
    before: Option<&'a Document>,
    after: Option<&'a Document>,
    subjects: impl IntoIterator<Item = &'a Identity>,
) -> Vec<u32> {
    let specs: Vec<&Spec> = before.into_iter().chain(after).flat_map(|d| &d.specs).collect();
    subjects
        .into_iter()
        .filter(|subject| specs.iter().any(|spec| spec.subject.matches(subject)))
        .map(|subject| subject.id)
        .collect()
}

fn subjects(document: &Document) -> impl Iterator<Item = &Selector> {
    document.specs.iter().map(|spec| match &spec.subject {
        Subject::Endpoints(selector) | Subject::Nodes(selector) => selector,
    })
}

fn document_peers(document: &Document) -> impl Iterator<Item = &Peer> {
    document.specs.iter().flat_map(spec_rules).flat_map(|rule| match &rule.peers {
        Peers::Any => [].as_slice(),
        Peers::OneOf(peers) => peers.as_slice(),
    })
}

fn spec_rules(spec: &Spec) -> impl Iterator<Item = &Rule> {
    spec.ingress.iter().chain(&spec.ingress_deny).chain(&spec.egress).chain(&spec.egress_deny)
}
