//! From documents to [`SubjectPolicy`]: all at once for a subject, or following one change at a time.
//!
//! Work follows what matches: peers are looked up in the identity table's indexes, identities that
//! match the same peers are one class, and a class is flattened once. A change of documents touches
//! the identities that its rules' peers select; a new identity, the peers that select it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::{
    compiled::{Class, ClassId, DirectionPolicy, SpecKey, SubjectPolicy},
    direction::Direction,
    identity::{Identity, IdentityTable},
    model::{Origin, Peer},
    policy_set::{DocumentChange, PolicySet},
};

mod changes;
mod flatten;
mod partition;
mod rules;

pub use changes::{Before, DirectionChange, Patch, SubjectChange};

use flatten::{Flattened, Flattener};
use rules::{DirectionRules, Followed, PeerId, speaking};

/// What of an identity decides its class: which peers of the rules match it (ascending), and the
/// port names that the rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    peers: Vec<PeerId>,
    named_ports: rules::ResolvedNames,
}

/// A subject's policy together with what it takes to follow changes without compiling it again.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub policy: SubjectPolicy,
    subject: Arc<Identity>,
    ingress: Option<Classifier>,
    egress: Option<Classifier>,
    /// Not taken yet.
    changes: SubjectChange,
    asked: Vec<Asked>,
}

/// A peer that a subject's rules ask for from now on, or no more. The same one may come twice, once for
/// each direction, and goes twice then.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    NowFor(Peer),
    NoMoreFor(Peer),
}

#[derive(Clone, Debug)]
struct Classifier {
    rules: DirectionRules,
    flattener: Flattener,
    by_content: HashMap<Arc<Flattened>, ClassId>,
    /// Of each class: its content, and how many identities are of it.
    standing: HashMap<ClassId, (Arc<Flattened>, usize)>,
    next_class: ClassId,
    /// Classes that somebody has left since the last sweep.
    left: BTreeSet<ClassId>,
}

/// What adding an identity did to one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// No policy enforces this direction.
    NotEnforced,
    /// A class that was there before. Class 0 needs no entry.
    Existing(ClassId),
    /// A class made just now.
    New(ClassId),
}

/// Compiles the policies of one subject against all identities.
#[must_use]
pub fn compile(policies: &PolicySet, subject: &Identity, identities: &IdentityTable) -> Compiled {
    let mut compiled = Compiled {
        policy: SubjectPolicy::default(),
        subject: Arc::new(subject.clone()),
        ingress: None,
        egress: None,
        changes: SubjectChange::default(),
        asked: Vec::new(),
    };
    for direction in [Direction::Ingress, Direction::Egress] {
        compiled.anew(direction, policies, identities);
    }
    compiled
}

impl Compiled {
    /// Gives a new identity (or one whose labels changed) its class in both directions.
    /// Until this is done, the identity is of class 0: **an identity must not be in use before it
    /// was added**, or deny rules that name it do not hold for it yet.
    pub fn add(&mut self, identity: &Identity) -> (Placement, Placement) {
        let mut add = |direction| match self.side(direction) {
            (Some(classifier), Some(policy), changes) => {
                let placement = classifier.place(identity, policy, changes);
                classifier.sweep(policy, changes);
                placement
            }
            _ => Placement::NotEnforced,
        };
        (add(Direction::Ingress), add(Direction::Egress))
    }

    /// Forgets an identity; its class stays while others are of it.
    pub fn remove(&mut self, identity: u32) {
        for direction in [Direction::Ingress, Direction::Egress] {
            if let (Some(classifier), Some(policy), changes) = self.side(direction) {
                classifier.put(identity, 0, policy, changes);
                classifier.sweep(policy, changes);
            }
        }
    }

