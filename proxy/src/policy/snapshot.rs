//! All policies at one revision; immutable, shared by the threads.

use std::sync::Arc;

use l7_parsers::kafka::RuleSet;

use super::{
    kafka::{self, KafkaRuleError},
    overlay::Overlay,
    rules::{CompiledRules, RuleCache, RuleError},
};
use crate::link_proto::{self, PolicyUpdate};

/// What is in force. Changed only by making another one, which shares what has not changed.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) revision: u32,
    pub(super) endpoints: Overlay<Roots>,
    pub(super) policies: Overlay<Arc<Direction>>,
}

/// Policy ids of an endpoint, 0: no policy selects it in that direction.
#[derive(Clone, Copy, Default)]
pub(super) struct Roots {
    pub(super) ingress: u32,
    pub(super) egress: u32,
}

/// One direction of one subject's policy.
#[derive(Clone)]
pub(super) struct Direction {
    pub(super) class_of: Overlay<u32>,
    pub(super) classes: Overlay<Arc<Class>>,
    pub(super) default_deny_rule: u32,
}

/// What holds for one class of peers over TCP: other protocols have no requests.
#[derive(Default)]
pub(super) struct Class {
    /// Sorted by port, disjoint.
    pub(super) tcp: Vec<Piece>,
    /// For ports that no piece of `tcp` covers.
    pub(super) any_protocol: Option<PieceVerdict>,
}

pub(super) struct Piece {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) verdict: PieceVerdict,
}

#[derive(Clone)]
pub(super) enum PieceVerdict {
    Deny { rule: u32 },
    Allow { rule: u32 },
    Redirect { rule: u32, http: Arc<CompiledRules>, kafka: Arc<RuleSet>, any: Option<u32> },
}

/// Why an update was refused. The policies in force stay.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("policy {policy}: {source}")]
    HttpRule {
        policy: u32,
        #[source]
        source: RuleError,
    },
    #[error("policy {policy}: Kafka {source}")]
    KafkaRule {
        policy: u32,
        #[source]
        source: KafkaRuleError,
    },
    #[error("policy {policy}: {what}")]
    Malformed { policy: u32, what: &'static str },
    #[error("endpoint {endpoint} refers to policy {policy}, which is not known")]
    UnknownPolicy { endpoint: u32, policy: u32 },
}

impl Snapshot {
    #[must_use]
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// The policies after `update`.
    ///
    /// # Errors
    /// [`UpdateError`] where any part of it cannot be enforced; then none of it holds.
    pub fn apply(&self, update: &PolicyUpdate, cache: &mut RuleCache) -> Result<Self, UpdateError> {
        let mut next = if update.full { Self::default() } else { self.clone() };
        next.revision = update.revision;
        for id in &update.removed_policies {
            next.policies.set(*id, None);
        }
        for id in &update.removed_endpoints {
            next.endpoints.set(*id, None);
        }
        for policy in &update.policies {
            if policy.id == 0 {
                return Err(UpdateError::Malformed { policy: 0, what: "0 is no policy id" });
            }
            next.policies.set(policy.id, Some(Arc::new(direction(policy, cache)?)));
        }
        for change in &update.changes {
            let malformed = |what| UpdateError::Malformed { policy: change.id, what };
            let before = next.policies.get(change.id);
            let before = before.ok_or_else(|| malformed("a change of a policy that is not known"))?;
            let after = changed(before, change, cache)?;
            next.policies.set(change.id, Some(Arc::new(after)));
        }
        for root in &update.endpoints {
            let roots = Roots { ingress: root.ingress_policy, egress: root.egress_policy };
            next.endpoints.set(root.endpoint, Some(roots));
        }
        next.check_references(update)?;
        cache.prune();
        Ok(next)
    }

    /// Of the endpoints told of now. Where an older one's policy is gone, everything is denied.
    fn check_references(&self, update: &PolicyUpdate) -> Result<(), UpdateError> {
        for root in &update.endpoints {
            for policy in [root.ingress_policy, root.egress_policy] {
                if policy != 0 && self.policies.get(policy).is_none() {
                    return Err(UpdateError::UnknownPolicy { endpoint: root.endpoint, policy });
                }
            }
        }
        Ok(())
    }
}

