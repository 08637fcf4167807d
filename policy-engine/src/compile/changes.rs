//! What a step did to a subject's policy, so that those who keep a copy need not look at the rest.

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::{Class, ClassId, DirectionPolicy};

/// Changes of both directions.
#[derive(Clone, Debug, Default)]
pub struct SubjectChange {
    pub ingress: DirectionChange,
    pub egress: DirectionChange,
}

#[derive(Clone, Debug, Default)]
pub enum DirectionChange {
    #[default]
    Nothing,
    Patch(Patch),
    /// Compiled anew: class numbers mean something else now. `before` is what was in its place when
    /// changes were taken last.
    Anew {
        before: Option<Before>,
    },
}

/// A policy that was replaced as it was then, and how it had come to that since changes were taken.
#[derive(Clone, Debug)]
pub struct Before {
    pub policy: DirectionPolicy,
    pub patch: Patch,
}

/// Changes of single entries.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Identities with the class of before and of now; 0: no entry.
    pub moved: BTreeMap<u32, (ClassId, ClassId)>,
    /// Classes made; they may be gone again.
    pub made: BTreeSet<ClassId>,
    /// Classes that nobody is of any more, with what they were.
    pub dropped: BTreeMap<ClassId, Class>,
    /// Other specs switch default deny on now.
    pub renamed: bool,
}

impl SubjectChange {
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!((&self.ingress, &self.egress), (DirectionChange::Nothing, DirectionChange::Nothing))
    }
}

impl Patch {
    fn then(&mut self, later: Self) {
        for (identity, (before, now)) in later.moved {
            self.moved.entry(identity).or_insert((before, now)).1 = now;
        }
        self.made.extend(later.made);
        self.dropped.extend(later.dropped);
        self.renamed |= later.renamed;
    }
}

impl DirectionChange {
    /// The policy `old` is replaced by one that was compiled anew.
    pub(super) fn replaced(&mut self, old: Option<DirectionPolicy>) {
        let before = match std::mem::take(self) {
            Self::Nothing => old.map(|policy| Before { policy, patch: Patch::default() }),
            Self::Patch(patch) => old.map(|policy| Before { policy, patch }),
            // Nobody has seen what came in between.
            Self::Anew { before } => before,
        };
        *self = Self::Anew { before };
    }

    /// These changes, and after them `later` ones.
    pub(super) fn then(&mut self, later: Self) {
        *self = match (std::mem::take(self), later) {
            (earlier, Self::Nothing) => earlier,
            (Self::Nothing, later) => later,
            (Self::Patch(mut earlier), Self::Patch(later)) => {
                earlier.then(later);
                Self::Patch(earlier)
            }
            (Self::Patch(mut earlier), Self::Anew { before }) => Self::Anew {
                before: before.map(|Before { policy, patch }| {
                    earlier.then(patch);
                    Before { policy, patch: earlier }
                }),
            },
            // Nobody has seen what came in between.
            (earlier @ Self::Anew { .. }, _) => earlier,
        };
    }

    fn patch(&mut self) -> Option<&mut Patch> {
        if let Self::Nothing = self {
            *self = Self::Patch(Patch::default());
        }
        match self {
            Self::Patch(patch) => Some(patch),
            // Everything is new anyway.
            Self::Nothing | Self::Anew { .. } => None,
        }
    }

    pub(super) fn moved(&mut self, identity: u32, before: ClassId, now: ClassId) {
        let Some(patch) = self.patch() else { return };
        let entry = patch.moved.entry(identity).or_insert((before, now));
        entry.1 = now;
    }

    pub(super) fn made(&mut self, class: ClassId) {
        if let Some(patch) = self.patch() {
            patch.made.insert(class);
        }
    }

    pub(super) fn dropped(&mut self, class: ClassId, content: Class) {
        if let Some(patch) = self.patch() {
            patch.dropped.insert(class, content);
        }
    }

    pub(super) fn renamed(&mut self) {
        if let Some(patch) = self.patch() {
            patch.renamed = true;
        }
    }
}
