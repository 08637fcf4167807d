//! Rule ids: the 32-bit numbers by which maps, events and records name a place in a document.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::agent::{journal::Journal, state_file::StateFileError};

/// Default deny: no rule decided.
pub const DEFAULT_DENY: u32 = 0;

/// The file's name in the state directory.
pub const FILE: &str = "rules.log";

/// With more rules than this, those of earlier runs are forgotten.
const REMEMBERED: usize = 65_536;

/// The numbers given so far. They outlive their documents, so that an event of yesterday still says
/// which rule decided it.
#[derive(Debug, Default)]
pub struct RuleTable {
    journal: Option<Journal>,
    text_of: BTreeMap<u32, String>,
    id_of: BTreeMap<String, u32>,
    /// Asked for in this run: every rule in force is.
    asked: BTreeSet<u32>,
    /// Numbers that nobody who writes records was told yet.
    new: Vec<u32>,
    unsaved: Vec<Line>,
    /// How many there were when it was last seen to what can be forgotten.
    trimmed_at: usize,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: u32,
    rule: String,
}

impl RuleTable {
    /// Reads the table of an earlier run; `path` need not exist yet.
    pub fn load(path: PathBuf) -> Result<Self, StateFileError> {
        let (journal, lines) = Journal::open::<Line>(path)?;
        let mut table = Self { journal: Some(journal), ..Self::default() };
        for Line { id, rule } in lines {
            table.id_of.insert(rule.clone(), id);
            table.text_of.insert(id, rule);
        }
        Ok(table)
    }

    /// The number of a place, e.g. `CiliumNetworkPolicy default/web spec.ingress[0]`; a new place
    /// gets one.
    pub fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.id_of.get(text) {
            self.asked.insert(*id);
            return *id;
        }
        let mut id = fnv1a(text);
        // The next free number: the same after every restart, as the table itself is kept.
        while id == DEFAULT_DENY || self.text_of.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        self.text_of.insert(id, text.to_owned());
        self.id_of.insert(text.to_owned(), id);
        self.asked.insert(id);
        self.new.push(id);
        self.unsaved.push(Line { id, rule: text.to_owned() });
        id
    }

    /// Numbers given since this was asked last, with their places.
    pub fn take_new(&mut self) -> Vec<(u32, String)> {
        let new = std::mem::take(&mut self.new);
        new.into_iter().filter_map(|id| Some((id, self.text_of.get(&id)?.clone()))).collect()
    }

    /// All numbers and places.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.text_of.iter().map(|(id, text)| (*id, text.as_str()))
    }

    /// Forgets rules of earlier runs once there are too many to keep all, and returns their numbers.
    fn trim(&mut self) -> Vec<u32> {
        if self.text_of.len() <= REMEMBERED.max(2 * self.trimmed_at) {
            return Vec::new();
        }
        let forgotten = self.text_of.keys().filter(|id| !self.asked.contains(id)).copied().collect();
        self.text_of.retain(|id, _| self.asked.contains(id));
        self.id_of.retain(|_, id| self.asked.contains(id));
        self.trimmed_at = self.text_of.len();
        forgotten
    }

    /// Writes down what is new since the last time; returns the numbers that were forgotten.
    pub fn save(&mut self) -> Result<Vec<u32>, StateFileError> {
        let forgotten = self.trim();
        if let Some(journal) = &mut self.journal
            && forgotten.is_empty()
        {
            journal.append(&self.unsaved)?;
        } else if let Some(journal) = &mut self.journal {
            let lines = self.text_of.iter().map(|(id, rule)| Line { id: *id, rule: rule.clone() });
            journal.rewrite(&lines.collect::<Vec<_>>())?;
        }
        self.unsaved.clear();
        Ok(forgotten)
    }
}

/// FNV-1a, 32 bits, over UTF-8.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }

    #[test]
    fn a_place_keeps_its_number_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut table = RuleTable::load(path.clone()).unwrap();
        let id = table.id("CiliumNetworkPolicy default/web spec.ingress[0]");
        assert_ne!(id, DEFAULT_DENY);
        assert_eq!(table.id("CiliumNetworkPolicy default/web spec.ingress[0]"), id);
        table.save().unwrap();
        let mut table = RuleTable::load(path).unwrap();
        assert_eq!(
            table.iter().collect::<Vec<_>>(),
            [(id, "CiliumNetworkPolicy default/web spec.ingress[0]")]
        );
        assert_eq!(table.id("CiliumNetworkPolicy default/web spec.ingress[0]"), id);
    }

    #[test]
    fn a_new_place_is_told_once() {
        let mut table = RuleTable::default();
        let id = table.id("a place");
        assert_eq!(table.take_new(), [(id, "a place".to_owned())]);
        assert_eq!(table.id("a place"), id);
        assert_eq!(table.take_new(), []);
    }

    #[test]
    fn colliding_places_get_two_numbers() {
        let mut table = RuleTable::default();
        let first = fnv1a("some place");
        table.text_of.insert(first, "another place with that hash".to_owned());
        let second = table.id("some place");
        assert_ne!(first, second);
        assert_eq!(table.id("some place"), second);
    }

    #[test]
    fn only_rules_of_earlier_runs_are_forgotten_and_only_when_there_are_many() {
        let mut table = RuleTable::default();
        let kept = table.id("kept");
        table.text_of.insert(1, "of an earlier run".to_owned());
        table.save().unwrap();
        assert_eq!(table.text_of.len(), 2);
        table
            .text_of
            .extend((0..REMEMBERED).map(|number| (2_000_000 + number as u32, format!("old {number}"))));
        assert_eq!(table.save().unwrap().len(), REMEMBERED + 1);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(kept, "kept")]);
    }
}
