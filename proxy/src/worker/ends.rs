//! Between whom connections are open, so that a change of policy that concerns none of them wakes none.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use tektin_abi::maps::SteeredValue;

use crate::policy::Snapshot;

/// What of a connection decides which policies govern it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    src_endpoint: u32,
    src_identity: u32,
    dst_endpoint: u32,
    dst_identity: u32,
}

/// How many connections are open between the same ends.
#[derive(Default)]
pub(crate) struct Ends(RefCell<HashMap<Pair, usize>>);

/// Whether anything has changed for a connection that is open.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerned {
    Nobody,
    Connections,
}

impl Pair {
    fn of(steered: &SteeredValue) -> Self {
        Self {
            src_endpoint: steered.src_endpoint,
            src_identity: steered.src_identity,
            dst_endpoint: steered.dst_endpoint,
            dst_identity: steered.dst_identity,
        }
    }

    fn steered(self) -> SteeredValue {
        SteeredValue {
            src_endpoint: self.src_endpoint,
            src_identity: self.src_identity,
            dst_endpoint: self.dst_endpoint,
            dst_identity: self.dst_identity,
            ..SteeredValue::default()
        }
    }
}

impl Ends {
    /// To be followed by one [`Ends::leave`], before anything is judged for the connection.
    pub(crate) fn enter(&self, steered: &SteeredValue) {
        *self.0.borrow_mut().entry(Pair::of(steered)).or_default() += 1;
    }

    pub(crate) fn leave(&self, steered: &SteeredValue) {
        if let Entry::Occupied(mut open) = self.0.borrow_mut().entry(Pair::of(steered)) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }

    pub(crate) fn concerned(&self, before: &Snapshot, now: &Snapshot) -> Concerned {
        let differs = |pair: &Pair| {
            let steered = pair.steered();
            before.governing(&steered) != now.governing(&steered)
        };
        if self.0.borrow().keys().any(differs) { Concerned::Connections } else { Concerned::Nobody }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        link_proto::{Class, EndpointRoot, Policy, PolicyUpdate},
        policy::RuleCache,
    };

    /// Endpoints 1 and 2 with a policy each, of whose peers identity 300 is of class 1.
    fn first(cache: &mut RuleCache) -> Snapshot {
        let policy = |id| Policy {
            id,
            classes: vec![Class { id: 1, ..Class::default() }],
            class_of: [(300, 1)].into(),
            ..Policy::default()
        };
        let root =
            |endpoint| EndpointRoot { endpoint, ingress_policy: 10 + endpoint, ..EndpointRoot::default() };
        let policies = vec![policy(11), policy(12)];
        let update =
            PolicyUpdate { revision: 1, policies, endpoints: vec![root(1), root(2)], ..Default::default() };
        Snapshot::default().apply(&update, cache).unwrap()
    }

    #[test]
    fn a_change_concerns_those_whose_class_it_touches_while_they_are_open() {
        let cache = &mut RuleCache::default();
        let before = first(cache);
        let mut after = |policy, peer| {
            let change = crate::link_proto::PolicyChange {
                id: policy,
                class_of: [(peer, 0)].into(),
                ..Default::default()
            };
            let update = PolicyUpdate { revision: 2, changes: vec![change], ..PolicyUpdate::default() };
            before.apply(&update, cache).unwrap()
        };
        let (of_the_other, of_another_peer, of_it) = (after(12, 300), after(11, 301), after(11, 300));
        let steered = SteeredValue { dst_endpoint: 1, src_identity: 300, ..SteeredValue::default() };
        let ends = Ends::default();
        assert_eq!(ends.concerned(&before, &of_it), Concerned::Nobody);
        ends.enter(&steered);
        ends.enter(&steered);
        assert_eq!(ends.concerned(&before, &of_the_other), Concerned::Nobody);
        assert_eq!(ends.concerned(&before, &of_another_peer), Concerned::Nobody);
        assert_eq!(ends.concerned(&before, &of_it), Concerned::Connections);
        ends.leave(&steered);
        assert_eq!(ends.concerned(&before, &of_it), Concerned::Connections);
        ends.leave(&steered);
        assert_eq!(ends.concerned(&before, &of_it), Concerned::Nobody);
        assert!(ends.0.borrow().is_empty());
    }
}
