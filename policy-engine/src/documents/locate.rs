//! From the path of a problem back to the line of the text.
//!
//! The YAML library tells places only in errors, so the text is read once more, down the path, and the
//! reading ends with an error where the path does.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// A step down: into a mapping or into a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Where a document stands: the part of the text that holds it, and how to get to it from there.
#[derive(Clone)]
pub(super) struct Source<'t> {
    pub(super) part: &'t str,
    /// The part's first line, counted from 1.
    pub(super) first_line: usize,
    /// Which of the part's YAML documents (rarely more than one), counted from 0.
    pub(super) nth: usize,
    /// Through lists of documents.
    pub(super) trail: Vec<Step>,
}

impl Source<'_> {
    /// The line, counted from 1, of the thing at `path`, or of what it is missing from.
    pub(super) fn line_of(&self, path: &str) -> Option<usize> {
        let mut way = self.trail.clone();
        way.extend(steps(path)?);
        let document = serde_norway::Deserializer::from_str(self.part).nth(self.nth)?;
        let error = Down(&way).deserialize(document).err()?;
        Some(self.first_line + error.location()?.line().checked_sub(1)?)
    }
}

/// Takes `spec.ingress[0].labels["a.b/c"]` apart.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]")?;
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let (index, after) = index.split_once(']')?;
            steps.push(Step::Index(index.parse().ok()?));
            rest = after;
        } else {
            let word = rest.strip_prefix('.').unwrap_or(rest);
            let end = word.find(['.', '[']).unwrap_or(word.len());
            steps.push(Step::Key(word[..end].to_owned()));
            rest = &word[end..];
        }
    }
    Some(steps)
}

/// Reads down these steps, to an error.
struct Down<'s>(&'s [Step]);

fn arrived<T, E: Error>() -> Result<T, E> {
    Err(E::custom("here"))
}

impl<'de> DeserializeSeed<'de> for Down<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Down<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.0.split_first() {
            while let Some(found) = entries.next_key_seed(Key { wanted, last: rest.is_empty() })? {
                if found {
                    return entries.next_value_seed(Down(rest));
                }
                entries.next_value::<IgnoredAny>()?;
            }
        }
        arrived()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                items.next_element::<IgnoredAny>()?;
            }
            items.next_element_seed(Down(rest))?;
        }
        arrived()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        arrived()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        arrived()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        arrived()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        arrived()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        arrived()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        arrived()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        arrived()
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        arrived()
    }
}

/// Tells whether a key is the wanted one. At the last one the way ends, since the key's own line says
/// more than that of a value further down.
struct Key<'s> {
    wanted: &'s str,
    last: bool,
}

impl Key<'_> {
    fn found<E: Error>(&self, key: &str) -> Result<bool, E> {
        let found = key == self.wanted;
        if found && self.last { arrived() } else { Ok(found) }
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        self.found(key)
    }

    fn visit_bool<E: Error>(self, key: bool) -> Result<bool, E> {
        self.found(&key.to_string())
    }

    fn visit_i64<E: Error>(self, key: i64) -> Result<bool, E> {
        self.found(&key.to_string())
    }

    fn visit_u64<E: Error>(self, key: u64) -> Result<bool, E> {
        self.found(&key.to_string())
    }

    fn visit_f64<E: Error>(self, key: f64) -> Result<bool, E> {
        self.found(&key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_apart() {
        let key = |text: &str| Step::Key(text.to_owned());
        let path = "spec.ingress[10].labels[\"a.b/c\"].x";
        let wanted = [key("spec"), key("ingress"), Step::Index(10), key("labels"), key("a.b/c"), key("x")];
        assert_eq!(steps(path).unwrap(), wanted);
        assert_eq!(steps("").unwrap(), []);
        assert_eq!(steps("[0].a").unwrap(), [Step::Index(0), key("a")]);
        assert_eq!(steps("a[x]"), None);
        assert_eq!(steps("a[0"), None);
    }
}
