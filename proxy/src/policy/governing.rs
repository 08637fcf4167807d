//! What decides about all requests of one connection, to see whether a change of policy touched it.

use std::sync::Arc;

use tektin_abi::maps::SteeredValue;

use super::snapshot::{Class, Roots, Snapshot};

/// Equal for two versions of the policies between which nothing changed for the connection. They may
/// differ where nothing did: what was told anew counts as new.
#[derive(Clone, PartialEq)]
pub struct Governing {
    egress: End,
    ingress: End,
}

/// What decides at one end.
#[derive(Clone)]
enum End {
    /// Nothing: no policy, or not of this node.
    Free,
    /// A policy that the proxy does not have: it denies.
    Unknown,
    /// `None`: default deny.
    Class(Option<Arc<Class>>),
}

impl PartialEq for End {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Free, Self::Free) | (Self::Unknown, Self::Unknown) => true,
            (Self::Class(None), Self::Class(None)) => true,
            (Self::Class(Some(one)), Self::Class(Some(other))) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Snapshot {
    #[must_use]
    pub fn governing(&self, steered: &SteeredValue) -> Governing {
        Governing {
            egress: self.end(steered.src_endpoint, |roots| roots.egress, steered.dst_identity),
            ingress: self.end(steered.dst_endpoint, |roots| roots.ingress, steered.src_identity),
        }
    }

    fn end(&self, endpoint: u32, policy: impl Fn(&Roots) -> u32, peer: u32) -> End {
        if endpoint == 0 {
            return End::Free;
        }
        match self.endpoints.get(endpoint).map(policy) {
            None => End::Unknown,
            Some(0) => End::Free,
            Some(id) => match self.policies.get(id) {
                None => End::Unknown,
                Some(direction) => {
                    let class = direction.class_of.get(peer).copied().unwrap_or(0);
                    End::Class(direction.classes.get(class).cloned())
                }
            },
        }
    }
}
