//! The two directions of a subject's policy.

use std::fmt;

use crate::model::{Rule, Spec};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the subject.
    Ingress,
    /// From the subject.
    Egress,
}

impl Direction {
    #[must_use]
    pub fn allow_rules(self, spec: &Spec) -> &[Rule] {
        match self {
            Self::Ingress => &spec.ingress,
            Self::Egress => &spec.egress,
        }
    }

    #[must_use]
    pub fn deny_rules(self, spec: &Spec) -> &[Rule] {
        match self {
            Self::Ingress => &spec.ingress_deny,
            Self::Egress => &spec.egress_deny,
        }
    }

    #[must_use]
    pub fn default_deny(self, spec: &Spec) -> bool {
        match self {
            Self::Ingress => spec.default_deny_ingress,
            Self::Egress => spec.default_deny_egress,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}
