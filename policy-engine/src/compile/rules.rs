//! The rules that hold for one subject in one direction, in a form that evaluation can index and
//! that follows a change of documents rule by rule.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Asked, Signature};
use crate::{
    compiled::SpecKey,
    direction::Direction,
    identity::{HOST, Identity, NamedPorts},
    labels::{LabelKey, Source},
    model::{
        Document, KafkaRule, L7, Operator, Origin, Peer, Peers, PortMatch, PortRef, Ports, Protocol,
        RequestRules, Requirement, Rule, Selector, Spec,
    },
    policy_set::{AllowLocalhost, Options, PolicySet},
    selector_index::PeerIndex,
};

mod follow;

pub(crate) use follow::Followed;

/// Port names that egress rules use, resolved for one peer: in the order of names and protocols.
pub(crate) type ResolvedNames = Vec<(String, Protocol, u16)>;

/// Number of an entry; never given twice by one [`DirectionRules`].
pub(crate) type EntryId = u32;
/// Number of a peer; never given twice by one [`DirectionRules`].
pub(crate) type PeerId = u32;

#[derive(Clone, Debug)]
pub(crate) struct DirectionRules {
    /// What of the subject decides, beside the documents that select it.
    subject: SubjectTraits,
    direction: Direction,
    options: Options,
    pub(crate) entries: HashMap<EntryId, Entry>,
    /// Entries that hold whoever the peer is.
    pub(crate) everyone: Vec<EntryId>,
    /// Each different peer once, with the entries that it brings in.
    pub(crate) peers: HashMap<PeerId, PeerRules>,
    peer_id: HashMap<Peer, PeerId>,
    index: PeerIndex<PeerId>,
    /// What each rule was made into.
    units: HashMap<RuleKey, Unit>,
    /// The specs that speak of this direction.
    specs: BTreeMap<SpecKey, Arc<Origin>>,
    /// Those of them that switch default deny on.
    pub(crate) default_deny: BTreeMap<SpecKey, Arc<Origin>>,
    /// (name, protocol) pairs whose number depends on the peer, and how many entries ask: egress only.
    pub(crate) names: BTreeMap<(String, Protocol), u32>,
    unwritten: Unwritten,
    last_entry: EntryId,
    last_peer: PeerId,
    /// Not taken yet.
    asked: Vec<Asked>,
}

#[derive(Clone, Debug)]
struct SubjectTraits {
    named_ports: Arc<NamedPorts>,
    /// A workload that has no labels yet: closed, whatever the policies say.
    is_init: bool,
    is_host: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct PeerRules {
    pub(crate) peer: Peer,
    /// In the order in which they were brought in.
    pub(crate) entries: Vec<EntryId>,
}

/// One port rule, or a rule without any. Where entries of one kind overlap, the first is named.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: EntryKey,
    pub(crate) origin: Arc<Origin>,
    pub(crate) effect: Effect,
    /// `None`: every protocol and port.
    pub(crate) ports: Option<Vec<PortMatch>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Deny,
    Allow,
    /// Allowed through the proxy, by the rules of one protocol. A connection serves only what its own
    /// protocol's rules let pass.
    Inspect(Inspection),
}

#[derive(Clone, Debug)]
pub(crate) enum Inspection {
    Http(RequestRules),
    Kafka(Vec<KafkaRule>),
    /// A protocol without a parser: nothing passes.
    Other,
}

/// Place of a rule among all: by document, spec, section and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleKey {
    spec: SpecKey,
    deny: bool,
    number: u32,
}

/// Place of an entry among all. What nobody wrote comes last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryKey {
    Written(RuleKey, u32),
    Unwritten,
}

#[derive(Clone, Debug)]
struct Unit {
    entries: Vec<EntryId>,
    /// `None`: everybody.
    peers: Option<Vec<PeerId>>,
}

/// The allow that nobody wrote down, with what to name it by.
#[derive(Clone, Debug, PartialEq)]
enum Unwritten {
    Nothing,
    /// No spec switched default deny on.
    Everything(Origin),
    Localhost(Origin),
}

