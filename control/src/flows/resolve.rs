//! What a record needs to know beyond the numbers that kernel and proxy send.

use std::sync::Arc;

/// Which of an endpoint's two policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    pub name: Arc<str>,
    pub namespace: Arc<str>,
}

/// Names for numbers, as they are known now. The agent implements it; every answer is cheap, for
/// it is asked for each record.
pub trait Resolve: Send + Sync {
    /// The node's name.
    fn node(&self) -> Arc<str>;
    /// `source:key=value` of an identity, sorted; `None`: unknown.
    fn identity_labels(&self, identity: u32) -> Option<Arc<[Arc<str>]>>;
    /// An endpoint of this node; `None`: gone.
    fn endpoint(&self, id: u32) -> Option<EndpointName>;
    /// The text of a rule id; `None`: no longer in force.
    fn rule(&self, id: u32) -> Option<Arc<str>>;
    /// The documents that switched default deny on for the endpoint, joined by `, `.
    fn default_deny(&self, endpoint: u32, direction: Direction) -> Option<Arc<str>>;
}
