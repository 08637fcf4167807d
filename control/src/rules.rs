//! Rule ids: the 32-bit numbers by which maps, events and records name a place in a document.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::agent::state_file::{self, StateFileError};

/// Default deny: no rule decided.
pub const DEFAULT_DENY: u32 = 0;

/// With more rules than this, those of earlier runs are forgotten.
const REMEMBERED: usize = 65_536;

/// The numbers given so far. They outlive their documents, so that an event of yesterday still says
/// which rule decided it.
#[derive(Debug, Default)]
pub struct RuleTable {
    path: Option<PathBuf>,
    text_of: BTreeMap<u32, String>,
    id_of: BTreeMap<String, u32>,
    /// Asked for in this run: every rule in force is.
    asked: BTreeSet<u32>,
    /// Numbers that nobody who writes records was told yet.
    new: Vec<u32>,
    unsaved: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    rules: BTreeMap<u32, String>,
}

impl RuleTable {
    /// Reads the table of an earlier run; `path` need not exist yet.
    pub fn load(path: PathBuf) -> Result<Self, StateFileError> {
        let stored: Option<Stored> = state_file::read(&path)?;
        let text_of = stored.map(|stored| stored.rules).unwrap_or_default();
        let id_of = text_of.iter().map(|(id, text)| (text.clone(), *id)).collect();
        Ok(Self { path: Some(path), text_of, id_of, ..Self::default() })
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
        self.unsaved = true;
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

    /// Forgets rules of earlier runs once there are too many to keep all.
    fn trim(&mut self) {
        if self.text_of.len() > REMEMBERED {
            self.text_of.retain(|id, _| self.asked.contains(id));
            self.id_of.retain(|_, id| self.asked.contains(id));
        }
    }

    /// Writes the table if it has changed since the last time.
    pub fn save(&mut self) -> Result<(), StateFileError> {
        if !self.unsaved {
            return Ok(());
        }
        self.trim();
        let Some(path) = &self.path else { return Ok(()) };
        state_file::write(path, &Stored { rules: self.text_of.clone() })?;
        self.unsaved = false;
        Ok(())
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
        let path = directory.path().join("rules.json");
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
        table.unsaved = true;
        table.save().unwrap();
        assert_eq!(table.iter().collect::<Vec<_>>(), [(kept, "kept")]);
    }
}