impl DirectionRules {
    /// `None` where no policy of the subject enforces this direction.
    pub(crate) fn collect(policies: &PolicySet, subject: &Identity, direction: Direction) -> Option<Self> {
        let mut rules = Self::new(policies.options, subject, direction);
        for document in policies.selecting(subject) {
            for (number, spec) in speaking(document, subject, direction) {
                let key = SpecKey { document: document.id.clone(), number };
                rules.enter_spec(&key, spec);
                for (deny, list) in rules.sections(spec) {
                    for (number, rule) in (0..).zip(list) {
                        rules.add(RuleKey { spec: key.clone(), deny, number }, rule);
                    }
                }
            }
        }
        if !rules.enforces() {
            return None;
        }
        rules.unwritten = rules.wanted_unwritten();
        rules.write_unwritten();
        Some(rules)
    }

    fn new(options: Options, subject: &Identity, direction: Direction) -> Self {
        Self {
            subject: SubjectTraits {
                named_ports: subject.named_ports.clone(),
                is_init: subject.has_reserved_label("init"),
                is_host: subject.id == HOST,
            },
            direction,
            options,
            entries: HashMap::new(),
            everyone: Vec::new(),
            peers: HashMap::new(),
            peer_id: HashMap::new(),
            index: PeerIndex::default(),
            units: HashMap::new(),
            specs: BTreeMap::new(),
            default_deny: BTreeMap::new(),
            names: BTreeMap::new(),
            unwritten: Unwritten::Nothing,
            last_entry: 0,
            last_peer: 0,
            asked: Vec::new(),
        }
    }

