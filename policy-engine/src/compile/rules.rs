//! The rules that hold for one subject in one direction, in a form that evaluation can index.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::Signature;
use crate::{
    direction::Direction,
    identity::{HOST, Identity, NamedPorts},
    labels::{LabelKey, Source},
    model::{
        HttpRule, L7, Operator, Origin, Peer, Peers, PortMatch, PortRef, Ports, Protocol, Requirement, Rule,
        Selector,
    },
    policy_set::{AllowLocalhost, PolicySet},
};

/// Port names that egress rules use, resolved for one peer: in the order of names and protocols.
pub(crate) type ResolvedNames = Vec<(String, Protocol, u16)>;

#[derive(Clone, Debug)]
pub(crate) struct DirectionRules {
    pub(crate) entries: Vec<Entry>,
    /// Entries that hold whoever the peer is (indexes into `entries`, ascending).
    pub(crate) everyone: Vec<u32>,
    /// Each different peer once, with the entries that it brings in.
    pub(crate) peers: Vec<(Peer, Vec<u32>)>,
    pub(crate) default_deny: Vec<Arc<Origin>>,
    /// (name, protocol) pairs whose number depends on the peer: egress only.
    pub(crate) names: BTreeSet<(String, Protocol)>,
}

/// One port rule, or a rule without any. Where entries of one kind overlap, the first is named.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) origin: Arc<Origin>,
    pub(crate) effect: Effect,
    /// `None`: every protocol and port.
    pub(crate) ports: Option<Vec<PortMatch>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Deny,
    Allow,
    /// Allowed through the proxy. The HTTP rules are empty for another protocol's rules, so that a
    /// connection that both select serves only what its own protocol's rules let pass.
    Inspect(Vec<HttpRule>),
}

impl DirectionRules {
    /// `None` where no policy of the subject enforces this direction.
    pub(crate) fn collect(policies: &PolicySet, subject: &Identity, direction: Direction) -> Option<Self> {
        let mut rules = Self {
            entries: Vec::new(),
            everyone: Vec::new(),
            peers: Vec::new(),
            default_deny: Vec::new(),
            names: BTreeSet::new(),
        };
        let mut peer_index = HashMap::new();
        let mut first_spec = None;
        for spec in policies.iter().flat_map(|d| &d.specs).filter(|spec| spec.subject.matches(subject)) {
            let (allow, deny) = (direction.allow_rules(spec), direction.deny_rules(spec));
            let default_deny = direction.default_deny(spec);
            if allow.is_empty() && deny.is_empty() && !default_deny {
                continue;
            }
            first_spec.get_or_insert_with(|| spec.origin.clone());
            if default_deny {
                rules.default_deny.push(Arc::new(spec.origin.clone()));
            }
            for rule in allow {
                rules.add(rule, false, &mut peer_index);
            }
            for rule in deny {
                rules.add(rule, true, &mut peer_index);
            }
        }
        // A workload that has no labels yet is closed, whatever the policies say.
        let init = subject.has_reserved_label("init");
        let Some(first_spec) = first_spec else {
            return init.then_some(rules);
        };
        if rules.default_deny.is_empty() && !init {
            let entry = rules.push(plain_allow(&first_spec, "no default deny"));
            rules.everyone.push(entry);
        } else if direction == Direction::Ingress
            && policies.options.allow_localhost == AllowLocalhost::Always
            && subject.id != HOST
        {
            let spec = rules.default_deny.first().map_or(&first_spec, |origin| origin);
            let entry = plain_allow(spec, "allow-localhost");
            let entry = rules.push(entry);
            rules.bring_in(&localhost(), &[entry], &mut peer_index);
        }
        match direction {
            Direction::Ingress => rules.resolve(&subject.named_ports),
            Direction::Egress => rules.collect_names(),
        }
        Some(rules)
    }

