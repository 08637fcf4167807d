//! Which identities a selector, a peer, a subject selects.

use ipnet::IpNet;

use crate::{
    identity::{HOST, Identity},
    labels::{LabelKey, Source},
    model::{Operator, Peer, Peers, Requirement, Selector, Subject},
};

impl Selector {
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(identity))
    }

    /// Selects everybody, also identities that nobody knows yet.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Requirement {
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match &self.operator {
            Operator::In(values) => has_label(identity, &self.key, |value| values.iter().any(|v| v == value)),
            Operator::NotIn(values) => {
                !has_label(identity, &self.key, |value| values.iter().any(|v| v == value))
            }
            Operator::Exists => has_label(identity, &self.key, |_| true),
            Operator::DoesNotExist => !has_label(identity, &self.key, |_| true),
        }
    }
}

fn has_label(identity: &Identity, key: &LabelKey, value_matches: impl Fn(&str) -> bool) -> bool {
    match key.source {
        Source::Any => identity.labels.0.iter().any(|(k, v)| k.key == key.key && value_matches(v)),
        // A `cidr:` key stands for every address inside it, not for the one prefix of that text.
        Source::Cidr => {
            let inside = |net: IpNet| identity.prefix.is_some_and(|prefix| net.contains(&prefix));
            key.key.parse().is_ok_and(inside) && value_matches("")
        }
        _ => identity.labels.0.get(key).is_some_and(|v| value_matches(v)),
    }
}

impl Peer {
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match self {
            Self::Labels(selector) => selector.matches(identity),
            Self::Cidr { net, except } => identity.prefix.is_some_and(|prefix| {
                net.contains(&prefix) && !except.iter().any(|hole| hole.contains(&prefix))
            }),
            Self::Fqdn(selector) => identity.fqdns.contains(selector),
            // Nobody knows their addresses yet: selecting nobody is the safe reading of an allow,
            // and documents with a deny on them are refused.
            Self::Service(_) | Self::CidrGroup(_) => false,
        }
    }

    /// Selects everybody, also identities that nobody knows yet.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Labels(selector) if selector.is_wildcard())
    }
}

impl Peers {
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(peers) => peers.iter().any(|peer| peer.matches(identity)),
        }
    }
}

impl Subject {
    /// Endpoint policies never hold for the host, node policies for nothing else.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match self {
            Self::Endpoints(selector) => identity.id != HOST && selector.matches(identity),
            Self::Nodes(selector) => identity.id == HOST && selector.matches(identity),
        }
    }
}
