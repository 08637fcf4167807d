//! From the entries that hold for a class of peers to disjoint pieces: the one place where
//! precedence is resolved. Deny beats inspection, inspection beats a plain allow, whatever their
//! widths; a plain allow under an inspection lets every request pass.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use super::{
    Signature,
    rules::{DirectionRules, Effect, Entry, EntryId, Inspection, ResolvedNames},
};
use crate::{
    compiled::{L4Verdict, L7Rules, Piece},
    model::{PortRef, Protocol},
};

/// Pieces with entries by number, so that equal classes are found by hashing.
pub(super) type Flattened = Vec<RawPiece>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RawPiece {
    protocol: Option<Protocol>,
    first: u16,
    last: u16,
    verdict: RawVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum RawVerdict {
    Deny(EntryId),
    Allow(EntryId),
    Redirect(RawRules),
}

/// The inspecting entries, and the first plain allow.
type RawRules = (Vec<EntryId>, Option<EntryId>);

/// Remembers L7 rule sets, so that classes share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Flattener {
    l7: HashMap<RawRules, Weak<L7Rules>>,
}

/// Entries in the order in which they are named; elsewhere here an entry goes by its place in it.
struct Holding<'a>(Vec<(EntryId, &'a Entry)>);

impl Holding<'_> {
    fn ids(&self, verdict: RawVerdict) -> RawVerdict {
        let id = |place: u32| self.0[place as usize].0;
        match verdict {
            RawVerdict::Deny(place) => RawVerdict::Deny(id(place)),
            RawVerdict::Allow(place) => RawVerdict::Allow(id(place)),
            RawVerdict::Redirect((rules, any)) => {
                RawVerdict::Redirect((rules.into_iter().map(id).collect(), any.map(id)))
            }
        }
    }
}

/// The entries that hold at one point, by kind and by place.
#[derive(Clone, Default)]
struct Active {
    deny: BTreeSet<u32>,
    inspect: BTreeSet<u32>,
    allow: BTreeSet<u32>,
}

impl Active {
    fn of_kind(&mut self, effect: &Effect) -> &mut BTreeSet<u32> {
        match effect {
            Effect::Deny => &mut self.deny,
            Effect::Inspect(_) => &mut self.inspect,
            Effect::Allow => &mut self.allow,
        }
    }

    fn verdict(&self) -> Option<RawVerdict> {
        if let Some(rule) = self.deny.first() {
            return Some(RawVerdict::Deny(*rule));
        }
        if !self.inspect.is_empty() {
            let rules = self.inspect.iter().copied().collect();
            return Some(RawVerdict::Redirect((rules, self.allow.first().copied())));
        }
        self.allow.first().map(|rule| RawVerdict::Allow(*rule))
    }
}

impl Flattener {
    pub(super) fn flatten(&self, rules: &DirectionRules, signature: &Signature) -> Flattened {
        let mut ids: Vec<EntryId> = rules.everyone.clone();
        for peer in &signature.peers {
            ids.extend_from_slice(&rules.peers[peer].entries);
        }
        ids.sort_unstable();
        ids.dedup();
        let mut holding = Holding(ids.into_iter().map(|id| (id, &rules.entries[&id])).collect());
        holding.0.sort_unstable_by(|(_, a), (_, b)| a.key.cmp(&b.key));

        let mut wide = Active::default();
        let mut spans: BTreeMap<Protocol, Vec<Span>> = BTreeMap::new();
        for (index, (_, entry)) in (0..).zip(&holding.0) {
            if entry.ports.is_none() {
                wide.of_kind(&entry.effect).insert(index);
            } else {
                add_spans(index, entry, &signature.named_ports, &mut spans);
            }
        }
        let wide_verdict = wide.verdict();
        let mut flattened = Vec::new();
        if let Some(verdict) = &wide_verdict {
            let verdict = verdict.clone();
            flattened.push(RawPiece { protocol: None, first: 0, last: u16::MAX, verdict });
        }
        for (protocol, spans) in spans {
            sweep(protocol, &spans, &holding, &wide, wide_verdict.as_ref(), &mut flattened);
        }
        for piece in &mut flattened {
            piece.verdict = holding.ids(piece.verdict.clone());
        }
        flattened
    }

    /// Forgets the L7 rule sets that no class has any more.
    pub(super) fn prune(&mut self) {
        self.l7.retain(|_, rules| rules.strong_count() > 0);
    }

