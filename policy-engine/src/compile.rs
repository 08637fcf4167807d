//! From documents to [`SubjectPolicy`]: all at once for a subject, or one identity at a time.
//!
//! Work follows what matches: peers are looked up in the identity table's indexes, identities that
//! match the same peers are one class, and a class is flattened once.

use std::collections::HashMap;

use crate::{
    compiled::{Class, ClassId, DirectionPolicy, SubjectPolicy},
    direction::Direction,
    identity::{Identity, IdentityTable},
    policy_set::PolicySet,
};

mod flatten;
mod partition;
mod rules;

use flatten::{Flattened, Flattener};
use rules::DirectionRules;

/// What of an identity decides its class: which peers of the rules match it (indexes into
/// `DirectionRules::peers`, ascending), and the port names that the rules ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    peers: Vec<u32>,
    named_ports: rules::ResolvedNames,
}

/// A subject's policy together with what it takes to add identities without compiling it again.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub policy: SubjectPolicy,
    ingress: Option<Classifier>,
    egress: Option<Classifier>,
}

#[derive(Clone, Debug)]
struct Classifier {
    rules: DirectionRules,
    flattener: Flattener,
    by_signature: HashMap<Signature, ClassId>,
    by_content: HashMap<Flattened, ClassId>,
}

/// What adding an identity did to one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// No policy enforces this direction.
    NotEnforced,
    /// A class that was there before. Class 0 needs no entry.
    Existing(ClassId),
    /// The last of `classes`, appended just now.
    New(ClassId),
}

/// Compiles the policies of one subject against all identities.
#[must_use]
pub fn compile(policies: &PolicySet, subject: &Identity, identities: &IdentityTable) -> Compiled {
    let direction = |direction| {
        let rules = DirectionRules::collect(policies, subject, direction)?;
        Some(Classifier::compile(rules, identities))
    };
    let (ingress, egress) = (direction(Direction::Ingress), direction(Direction::Egress));
    let (ingress, ingress_policy) = ingress.unzip();
    let (egress, egress_policy) = egress.unzip();
    Compiled { policy: SubjectPolicy { ingress: ingress_policy, egress: egress_policy }, ingress, egress }
}

impl Compiled {
    /// Gives a new identity (or one whose labels changed) its class in both directions.
    /// Until this is done, the identity is of class 0: **an identity must not be in use before it
    /// was added**, or deny rules that name it do not hold for it yet.
    pub fn add(&mut self, identity: &Identity) -> (Placement, Placement) {
        (
            place(&mut self.ingress, &mut self.policy.ingress, identity),
            place(&mut self.egress, &mut self.policy.egress, identity),
        )
    }

    /// Forgets an identity; its class stays for others.
    pub fn remove(&mut self, identity: u32) {
        for policy in [&mut self.policy.ingress, &mut self.policy.egress].into_iter().flatten() {
            policy.class_of.remove(&identity);
        }
    }
}

fn place(
    classifier: &mut Option<Classifier>,
    policy: &mut Option<DirectionPolicy>,
    identity: &Identity,
) -> Placement {
    let (Some(classifier), Some(policy)) = (classifier, policy) else {
        return Placement::NotEnforced;
    };
    let before = policy.classes.len();
    let class = classifier.class_of(classifier.rules.signature(identity), policy);
    if class == 0 {
        policy.class_of.remove(&identity.id);
    } else {
        policy.class_of.insert(identity.id, class);
    }
    if policy.classes.len() > before { Placement::New(class) } else { Placement::Existing(class) }
}

impl Classifier {
    fn compile(rules: DirectionRules, identities: &IdentityTable) -> (Self, DirectionPolicy) {
        let mut classifier = Self {
            flattener: Flattener::default(),
            by_signature: HashMap::new(),
            by_content: HashMap::new(),
            rules,
        };
        let mut policy = DirectionPolicy {
            default_deny: classifier.rules.default_deny.clone(),
            ..DirectionPolicy::default()
        };
        // Class 0: who matches no peer, and who is not known.
        let nobody = classifier.class_of(Signature::default(), &mut policy);
        debug_assert_eq!(nobody, 0);
        for (signature, members) in partition::partition(&classifier.rules, identities) {
            let class = classifier.class_of(signature, &mut policy);
            if class != 0 {
                policy.class_of.extend(members.into_iter().map(|id| (id, class)));
            }
        }
        (classifier, policy)
    }

    fn class_of(&mut self, signature: Signature, policy: &mut DirectionPolicy) -> ClassId {
        if let Some(class) = self.by_signature.get(&signature) {
            return *class;
        }
        let flattened = self.flattener.flatten(&self.rules, &signature);
        let class = *self.by_content.entry(flattened).or_insert_with_key(|flattened| {
            policy.classes.push(Class { pieces: self.flattener.pieces(&self.rules, flattened) });
            // Classes are fewer than identities, whose numbers are 32 bits wide.
            (policy.classes.len() - 1) as ClassId
        });
        self.by_signature.insert(signature, class);
        class
    }
}
