//! Text to JSON values: YAML (of which JSON is a part), one value a document.

use std::{cell::Cell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::locate::Source;

/// One document of a text: where it stands and what it says.
pub(super) struct Chunk<'t> {
    pub(super) source: Source<'t>,
    pub(super) value: Result<Value, SyntaxError>,
}

pub(super) struct SyntaxError {
    pub(super) line: usize,
    pub(super) column: Option<usize>,
    pub(super) reason: String,
}

/// Cuts a text at its `---` lines, so that a broken document spoils no other, and reads each part.
/// Documents without content are left out.
pub(super) fn read(text: &str) -> Vec<Chunk<'_>> {
    // A byte order mark is no part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut first_line = 1;
    let mut start = 0;
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if offset > start && is_separator(line) {
            read_part(&text[start..offset], first_line, &mut chunks);
            start = offset;
            first_line = number + 1;
        }
        offset += line.len();
    }
    read_part(&text[start..], first_line, &mut chunks);
    chunks
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The YAML reader's time grows with the square of the depth of brackets, and it goes all the way down
/// before it minds its own limit (128).
const DEEPEST_BRACKETS: usize = 1000;

/// The line on which more brackets are open than any document needs. What stands in quotes counts too,
/// which is no harm at such a number.
fn too_deep(part: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (number, line) in part.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEEPEST_BRACKETS {
                return Some(number);
            }
        }
    }
    None
}

fn read_part<'t>(part: &'t str, first_line: usize, chunks: &mut Vec<Chunk<'t>>) {
    let source = |nth| Source { part, first_line, nth, trail: Vec::new() };
    if let Some(number) = too_deep(part) {
        let error = SyntaxError {
            line: first_line + number,
            column: None,
            reason: format!("brackets lie too deep in each other (more than {DEEPEST_BRACKETS})"),
        };
        chunks.push(Chunk { source: source(0), value: Err(error) });
        return;
    }
    let room = Room::of(part);
    for (nth, document) in serde_norway::Deserializer::from_str(part).enumerate() {
        match Strict(&room).deserialize(document) {
            Ok(Value::Null) => {}
            Ok(value) => chunks.push(Chunk { source: source(nth), value: Ok(value) }),
            Err(error) => {
                let place = error.location();
                let line = first_line + place.as_ref().map_or(0, |p| p.line().saturating_sub(1));
                let column = place.as_ref().map(serde_norway::Location::column);
                let reason = without_place(&error.to_string());
                let value = Err(SyntaxError { line, column, reason });
                chunks.push(Chunk { source: source(nth), value });
                // The reader cannot find its way back after an error.
                return;
            }
        }
    }
}

/// The library's message counts lines from the document's start; ours are the file's.
fn without_place(message: &str) -> String {
    match message.find(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message.to_owned(),
    }
}

/// Octets of memory that a text's values may still take, roughly. Only aliases (`*name`) can make
/// them take much more than the text has, without an end: the reader counts aliases, not what they
/// stand for.
struct Room(Cell<usize>);

impl Room {
    /// Of a value beside its text.
    const VALUE: usize = 32;
    /// For aliases. The shortest text of a value is two octets (`a,`), which the other part pays for.
    const SPARE: usize = 32 << 20;

    fn of(text: &str) -> Self {
        Self(Cell::new((text.len() + 1) * (Self::VALUE + 1) + Self::SPARE))
    }

    fn take<E: de::Error>(&self, octets: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(Self::VALUE + octets);
        self.0.set(left.ok_or_else(|| E::custom("its aliases stand for too much in all"))?);
        Ok(())
    }
}

/// Reads a JSON value in which no key stands twice.
struct Strict<'r>(&'r Room);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain YAML value (no tags)")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.take(0)?;
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format!("{value} has no meaning here")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        self.0.take(0)?;
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.take(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Strict(self.0))? {
            let key = match key {
                Value::String(key) => key,
                Value::Bool(_) | Value::Number(_) => key.to_string(),
                _ => return Err(de::Error::custom("a key must be a plain word")),
            };
            if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key {key:?} stands twice")));
            }
            let value = entries.next_value_seed(Strict(self.0))?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
