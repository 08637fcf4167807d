//! Between whom connections are open, so that a change of policy that concerns none of them wakes none.
//!
//! An end that is not on this node is known by the longest prefix that rules name, which is another when
//! policies are. It is looked up when a connection begins and with each new policy: the agent tells a policy
//! that judges by a prefix's identity before it writes the prefix, and takes it out after it is written no more.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use tektin_abi::maps::{Addr, IpcacheValue, SteeredValue, identity};

use crate::{
    capture::{AddressTable, Flow},
    policy::Snapshot,
};

/// What of a connection decides which policies govern it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    src_endpoint: u32,
    src_identity: u32,
    dst_endpoint: u32,
    dst_identity: u32,
    far_end: Option<Addr>,
}

/// Connections between the same ends.
struct Open {
    connections: usize,
    /// Identities and endpoints as they are now; nothing else is set.
    now: SteeredValue,
}

/// Endpoints that no policy is known of: whatever is asked for between them is denied.
fn nobody() -> SteeredValue {
    SteeredValue { src_endpoint: u32::MAX, dst_endpoint: u32::MAX, ..SteeredValue::default() }
}

/// What connections are open between which ends.
#[derive(Default)]
pub(crate) struct Ends(RefCell<HashMap<Pair, Open>>);

/// Whether anything has changed for a connection that is open.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerned {
    Nobody,
    Connections,
}

impl Pair {
    fn of(flow: &Flow) -> Self {
        let steered = &flow.steered;
        Self {
            far_end: flow.far_end(),
            src_endpoint: steered.src_endpoint,
            src_identity: steered.src_identity,
            dst_endpoint: steered.dst_endpoint,
            dst_identity: steered.dst_identity,
        }
    }

    /// Its ends as they are now.
    fn look_up(&self, addresses: &dyn AddressTable) -> SteeredValue {
        let mut now = SteeredValue {
            src_endpoint: self.src_endpoint,
            src_identity: self.src_identity,
            dst_endpoint: self.dst_endpoint,
            dst_identity: self.dst_identity,
            ..SteeredValue::default()
        };
        let Some(far_end) = self.far_end else { return now };
        let far = match addresses.owner(&far_end) {
            // Nobody's, or a workload's or this host's by now: not who began the connection.
            Ok(None) => return nobody(),
            Ok(Some(IpcacheValue { endpoint: 1.., .. } | IpcacheValue { identity: identity::HOST, .. })) => {
                return nobody();
            }
            Ok(Some(owner)) => owner.identity,
            Err(error) => {
                tracing::error!(%error, "cannot look up a peer: what it asks for is denied");
                return nobody();
            }
        };
        if self.src_endpoint == 0 {
            now.src_identity = far
        } else {
            now.dst_identity = far
        }
        now
    }
}

impl Ends {
    /// To be followed by one [`Ends::leave`], before anything is judged for the connection.
    pub(crate) fn enter(&self, flow: &Flow, addresses: &dyn AddressTable) {
        let pair = Pair::of(flow);
        let mut open = self.0.borrow_mut();
        let open = open.entry(pair).or_insert_with(|| Open { connections: 0, now: pair.look_up(addresses) });
        open.connections += 1;
    }

    pub(crate) fn leave(&self, flow: &Flow) {
        if let Entry::Occupied(mut open) = self.0.borrow_mut().entry(Pair::of(flow)) {
            open.get_mut().connections -= 1;
            if open.get().connections == 0 {
                open.remove();
            }
        }
    }

    /// The ends of a connection that is open: of no other use than to judge it.
    pub(crate) fn now(&self, flow: &Flow) -> SteeredValue {
        if flow.far_end().is_none() {
            return flow.steered;
        }
        self.0.borrow().get(&Pair::of(flow)).map_or_else(nobody, |open| open.now)
    }

