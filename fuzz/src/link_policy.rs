//! Policy updates as the proxy takes them: refused, or judged by exactly as a walk over the message
//! says. The first octet cuts the input into two updates, the second of which changes the first.

use std::collections::BTreeMap;

use policy_engine::http::HttpRequest;
use prost::Message;
use tektin::entrances::LinkState;
use tektin_abi::maps::{SteeredValue, proto};
use tektin_proxy::{
    link_proto::{Action, EndpointRoot, Piece, Policy, PolicyUpdate},
    policy::{Judging, RuleCache, Snapshot},
};

pub fn run(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let (one, other) = rest.split_at(rest.len() * usize::from(*cut) / 256);
    let mut cache = RuleCache::default();
    let mut snapshot = Snapshot::default();
    let mut known = Known::default();
    let mut agent: Option<LinkState> = None;
    for octets in [one, other] {
        let Ok(update) = PolicyUpdate::decode(octets) else { return };
        if LinkState::check(agent.as_ref(), &update).is_ok() {
            let state = agent.get_or_insert_default();
            state.follow(update.clone());
            // What a proxy that dials later is sent is the same state.
            let sent = state.as_full_update();
            LinkState::check(None, &sent).expect("a full update");
            let mut full = LinkState::default();
            full.follow(sent);
            assert_eq!(full, *state);
        }
        // Nothing holds of an update that is refused.
        let Ok(next) = snapshot.apply(&update, &mut cache) else { continue };
        snapshot = next;
        known.apply(&update);
        assert_eq!(snapshot.revision(), update.revision);
        known.compare(&snapshot);
    }
}

#[derive(Default)]
struct Known {
    policies: BTreeMap<u32, Policy>,
    endpoints: BTreeMap<u32, EndpointRoot>,
}

impl Known {
    fn apply(&mut self, update: &PolicyUpdate) {
        if update.full {
            *self = Self::default();
        }
        self.policies.retain(|id, _| !update.removed_policies.contains(id));
        self.endpoints.retain(|id, _| !update.removed_endpoints.contains(id));
        self.policies.extend(update.policies.iter().map(|policy| (policy.id, policy.clone())));
        for change in &update.changes {
            let policy = self.policies.get_mut(&change.id).expect("a policy that is known");
            policy.default_deny_rule = change.default_deny_rule;
            policy.classes.extend(change.classes.iter().cloned());
            policy.classes.retain(|class| !change.removed_classes.contains(&class.id));
            policy.class_of.extend(&change.class_of);
            policy.class_of.retain(|peer, class| *class != 0 || !change.class_of.contains_key(peer));
        }
        self.endpoints.extend(update.endpoints.iter().map(|root| (root.endpoint, *root)));
    }

    fn compare(&self, snapshot: &Snapshot) {
        let policies = self.policies.values();
        let peers: Vec<u32> =
            policies.clone().flat_map(|p| p.class_of.keys()).copied().take(3).chain([0]).collect();
        let pieces = policies.flat_map(|policy| &policy.classes).flat_map(|class| &class.pieces);
        let borders = pieces.flat_map(|piece| [piece.first_port, piece.last_port, piece.last_port + 1]);
        let ports: Vec<u16> = borders.filter_map(|port| port.try_into().ok()).take(6).chain([80]).collect();
        let endpoints = self.endpoints.keys().copied().take(3).chain([0, 77]);
        for endpoint in endpoints {
            for (peer, port) in peers.iter().flat_map(|peer| ports.iter().map(move |port| (*peer, *port))) {
                self.ingress(snapshot, endpoint, peer, port);
            }
        }
    }

    fn ingress(&self, snapshot: &Snapshot, endpoint: u32, peer: u32, port: u16) {
        let steered = SteeredValue { src_identity: peer, dst_endpoint: endpoint, ..SteeredValue::default() };
        let said = snapshot.judge(&steered, port, Judging::Connection).ingress;
        let plain = self.plainly(endpoint, peer, port);
        assert_eq!((said.action, said.rule), plain, "{endpoint} {peer} {port}");
        let headers: &[(String, String)] = &[];
        let request = HttpRequest { method: "GET", path: "/", host: "a", headers: &headers.to_vec() };
        let of_request = snapshot.judge(&steered, port, Judging::Request(request)).ingress;
        assert_ne!(of_request.action, Action::Redirect, "a request is allowed or not");
        if plain.0 != Action::Redirect {
            assert_eq!((of_request.action, of_request.rule), plain);
        }
    }

    /// What holds before a request is looked at.
    fn plainly(&self, endpoint: u32, peer: u32, port: u16) -> (Action, u32) {
        if endpoint == 0 {
            return (Action::Allow, 0);
        }
        let Some(root) = self.endpoints.get(&endpoint) else { return (Action::Deny, 0) };
        if root.ingress_policy == 0 {
            return (Action::Allow, 0);
        }
        // One that was taken away under an endpoint that still has it.
        let Some(policy) = self.policies.get(&root.ingress_policy) else { return (Action::Deny, 0) };
        let class = policy.class_of.get(&peer).copied().unwrap_or(0);
        // Where a number stands twice, the last one counts.
        let class = policy.classes.iter().rev().find(|known| known.id == class);
        let pieces = class.map_or(&[][..], |class| &class.pieces);
        let of = |protocol: u8| {
            let covers = |piece: &&Piece| {
                piece.protocol == u32::from(protocol)
                    && (piece.first_port..=piece.last_port).contains(&u32::from(port))
            };
            pieces.iter().find(covers)
        };
        match of(proto::TCP).or_else(|| of(proto::ANY)) {
            Some(piece) => (piece.action(), piece.rule),
            None => (Action::Deny, policy.default_deny_rule),
        }
    }
}