    pub(super) fn pieces(&mut self, rules: &DirectionRules, flattened: &Flattened) -> Vec<Piece> {
        let piece = |raw: &RawPiece| Piece {
            protocol: raw.protocol,
            first: raw.first,
            last: raw.last,
            verdict: match &raw.verdict {
                RawVerdict::Deny(rule) => L4Verdict::Deny { rule: origin(rules, *rule) },
                RawVerdict::Allow(rule) => L4Verdict::Allow { rule: origin(rules, *rule) },
                RawVerdict::Redirect(raw) => {
                    let known = self.l7.get(raw).and_then(Weak::upgrade);
                    let l7 = known.unwrap_or_else(|| Arc::new(l7_rules(rules, raw)));
                    self.l7.insert(raw.clone(), Arc::downgrade(&l7));
                    L4Verdict::Redirect { rule: origin(rules, raw.0[0]), l7 }
                }
            },
        };
        flattened.iter().map(piece).collect()
    }
}

fn origin(rules: &DirectionRules, entry: EntryId) -> Arc<crate::model::Origin> {
    rules.entries[&entry].origin.clone()
}

fn l7_rules(rules: &DirectionRules, (inspecting, any): &RawRules) -> L7Rules {
    let mut l7 = L7Rules { any: any.map(|entry| origin(rules, entry)), ..L7Rules::default() };
    for entry in inspecting {
        match &rules.entries[entry].effect {
            Effect::Inspect(Inspection::Http(rules)) => l7.requests.append(rules),
            Effect::Inspect(Inspection::Kafka(kafka)) => l7.kafka.extend_from_slice(kafka),
            Effect::Inspect(Inspection::Other) | Effect::Deny | Effect::Allow => {}
        }
    }
    l7
}

/// Ports `first..=last` for which an entry (by place) holds.
struct Span {
    entry: u32,
    first: u16,
    last: u16,
}

fn add_spans(index: u32, entry: &Entry, names: &ResolvedNames, spans: &mut BTreeMap<Protocol, Vec<Span>>) {
    let mut by_protocol: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
    for port in entry.ports.iter().flatten() {
        let range = match &port.port {
            PortRef::Range(first, last) => Some((*first, *last)),
            PortRef::Named(name) => names
                .iter()
                .find(|(n, protocol, _)| n == name && *protocol == port.protocol)
                .map(|(_, _, number)| (*number, *number)),
        };
        by_protocol.entry(port.protocol).or_default().extend(range);
    }
    for (protocol, mut ranges) in by_protocol {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= *end => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        let span = |(first, last)| Span { entry: index, first, last };
        spans.entry(protocol).or_default().extend(merged.into_iter().map(span));
    }
}

/// Walks the ports upwards from one change of the active entries to the next.
fn sweep(
    protocol: Protocol,
    spans: &[Span],
    holding: &Holding<'_>,
    wide: &Active,
    wide_verdict: Option<&RawVerdict>,
    flattened: &mut Flattened,
) {
    // u32: the end of a span that reaches port 65535 is 65536.
    let mut changes: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::new();
    for span in spans {
        changes.entry(u32::from(span.first)).or_default().push((span.entry, true));
        changes.entry(u32::from(span.last) + 1).or_default().push((span.entry, false));
    }
    let mut active = wide.clone();
    let starts: Vec<u32> = changes.keys().copied().collect();
    let mut open: Option<RawPiece> = None;
    for (position, start) in starts.iter().enumerate() {
        for (entry, begins) in &changes[start] {
            let kind = active.of_kind(&holding.0[*entry as usize].1.effect);
            if *begins {
                kind.insert(*entry);
            } else {
                kind.remove(entry);
            }
        }
        let verdict = active.verdict();
        // Beyond the last change only the wide entries hold.
        let (Some(end), Some(first)) = (starts.get(position + 1), u16::try_from(*start).ok()) else {
            break;
        };
        let last = (end - 1) as u16;
        match (&mut open, verdict) {
            (Some(piece), Some(verdict))
                if piece.verdict == verdict && u32::from(piece.last) + 1 == *start =>
            {
                piece.last = last;
            }
            (_, verdict) => {
                flattened.extend(open.take());
                // What the piece for all protocols says anyway needs no piece of its own.
                open = verdict.filter(|verdict| Some(verdict) != wide_verdict).map(|verdict| RawPiece {
                    protocol: Some(protocol),
                    first,
                    last,
                    verdict,
                });
            }
        }
    }
    flattened.extend(open);
}