    /// The same for a record, also of a connection that was not let in.
    pub(crate) fn shown(&self, flow: &Flow) -> SteeredValue {
        let now = self.now(flow);
        if now == nobody() { flow.steered } else { now }
    }

    /// Policies have changed from `before` to `after`.
    pub(crate) fn concerned(
        &self,
        before: &Snapshot,
        after: &Snapshot,
        addresses: &dyn AddressTable,
    ) -> Concerned {
        let mut concerned = Concerned::Nobody;
        for (pair, open) in &mut *self.0.borrow_mut() {
            let governing = before.governing(&open.now);
            open.now = pair.look_up(addresses);
            if governing != after.governing(&open.now) {
                concerned = Concerned::Connections;
            }
        }
        concerned
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, io};

    use super::*;
    use crate::{
        capture::{OriginalDst, PeerAddr},
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
        let steered =
            SteeredValue { src_endpoint: 2, dst_endpoint: 1, src_identity: 300, ..SteeredValue::default() };
        let (flow, ends, far) = (flow(steered), Ends::default(), Far::default());
        let concerned = |ends: &Ends, after: &Snapshot| ends.concerned(&before, after, &far);
        assert_eq!(concerned(&ends, &of_it), Concerned::Nobody);
        ends.enter(&flow, &far);
        ends.enter(&flow, &far);
        assert_eq!(concerned(&ends, &of_the_other), Concerned::Nobody);
        assert_eq!(concerned(&ends, &of_another_peer), Concerned::Nobody);
        assert_eq!(concerned(&ends, &of_it), Concerned::Connections);
        ends.leave(&flow);
        assert_eq!(concerned(&ends, &of_it), Concerned::Connections);
        ends.leave(&flow);
        assert_eq!(concerned(&ends, &of_it), Concerned::Nobody);
        assert!(ends.0.borrow().is_empty());
    }

    /// Owners of all addresses.
    #[derive(Default)]
    struct Far(Cell<Option<IpcacheValue>>);

    impl AddressTable for Far {
        fn owner(&self, _: &Addr) -> io::Result<Option<IpcacheValue>> {
            Ok(self.0.get())
        }
    }

    fn flow(steered: SteeredValue) -> Flow {
        let (peer, original_dst) = ("192.0.2.1:1000".parse().unwrap(), "10.0.0.1:80".parse().unwrap());
        Flow { peer: PeerAddr(peer), original_dst: OriginalDst(original_dst), steered }
    }

    #[test]
    fn a_far_peer_is_who_its_address_says_with_each_policy() {
        let before = first(&mut RuleCache::default());
        let after = before.clone();
        let (far, ends) = (Far::default(), Ends::default());
        let owned = |identity, endpoint| Some(IpcacheValue { identity, endpoint, ..IpcacheValue::default() });
        let flow = flow(SteeredValue { dst_endpoint: 1, src_identity: 9, ..SteeredValue::default() });
        assert_eq!(ends.now(&flow), nobody(), "it is not open");
        assert_eq!(ends.shown(&flow), flow.steered);
        far.0.set(owned(9, 0));
        ends.enter(&flow, &far);
        assert_eq!(ends.now(&flow).src_identity, 9);
        // A rule names its prefix, and another peer's class is its own now.
        far.0.set(owned(300, 0));
        assert_eq!(ends.now(&flow).src_identity, 9, "as the policy in force knows it");
        assert_eq!(ends.concerned(&before, &after, &far), Concerned::Connections);
        assert_eq!((ends.now(&flow).src_identity, ends.now(&flow).dst_endpoint), (300, 1));
        assert_eq!(ends.concerned(&before, &after, &far), Concerned::Nobody);
        for somebody_else in [None, owned(1, 0), owned(300, 7)] {
            far.0.set(somebody_else);
            let _ = ends.concerned(&before, &after, &far);
            assert_eq!(ends.now(&flow), nobody(), "{somebody_else:?}");
        }
    }
}
