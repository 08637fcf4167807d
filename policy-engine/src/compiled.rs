//! The compiled form of the policies that select one subject: a function from
//! (direction, peer identity, protocol, port) to a verdict, flattened so that nobody who reads it
//! needs to know about precedence.
//!
//! Peers that the policies treat alike share a *class*. A class is a list of pieces, sorted and
//! disjoint within a protocol; what no piece covers is denied by default.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{DocumentId, KafkaRule, Origin, Protocol, RequestRules};

/// Key of [`DirectionPolicy::classes`]. A number is never given twice to one subject and direction.
pub type ClassId = u32;

/// Policies of one subject. `None`: no policy enforces that direction; everything passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubjectPolicy {
    pub ingress: Option<DirectionPolicy>,
    pub egress: Option<DirectionPolicy>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DirectionPolicy {
    /// Identity of the peer to its class; who is not listed is of class 0.
    pub class_of: BTreeMap<u32, ClassId>,
    /// Class 0 is always there; others as long as somebody is of them.
    pub classes: BTreeMap<ClassId, Class>,
    /// The specs that switched default deny on; named when nothing matches.
    pub default_deny: BTreeMap<SpecKey, Arc<Origin>>,
}

/// A spec among all: by its document and number there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpecKey {
    pub document: Arc<DocumentId>,
    pub number: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// Pieces of `protocol: None` hold for every protocol that has no piece of its own there;
    /// they always span all ports.
    pub pieces: Vec<Piece>,
}

/// One verdict for an inclusive range of ports (of ICMP: types) of one protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub protocol: Option<Protocol>,
    pub first: u16,
    pub last: u16,
    pub verdict: L4Verdict,
}

/// What holds for a packet; the rule is the one to name when asked why.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub enum L4Verdict {
    /// An explicit deny rule. What no piece covers is denied by default instead.
    Deny {
        rule: Arc<Origin>,
    },
    Allow {
        rule: Arc<Origin>,
    },
    /// Requests are judged one by one.
    Redirect {
        rule: Arc<Origin>,
        l7: Arc<L7Rules>,
    },
}

/// The union of the L7 rules that hold for a peer and port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct L7Rules {
    /// An HTTP request (a gRPC one is one) passes if one of these matches.
    pub requests: RequestRules,
    /// The same for Kafka, where each name that a request has is judged.
    pub kafka: Vec<KafkaRule>,
    /// A plain allow covers the same traffic: every request passes, by this rule.
    pub any: Option<Arc<Origin>>,
}