    /// The rules of a spec that concern this direction, with whether they deny.
    fn sections<'s>(&self, spec: &'s Spec) -> [(bool, &'s [Rule]); 2] {
        [(false, self.direction.allow_rules(spec)), (true, self.direction.deny_rules(spec))]
    }

    fn enter_spec(&mut self, key: &SpecKey, spec: &Spec) {
        let origin = Arc::new(spec.origin.clone());
        if self.direction.default_deny(spec) {
            self.default_deny.insert(key.clone(), origin.clone());
        }
        self.specs.insert(key.clone(), origin);
    }

    fn enforces(&self) -> bool {
        !self.specs.is_empty() || self.subject.is_init
    }

    /// What the class of `identity` depends on.
    pub(crate) fn signature(&self, identity: &Identity) -> Signature {
        let candidates = self.index.candidates(identity).into_iter();
        Signature {
            peers: candidates.filter(|id| self.peers[id].peer.matches(identity)).collect(),
            named_ports: self.resolved_names(&identity.named_ports),
        }
    }

    pub(crate) fn resolved_names(&self, ports: &NamedPorts) -> ResolvedNames {
        let resolve = |(name, protocol): &(String, Protocol)| {
            ports.port(name, *protocol).map(|port| (name.clone(), *protocol, port))
        };
        self.names.keys().filter_map(resolve).collect()
    }

    pub(super) fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// What [`Self::take_asked`] has told so far, taken back.
    pub(super) fn ask_no_more(&mut self) -> Vec<Asked> {
        // What was not told yet cancels itself out.
        let mut asked = self.take_asked();
        asked.extend(self.peers.values().map(|rules| Asked::NoMoreFor(rules.peer.clone())));
        asked
    }

    fn add(&mut self, key: RuleKey, rule: &Rule) {
        let deny = key.deny;
        let effect = |l7: Option<&L7>| match l7 {
            _ if deny => Effect::Deny,
            None => Effect::Allow,
            Some(L7::Http(rules)) => Effect::Inspect(Inspection::Http(rules.clone())),
            Some(L7::Kafka(rules)) => Effect::Inspect(Inspection::Kafka(rules.clone())),
            Some(_) => Effect::Inspect(Inspection::Other),
        };
        if matches!(&rule.peers, Peers::OneOf(peers) if peers.is_empty()) {
            return;
        }
        let entry = |port: u32, origin: &Origin, effect, ports| Entry {
            key: EntryKey::Written(key.clone(), port),
            origin: Arc::new(origin.clone()),
            effect,
            ports,
        };
        let entries: Vec<Entry> = match &rule.ports {
            Ports::All => vec![entry(0, &rule.origin, effect(None), None)],
            Ports::OneOf(ports) => (0..)
                .zip(ports)
                .map(|(number, port)| {
                    entry(number, &port.origin, effect(port.l7.as_ref()), Some(port.ports.clone()))
                })
                .collect(),
        };
        let entries: Vec<EntryId> = entries.into_iter().map(|entry| self.push(entry)).collect();
        let peers = match &rule.peers {
            Peers::Any => None,
            Peers::OneOf(peers) if peers.iter().any(Peer::is_wildcard) => None,
            Peers::OneOf(peers) => Some(peers.iter().map(|peer| self.bring_in(peer, &entries)).collect()),
        };
        if peers.is_none() {
            self.everyone.extend(&entries);
        }
        self.units.insert(key, Unit { entries, peers });
    }

    fn push(&mut self, mut entry: Entry) -> EntryId {
        match self.direction {
            Direction::Ingress => resolve(&mut entry, &self.subject.named_ports),
            Direction::Egress => {
                names_of(&entry).for_each(|name| *self.names.entry(name).or_default() += 1);
            }
        }
        self.last_entry += 1;
        self.entries.insert(self.last_entry, entry);
        self.last_entry
    }

    fn bring_in(&mut self, peer: &Peer, entries: &[EntryId]) -> PeerId {
        let id = match self.peer_id.get(peer) {
            Some(id) => *id,
            None => {
                self.last_peer += 1;
                self.index.insert(peer, &self.last_peer);
                self.asked.push(Asked::NowFor(peer.clone()));
                self.peer_id.insert(peer.clone(), self.last_peer);
                let rules = PeerRules { peer: peer.clone(), entries: Vec::new() };
                self.peers.insert(self.last_peer, rules);
                self.last_peer
            }
        };
        if let Some(rules) = self.peers.get_mut(&id) {
            rules.entries.extend_from_slice(entries);
        }
        id
    }

    fn wanted_unwritten(&self) -> Unwritten {
        let Some(first_spec) = self.specs.values().next() else { return Unwritten::Nothing };
        let named = |spec: &Origin, why: &str| Origin {
            document: spec.document.clone(),
            path: format!("{} ({why})", spec.path),
        };
        if self.default_deny.is_empty() && !self.subject.is_init {
            Unwritten::Everything(named(first_spec, "no default deny"))
        } else if self.direction == Direction::Ingress
            && self.options.allow_localhost == AllowLocalhost::Always
            && !self.subject.is_host
        {
            let spec = self.default_deny.values().next().unwrap_or(first_spec);
            Unwritten::Localhost(named(spec, "allow-localhost"))
        } else {
            Unwritten::Nothing
        }
    }

    fn write_unwritten(&mut self) {
        let entry = |origin: &Origin| Entry {
            key: EntryKey::Unwritten,
            origin: Arc::new(origin.clone()),
            effect: Effect::Allow,
            ports: None,
        };
        match &self.unwritten {
            Unwritten::Nothing => {}
            Unwritten::Everything(origin) => {
                let entry = entry(origin);
                let id = self.push(entry);
                self.everyone.push(id);
            }
            Unwritten::Localhost(origin) => {
                let entry = entry(origin);
                let id = self.push(entry);
                self.bring_in(&localhost(), &[id]);
            }
        }
    }
}

/// The document's specs that select the subject and say something in that direction.
pub(super) fn speaking<'d>(
    document: &'d Document,
    subject: &Identity,
    direction: Direction,
) -> Vec<(u32, &'d Spec)> {
    let speaks = |spec: &Spec| {
        direction.default_deny(spec)
            || !direction.allow_rules(spec).is_empty()
            || !direction.deny_rules(spec).is_empty()
    };
    (0..).zip(&document.specs).filter(|(_, s)| s.subject.matches(subject) && speaks(s)).collect()
}

/// Replaces names by numbers; a name that the workload does not have is no port.
fn resolve(entry: &mut Entry, named_ports: &NamedPorts) {
    let Some(ports) = &mut entry.ports else { return };
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

fn names_of(entry: &Entry) -> impl Iterator<Item = (String, Protocol)> + '_ {
    entry.ports.iter().flatten().filter_map(|port| match &port.port {
        PortRef::Named(name) => Some((name.clone(), port.protocol)),
        PortRef::Range(..) => None,
    })
}

/// The peer of the rule that Kubernetes probes rely on.
pub(crate) fn localhost() -> Peer {
    let key = LabelKey { source: Source::Reserved, key: "host".to_owned() };
    Peer::Labels(Selector { requirements: vec![Requirement { key, operator: Operator::Exists }] })
}