    /// Follows a change of documents; `policies` has it made already.
    pub fn follow(&mut self, change: &DocumentChange, policies: &PolicySet, identities: &IdentityTable) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let subject = self.subject.clone();
            let mut asked = Vec::new();
            let followed = match self.side(direction) {
                (Some(classifier), Some(policy), changes) => {
                    let followed = classifier.rules.follow(change, &subject);
                    asked = classifier.rules.take_asked();
                    if let Followed::Peers(peers) = &followed {
                        classifier.rules.copy_default_deny(change, &mut policy.default_deny, changes);
                        classifier.place_selected(peers, identities, policy, changes);
                    }
                    followed
                }
                // Nothing spoke of this direction; does the document now?
                _ => match &change.after {
                    Some(after) if !speaking(after, &subject, direction).is_empty() => Followed::Anew,
                    _ => Followed::Peers(Vec::new()),
                },
            };
            self.asked.extend(asked);
            if matches!(followed, Followed::Anew) {
                self.anew(direction, policies, identities);
            }
        }
    }

    /// The subject is gone: its policy goes as one that no other replaces.
    pub(crate) fn close(&mut self) {
        for direction in [Direction::Ingress, Direction::Egress] {
            self.replace(direction, None, None);
        }
    }

    /// Takes back changes that were taken last and could not be put in force.
    pub(crate) fn give_back(&mut self, earlier: SubjectChange) {
        let later = self.take_changes();
        self.changes = earlier;
        self.changes.ingress.then(later.ingress);
        self.changes.egress.then(later.egress);
    }

    pub(crate) fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// `None` where no policy enforces that direction.
    pub(crate) fn rules(&self, direction: Direction) -> Option<&DirectionRules> {
        match direction {
            Direction::Ingress => self.ingress.as_ref().map(|classifier| &classifier.rules),
            Direction::Egress => self.egress.as_ref().map(|classifier| &classifier.rules),
        }
    }

    /// What has changed since this was asked last (first: since it was compiled).
    pub fn take_changes(&mut self) -> SubjectChange {
        std::mem::take(&mut self.changes)
    }

    fn anew(&mut self, direction: Direction, policies: &PolicySet, identities: &IdentityTable) {
        let rules = DirectionRules::collect(policies, &self.subject, direction);
        let (classifier, policy) = rules.map(|rules| Classifier::compile(rules, identities)).unzip();
        self.replace(direction, classifier, policy);
    }

    fn replace(
        &mut self,
        direction: Direction,
        mut classifier: Option<Classifier>,
        policy: Option<DirectionPolicy>,
    ) {
        let (old, old_policy, changes) = match direction {
            Direction::Ingress => (&mut self.ingress, &mut self.policy.ingress, &mut self.changes.ingress),
            Direction::Egress => (&mut self.egress, &mut self.policy.egress, &mut self.changes.egress),
        };
        if old_policy.is_some() || policy.is_some() {
            changes.replaced(old_policy.take());
        }
        self.asked.extend(old.iter_mut().flat_map(|old| old.rules.ask_no_more()));
        self.asked.extend(classifier.iter_mut().flat_map(|new| new.rules.take_asked()));
        (*old, *old_policy) = (classifier, policy);
    }

    fn side(
        &mut self,
        direction: Direction,
    ) -> (Option<&mut Classifier>, Option<&mut DirectionPolicy>, &mut DirectionChange) {
        match direction {
            Direction::Ingress => {
                (self.ingress.as_mut(), self.policy.ingress.as_mut(), &mut self.changes.ingress)
            }
            Direction::Egress => {
                (self.egress.as_mut(), self.policy.egress.as_mut(), &mut self.changes.egress)
            }
        }
    }
}

impl Classifier {
    fn compile(rules: DirectionRules, identities: &IdentityTable) -> (Self, DirectionPolicy) {
        let mut classifier = Self {
            flattener: Flattener::default(),
            by_content: HashMap::new(),
            standing: HashMap::new(),
            next_class: 0,
            left: BTreeSet::new(),
            rules,
        };
        let mut policy = DirectionPolicy {
            default_deny: classifier.rules.default_deny.clone(),
            ..DirectionPolicy::default()
        };
        // Class 0: who matches no peer, and who is not known.
        let nobody = classifier.class_of(&Signature::default(), &mut policy);
        debug_assert_eq!(nobody, Placement::New(0));
        for (signature, members) in partition::partition(&classifier.rules, identities) {
            let (Placement::New(class) | Placement::Existing(class)) =
                classifier.class_of(&signature, &mut policy)
            else {
                continue;
            };
            if class != 0 {
                if let Some((_, count)) = classifier.standing.get_mut(&class) {
                    *count += members.len();
                }
                policy.class_of.extend(members.into_iter().map(|id| (id, class)));
            }
        }
        (classifier, policy)
    }