    /// What the class of `identity` depends on.
    pub(crate) fn signature(&self, identity: &Identity) -> Signature {
        let matching = self.peers.iter().enumerate().filter(|(_, (peer, _))| peer.matches(identity));
        Signature {
            peers: matching.map(|(index, _)| index as u32).collect(),
            named_ports: self.resolved_names(&identity.named_ports),
        }
    }

    pub(crate) fn resolved_names(&self, ports: &NamedPorts) -> ResolvedNames {
        let resolve = |(name, protocol): &(String, Protocol)| {
            ports.port(name, *protocol).map(|port| (name.clone(), *protocol, port))
        };
        self.names.iter().filter_map(resolve).collect()
    }

    fn add(&mut self, rule: &Rule, deny: bool, peer_index: &mut HashMap<Peer, usize>) {
        let effect = |l7: Option<&L7>| match l7 {
            _ if deny => Effect::Deny,
            None => Effect::Allow,
            Some(L7::Http(rules)) => Effect::Inspect(rules.clone()),
            Some(_) => Effect::Inspect(Vec::new()),
        };
        if matches!(&rule.peers, Peers::OneOf(peers) if peers.is_empty()) {
            return;
        }
        let entries: Vec<u32> = match &rule.ports {
            Ports::All => {
                let origin = Arc::new(rule.origin.clone());
                vec![self.push(Entry { origin, effect: effect(None), ports: None })]
            }
            Ports::OneOf(ports) => ports
                .iter()
                .map(|port| Entry {
                    origin: Arc::new(port.origin.clone()),
                    effect: effect(port.l7.as_ref()),
                    ports: Some(port.ports.clone()),
                })
                .map(|entry| self.push(entry))
                .collect(),
        };
        match &rule.peers {
            Peers::Any => self.everyone.extend(entries),
            Peers::OneOf(peers) if peers.iter().any(Peer::is_wildcard) => self.everyone.extend(entries),
            Peers::OneOf(peers) => {
                for peer in peers {
                    self.bring_in(peer, &entries, peer_index);
                }
            }
        }
    }

    fn push(&mut self, entry: Entry) -> u32 {
        self.entries.push(entry);
        (self.entries.len() - 1) as u32
    }

    fn bring_in(&mut self, peer: &Peer, entries: &[u32], peer_index: &mut HashMap<Peer, usize>) {
        let index = *peer_index.entry(peer.clone()).or_insert_with(|| {
            self.peers.push((peer.clone(), Vec::new()));
            self.peers.len() - 1
        });
        self.peers[index].1.extend_from_slice(entries);
    }

    /// Replaces names by numbers; a name that the workload does not have is no port.
    fn resolve(&mut self, named_ports: &NamedPorts) {
        for ports in self.entries.iter_mut().filter_map(|entry| entry.ports.as_mut()) {
            ports.retain_mut(|port| match &port.port {
                PortRef::Range(..) => true,
                PortRef::Named(name) => match named_ports.port(name, port.protocol) {
                    Some(number) => {
                        port.port = PortRef::Range(number, number);
                        true
                    }
                    None => false,
                },
            });
        }
    }

    fn collect_names(&mut self) {
        for port in self.entries.iter().filter_map(|entry| entry.ports.as_ref()).flatten() {
            if let PortRef::Named(name) = &port.port {
                self.names.insert((name.clone(), port.protocol));
            }
        }
    }
}

fn plain_allow(spec: &Origin, why: &str) -> Entry {
    let origin = Origin { document: spec.document.clone(), path: format!("{} ({why})", spec.path) };
    Entry { origin: Arc::new(origin), effect: Effect::Allow, ports: None }
}

/// The peer of the rule that Kubernetes probes rely on.
pub(crate) fn localhost() -> Peer {
    let key = LabelKey { source: Source::Reserved, key: "host".to_owned() };
    Peer::Labels(Selector { requirements: vec![Requirement { key, operator: Operator::Exists }] })
}
