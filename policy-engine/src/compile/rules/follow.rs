//! A change of documents, rule by rule: what is the same before and after stays as it is.

use super::{DirectionRules, EntryId, RuleKey, Unit, Unwritten, localhost, names_of, speaking};
use crate::{
    compile::Asked,
    compiled::SpecKey,
    identity::Identity,
    model::{Peer, Rule},
    policy_set::DocumentChange,
};

/// What a change of documents did to one direction of a subject.
#[must_use]
#[derive(Debug)]
pub(crate) enum Followed {
    /// Only identities that these peers select may be of another class now.
    Peers(Vec<Peer>),
    /// Something changed for everybody: to be compiled anew.
    Anew,
}

impl DirectionRules {
    /// Brings the rules up to `change`. After [`Followed::Anew`] they are of no use any more.
    pub(crate) fn follow(&mut self, change: &DocumentChange, subject: &Identity) -> Followed {
        let said =
            |document: Option<_>| document.map_or(Vec::new(), |d| speaking(d, subject, self.direction));
        let (before, after) = (said(change.before.as_deref()), said(change.after.as_deref()));
        let specs = before.iter().chain(&after).map(|(number, _)| *number);
        let specs: std::collections::BTreeSet<u32> = specs.collect();
        let find = |list: &[(u32, _)], number| list.iter().find(|(n, _)| *n == number).map(|(_, spec)| *spec);

        let names: Vec<_> = self.names.keys().cloned().collect();
        let mut touched = Vec::new();
        for number in specs {
            let key = SpecKey { document: change.id().clone(), number };
            let (old, new) = (find(&before, number), find(&after, number));
            self.specs.remove(&key);
            self.default_deny.remove(&key);
            if let Some(spec) = new {
                self.enter_spec(&key, spec);
            }
            let sections = |spec| self.sections(spec);
            let nothing: [(bool, &[Rule]); 2] = [(false, &[]), (true, &[])];
            let (old, new) = (old.map_or(nothing, sections), new.map_or(nothing, sections));
            for ((deny, old), (_, new)) in old.into_iter().zip(new) {
                for number in 0..old.len().max(new.len()) {
                    let (old, new) = (old.get(number), new.get(number));
                    if old == new {
                        continue;
                    }
                    // More rules than that no document has: its text is shorter.
                    let key = RuleKey { spec: key.clone(), deny, number: number as u32 };
                    if self.replace(&key, new, &mut touched) == Reach::Everybody {
                        return Followed::Anew;
                    }
                }
            }
        }
        // Names belong to everybody's signature.
        if !self.enforces() || !self.names.keys().eq(&names) {
            return Followed::Anew;
        }
        let unwritten = self.wanted_unwritten();
        if unwritten != self.unwritten {
            let local = |unwritten: &Unwritten| !matches!(unwritten, Unwritten::Everything(_));
            if !local(&unwritten) || !local(&self.unwritten) {
                return Followed::Anew;
            }
            if matches!(self.unwritten, Unwritten::Localhost(_)) {
                let entries = self.unwritten_entries();
                self.take_out(&localhost(), &entries);
                entries.iter().for_each(|entry| self.drop_entry(*entry));
            }
            self.unwritten = unwritten;
            self.write_unwritten();
            touched.push(localhost());
        }
        Followed::Peers(touched)
    }

    /// Exchanges one rule. Peers of the old and the new one are added to `touched`.
    fn replace(&mut self, key: &RuleKey, rule: Option<&Rule>, touched: &mut Vec<Peer>) -> Reach {
        if let Some(Unit { entries, peers }) = self.units.remove(key) {
            let Some(peers) = peers else { return Reach::Everybody };
            for peer in peers {
                if let Some(peer) = self.peers.get(&peer).map(|rules| rules.peer.clone()) {
                    self.take_out(&peer, &entries);
                    touched.push(peer);
                }
            }
            entries.iter().for_each(|entry| self.drop_entry(*entry));
        }
        if let Some(rule) = rule {
            self.add(key.clone(), rule);
            if let Some(unit) = self.units.get(key) {
                let Some(peers) = &unit.peers else { return Reach::Everybody };
                touched.extend(peers.iter().filter_map(|peer| Some(self.peers.get(peer)?.peer.clone())));
            }
        }
        Reach::Peers
    }

    fn unwritten_entries(&self) -> Vec<EntryId> {
        let localhost = self.peer_id.get(&localhost()).and_then(|id| self.peers.get(id));
        let entries = localhost.into_iter().flat_map(|rules| &rules.entries);
        entries.filter(|id| self.entries[id].key == super::EntryKey::Unwritten).copied().collect()
    }

    /// Parts a peer from entries. One that brings nothing in any more is forgotten.
    fn take_out(&mut self, peer: &Peer, entries: &[EntryId]) {
        let Some(id) = self.peer_id.get(peer).copied() else { return };
        let Some(rules) = self.peers.get_mut(&id) else { return };
        rules.entries.retain(|entry| !entries.contains(entry));
        if rules.entries.is_empty() {
            self.peers.remove(&id);
            self.peer_id.remove(peer);
            self.index.remove(peer, &id);
            self.asked.push(Asked::NoMoreFor(peer.clone()));
        }
    }

    fn drop_entry(&mut self, id: EntryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if self.direction == crate::direction::Direction::Egress {
            for name in names_of(&entry) {
                if let Some(count) = self.names.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        self.names.remove(&name);
                    }
                }
            }
        }
    }
}

/// Whom the exchange of a rule may concern.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Peers,
    Everybody,
}