    fn place_selected(
        &mut self,
        peers: &[Peer],
        identities: &IdentityTable,
        policy: &mut DirectionPolicy,
        changes: &mut DirectionChange,
    ) {
        let mut selected: Vec<u32> = peers.iter().flat_map(|peer| identities.matching(peer)).collect();
        selected.sort_unstable();
        selected.dedup();
        for identity in selected.iter().filter_map(|id| identities.identity(*id)) {
            self.place(identity, policy, changes);
        }
        self.sweep(policy, changes);
    }

    fn place(
        &mut self,
        identity: &Identity,
        policy: &mut DirectionPolicy,
        changes: &mut DirectionChange,
    ) -> Placement {
        let placement = self.class_of(&self.rules.signature(identity), policy);
        match placement {
            Placement::New(class) => {
                changes.made(class);
                self.put(identity.id, class, policy, changes);
            }
            Placement::Existing(class) => self.put(identity.id, class, policy, changes),
            Placement::NotEnforced => {}
        }
        placement
    }

    fn put(
        &mut self,
        identity: u32,
        class: ClassId,
        policy: &mut DirectionPolicy,
        changes: &mut DirectionChange,
    ) {
        let before = match class {
            0 => policy.class_of.remove(&identity),
            _ => policy.class_of.insert(identity, class),
        };
        let before = before.unwrap_or(0);
        if before == class {
            return;
        }
        changes.moved(identity, before, class);
        if let Some((_, count)) = self.standing.get_mut(&before).filter(|_| before != 0) {
            *count -= 1;
            self.left.insert(before);
        }
        if let Some((_, count)) = self.standing.get_mut(&class).filter(|_| class != 0) {
            *count += 1;
        }
    }

    /// Drops the classes that the last one has left.
    fn sweep(&mut self, policy: &mut DirectionPolicy, changes: &mut DirectionChange) {
        let mut swept = false;
        for class in std::mem::take(&mut self.left) {
            if self.standing.get(&class).is_some_and(|(_, count)| *count == 0)
                && let Some((content, _)) = self.standing.remove(&class)
            {
                self.by_content.remove(&content);
                if let Some(content) = policy.classes.remove(&class) {
                    changes.dropped(class, content);
                }
                swept = true;
            }
        }
        if swept {
            self.flattener.prune();
        }
    }

    fn class_of(&mut self, signature: &Signature, policy: &mut DirectionPolicy) -> Placement {
        let flattened = Arc::new(self.flattener.flatten(&self.rules, signature));
        if let Some(class) = self.by_content.get(&flattened) {
            return Placement::Existing(*class);
        }
        let class = self.next_class;
        self.next_class += 1;
        policy.classes.insert(class, Class { pieces: self.flattener.pieces(&self.rules, &flattened) });
        self.by_content.insert(flattened.clone(), class);
        self.standing.insert(class, (flattened, 0));
        Placement::New(class)
    }
}

impl DirectionRules {
    /// After `change`: which of its specs switch default deny on now.
    fn copy_default_deny(
        &self,
        change: &DocumentChange,
        shown: &mut BTreeMap<SpecKey, Arc<Origin>>,
        changes: &mut DirectionChange,
    ) {
        let specs = |document: &Option<Arc<crate::model::Document>>| {
            document.as_ref().map_or(0, |document| document.specs.len())
        };
        for number in 0..specs(&change.before).max(specs(&change.after)) as u32 {
            let key = SpecKey { document: change.id().clone(), number };
            let before = match self.default_deny.get(&key) {
                Some(origin) => shown.insert(key.clone(), origin.clone()),
                None => shown.remove(&key),
            };
            if before.as_ref() != self.default_deny.get(&key) {
                changes.renamed();
            }
        }
    }
}
