//! A value and its place in the document, and what is found there: every reader below takes one and
//! writes what is wrong, dubious or not enforced into [`Findings`].

use serde_json::{Map, Value};

use super::Problem;
use crate::{model::Note, names};

/// What was found in one document while it was read. With any problem the document is refused, so
/// readers may go on with something else in place of what is wrong.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Note>,
    pub(super) not_enforced: Vec<Note>,
    /// Kubernetes' own types take a null for a missing field; the schema of Cilium's does not.
    pub(super) null_is_missing: bool,
}

impl Findings {
    pub(super) fn problem(&mut self, path: &str, reason: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), line: None, reason: reason.into() });
    }

    pub(super) fn warn(&mut self, path: &str, text: impl Into<String>) {
        self.warnings.push(Note { path: path.to_owned(), text: text.into() });
    }

    pub(super) fn not_enforced(&mut self, path: &str, what: &str) {
        let text = format!("not enforced yet: {what}");
        self.not_enforced.push(Note { path: path.to_owned(), text });
    }
}

/// A value and its path (`spec.ingress[0].toPorts`).
#[derive(Clone)]
pub(super) struct At<'v> {
    pub(super) value: &'v Value,
    pub(super) path: String,
}

impl<'v> At<'v> {
    pub(super) fn new(value: &'v Value, path: impl Into<String>) -> At<'v> {
        At { value, path: path.into() }
    }

    /// A mapping with no other fields than `known`.
    pub(super) fn object(&self, known: &[&str], f: &mut Findings) -> Option<Object<'v>> {
        self.object_with(known, &[], f)
    }

    /// As [`At::object`]; `hints` says more about some fields that do not belong here.
    pub(super) fn object_with(
        &self,
        known: &[&str],
        hints: &[(&str, &str)],
        f: &mut Findings,
    ) -> Option<Object<'v>> {
        let Value::Object(map) = self.value else {
            f.problem(&self.path, wrong_type(self.value, "a mapping (key: value)"));
            return None;
        };
        let object = Object { map, path: self.path.clone() };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = hints.iter().find(|(name, _)| name == key).map(|(_, hint)| (*hint).to_owned());
            f.problem(&object.path_of(key), hint.unwrap_or_else(|| unknown(key, known)));
        }
        Some(object)
    }

    /// The entries of a mapping from any key to a string.
    pub(super) fn strings(&self, f: &mut Findings) -> Vec<(&'v str, &'v str)> {
        let Value::Object(map) = self.value else {
            f.problem(&self.path, wrong_type(self.value, "a mapping (key: value)"));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, value) in map {
            if let Some(value) = At::new(value, format!("{}[{key:?}]", self.path)).string(f) {
                entries.push((key.as_str(), value));
            }
        }
        entries
    }

    pub(super) fn list(&self, f: &mut Findings) -> Option<Vec<At<'v>>> {
        let Value::Array(items) = self.value else {
            f.problem(&self.path, wrong_type(self.value, "a list (- item)"));
            return None;
        };
        let place = |(index, value)| At::new(value, format!("{}[{index}]", self.path));
        Some(items.iter().enumerate().map(place).collect())
    }

    pub(super) fn string(&self, f: &mut Findings) -> Option<&'v str> {
        let Value::String(text) = self.value else {
            f.problem(&self.path, wrong_type(self.value, "a string"));
            return None;
        };
        Some(text)
    }

    pub(super) fn boolean(&self, f: &mut Findings) -> Option<bool> {
        let Value::Bool(value) = self.value else {
            f.problem(&self.path, wrong_type(self.value, "true or false"));
            return None;
        };
        Some(*value)
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(&self, min: i64, max: i64, f: &mut Findings) -> Option<i64> {
        let number = self.value.as_i64().filter(|n| (min..=max).contains(n));
        if number.is_none() {
            let wanted = format!("a whole number from {min} to {max}");
            f.problem(&self.path, wrong_type(self.value, &wanted));
        }
        number
    }

    /// One of a few words.
    pub(super) fn word(&self, words: &[&'static str], f: &mut Findings) -> Option<&'static str> {
        let text = self.string(f)?;
        let found = words.iter().find(|word| **word == text).copied();
        if found.is_none() {
            f.problem(&self.path, not_a_word(text, words));
        }
        found
    }
}

/// A mapping and its path.
pub(super) struct Object<'v> {
    map: &'v Map<String, Value>,
    pub(super) path: String,
}

impl<'v> Object<'v> {
    pub(super) fn path_of(&self, key: &str) -> String {
        match (self.path.is_empty(), key.chars().all(|c| c.is_ascii_alphanumeric())) {
            (true, _) => key.to_owned(),
            (false, true) => format!("{}.{key}", self.path),
            (false, false) => format!("{}[{key:?}]", self.path),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn get(&self, key: &str, f: &mut Findings) -> Option<At<'v>> {
        let value = self.map.get(key)?;
        if value.is_null() {
            if f.null_is_missing {
                f.warn(&self.path_of(key), "has no value, which counts as if the field were not there");
            } else {
                f.problem(&self.path_of(key), "has no value; write one, or remove the field");
            }
            return None;
        }
        Some(At::new(value, self.path_of(key)))
    }

    /// As [`Object::get`], for a field that must be there and have a value.
    pub(super) fn require(&self, key: &str, f: &mut Findings) -> Option<At<'v>> {
        match self.map.get(key) {
            None => f.problem(&self.path_of(key), "is missing"),
            Some(Value::Null) => f.problem(&self.path_of(key), "has no value; write one"),
            Some(value) => return Some(At::new(value, self.path_of(key))),
        }
        None
    }

    pub(super) fn string(&self, key: &str, f: &mut Findings) -> Option<&'v str> {
        self.get(key, f)?.string(f)
    }

    pub(super) fn list(&self, key: &str, f: &mut Findings) -> Option<Vec<At<'v>>> {
        self.get(key, f)?.list(f)
    }
}

/// `is no entity …; did you mean …?` for a text that is none of the words.
pub(super) fn not_a_word(text: &str, words: &[&str]) -> String {
    let all = words.join(", ");
    match names::nearest(text, words) {
        Some(word) => format!("{text:?} is not allowed; write {word:?} (one of {all})"),
        None => format!("{text:?} is not allowed; write one of {all}"),
    }
}

fn unknown(key: &str, known: &[&str]) -> String {
    if key == "<<" {
        return "merge keys are not supported; write the fields out".to_owned();
    }
    match names::nearest(key, known) {
        Some(name) => format!("unknown field; did you mean {name:?}?"),
        None => format!("unknown field; known here: {}", known.join(", ")),
    }
}

fn wrong_type(value: &Value, wanted: &str) -> String {
    match value {
        Value::Null => format!("has no value; {wanted} is wanted"),
        Value::Bool(_) | Value::Number(_) if wanted == "a string" => {
            let kind = if value.is_boolean() { "a boolean" } else { "a number" };
            format!("is {kind}; write it in quotes: \"{value}\"")
        }
        Value::Bool(_) => format!("is a boolean; {wanted} is wanted"),
        Value::Number(number) => format!("is the number {number}; {wanted} is wanted"),
        Value::String(_) => format!("is a string; {wanted} is wanted"),
        Value::Array(_) => format!("is a list; {wanted} is wanted"),
        Value::Object(_) => format!("is a mapping; {wanted} is wanted"),
    }
}