fn direction(policy: &link_proto::Policy, cache: &mut RuleCache) -> Result<Direction, UpdateError> {
    let classes = policy
        .classes
        .iter()
        .map(|class| Ok((class.id, Arc::new(self::class(policy.id, class, cache)?))))
        .collect::<Result<Overlay<_>, _>>()?;
    let class_of = policy.class_of.iter().map(|(peer, class)| (*peer, *class)).collect();
    let direction = Direction { class_of, classes, default_deny_rule: policy.default_deny_rule };
    direction.check_classes(policy.id, policy.class_of.values())?;
    Ok(direction)
}

fn changed(
    before: &Direction,
    change: &link_proto::PolicyChange,
    cache: &mut RuleCache,
) -> Result<Direction, UpdateError> {
    let mut after = before.clone();
    after.default_deny_rule = change.default_deny_rule;
    for class in &change.classes {
        after.classes.set(class.id, Some(Arc::new(self::class(change.id, class, cache)?)));
    }
    for id in &change.removed_classes {
        after.classes.set(*id, None);
    }
    for (peer, class) in &change.class_of {
        after.class_of.set(*peer, (*class != 0).then_some(*class));
    }
    after.check_classes(change.id, change.class_of.values())?;
    Ok(after)
}

impl Direction {
    fn check_classes<'a>(
        &self,
        policy: u32,
        mut classes: impl Iterator<Item = &'a u32>,
    ) -> Result<(), UpdateError> {
        if classes.any(|class| *class != 0 && self.classes.get(*class).is_none()) {
            return Err(UpdateError::Malformed { policy, what: "a peer is of a class that is not there" });
        }
        Ok(())
    }
}

fn class(policy: u32, class: &link_proto::Class, cache: &mut RuleCache) -> Result<Class, UpdateError> {
    let malformed = |what| UpdateError::Malformed { policy, what };
    let mut compiled = Class::default();
    for piece in &class.pieces {
        let any_protocol = piece.protocol == 0;
        if !any_protocol && piece.protocol != u32::from(tektin_abi::maps::proto::TCP) {
            continue;
        }
        let port = |port: u32| u16::try_from(port).map_err(|_| malformed("port above 65535"));
        let (first, last) = (port(piece.first_port)?, port(piece.last_port)?);
        let verdict = verdict(policy, piece, cache)?;
        if any_protocol {
            if (first, last) != (0, u16::MAX) || compiled.any_protocol.replace(verdict).is_some() {
                return Err(malformed("a piece of every protocol must be the only one and span all ports"));
            }
            continue;
        }
        if first > last {
            return Err(malformed("port range ends before it begins"));
        }
        compiled.tcp.push(Piece { first, last, verdict });
    }
    compiled.tcp.sort_by_key(|piece| piece.first);
    if compiled.tcp.windows(2).any(|pair| pair[0].last >= pair[1].first) {
        return Err(malformed("port ranges overlap"));
    }
    Ok(compiled)
}

fn verdict(
    policy: u32,
    piece: &link_proto::Piece,
    cache: &mut RuleCache,
) -> Result<PieceVerdict, UpdateError> {
    // A number of a later version is no denial that anybody wrote: refuse it with the update.
    let action = link_proto::Action::try_from(piece.action)
        .map_err(|_| UpdateError::Malformed { policy, what: "unknown action" })?;
    Ok(match action {
        link_proto::Action::Deny => PieceVerdict::Deny { rule: piece.rule },
        link_proto::Action::Allow => PieceVerdict::Allow { rule: piece.rule },
        link_proto::Action::Redirect => PieceVerdict::Redirect {
            rule: piece.rule,
            http: cache.compile(piece).map_err(|source| UpdateError::HttpRule { policy, source })?,
            kafka: kafka::rule_set(&piece.kafka)
                .map(Arc::new)
                .map_err(|source| UpdateError::KafkaRule { policy, source })?,
            any: (piece.any_request_rule != 0).then_some(piece.any_request_rule),
        },
    })
}

#[cfg(test)]
mod tests;
