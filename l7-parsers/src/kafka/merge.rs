//! The broker's answer and the denied entries, put together in the order of the client's request.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::{schema::Layout, topics::TopicId, value::Value};

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Name(Bytes),
    Id(TopicId),
}

impl Key {
    /// The name, or the id where there is no name.
    pub(super) fn of(entry: &Value, layout: Option<&Layout>) -> Self {
        let Some(layout) = layout else {
            return Self::Name(match entry {
                Value::Text(text) => text.clone(),
                _ => Bytes::new(),
            });
        };
        const NAMES: [&str; 7] =
            ["Name", "Topic", "TopicName", "GroupId", "TransactionalId", "Key", "ResourceName"];
        for name in NAMES {
            if let Value::Text(text) = entry.get(layout, name) {
                // Two kinds of resource may have the same name.
                return match entry.get(layout, "ResourceType").as_int() {
                    Some(kind) => Self::Name(format!("{kind} {}", String::from_utf8_lossy(text)).into()),
                    None => Self::Name(text.clone()),
                };
            }
        }
        Self::Id(entry.get(layout, "TopicId").as_uuid().unwrap_or_default())
    }

    /// The same of a request's entry, but an id counts before a name: a broker that is given both
    /// goes by the id.
    pub(super) fn asked(entry: &Value, layout: Option<&Layout>) -> Self {
        id_of(entry, layout).unwrap_or_else(|| Self::of(entry, layout))
    }
}

fn id_of(entry: &Value, layout: Option<&Layout>) -> Option<Key> {
    let id = entry.get(layout?, "TopicId").as_uuid()?;
    (id != [0; 16]).then_some(Key::Id(id))
}

/// A place in the answer.
#[derive(Debug)]
pub(super) enum Slot {
    Denied(Value),
    /// The broker's entry of this key.
    Forwarded(Key),
}

#[derive(Debug)]
pub(super) enum Merge {
    List {
        response: &'static str,
        slots: Vec<Slot>,
    },
    /// Entries that have a list each.
    Scopes {
        response: &'static str,
        inner: &'static str,
        slots: Vec<(Slot, Vec<Slot>)>,
    },
}

impl Slot {
    fn detach(&mut self) {
        match self {
            Self::Denied(entry) => entry.detach(),
            Self::Forwarded(Key::Name(name)) => *name = Bytes::copy_from_slice(name),
            Self::Forwarded(Key::Id(_)) => {}
        }
    }

    fn octets(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Denied(entry) => entry.octets(),
                Self::Forwarded(Key::Name(name)) => name.len(),
                Self::Forwarded(Key::Id(_)) => 0,
            }
    }
}

impl Merge {
    /// Keeps nothing of the request but its names.
    pub(super) fn detach(&mut self) {
        match self {
            Self::List { slots, .. } => slots.iter_mut().for_each(Slot::detach),
            Self::Scopes { slots, .. } => {
                for (slot, inner) in slots {
                    slot.detach();
                    inner.iter_mut().for_each(Slot::detach);
                }
            }
        }
    }

    /// Octets of memory that it takes.
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::List { slots, .. } => slots.iter().map(Slot::octets).sum(),
            Self::Scopes { slots, .. } => slots
                .iter()
                .map(|(slot, inner)| slot.octets() + inner.iter().map(Slot::octets).sum::<usize>())
                .sum(),
        }
    }

    pub(super) fn into_answer(self, answer: &mut Value, layout: &Layout) {
        match self {
            Self::List { response, slots } => merge(answer, layout, response, slots),
            Self::Scopes { response, inner, slots } => {
                let inside = layout.inside(response);
                let mut within = HashMap::new();
                let mut outer = Vec::with_capacity(slots.len());
                for (slot, inner) in slots {
                    if let (Slot::Forwarded(key), false) = (&slot, inner.is_empty()) {
                        within.insert(key.clone(), inner);
                    }
                    outer.push(slot);
                }
                let mut answers =
                    answer.get_mut(layout, response).map(Value::take_elements).unwrap_or_default();
                for one in &mut answers {
                    let slots = within.remove(&Key::of(one, inside));
                    // A group's own error goes without topics.
                    if let (Some(inside), Some(slots)) = (inside, slots)
                        && matches!(one.get(inside, "ErrorCode").as_int(), None | Some(0))
                    {
                        merge(one, inside, inner, slots);
                    }
                }
                answer.set(layout, response, Value::Array(answers));
                merge(answer, layout, response, outer);
            }
        }
    }
}

/// What the broker says of no place goes to the end: nothing is lost.
fn merge(answer: &mut Value, layout: &Layout, field: &str, slots: Vec<Slot>) {
    let inside = layout.inside(field);
    let given = answer.get_mut(layout, field).map(Value::take_elements).unwrap_or_default();
    let mut places: HashMap<Key, VecDeque<usize>> = HashMap::new();
    for (at, one) in given.iter().enumerate() {
        for key in [Some(Key::of(one, inside)), id_of(one, inside)].into_iter().flatten() {
            places.entry(key).or_default().push_back(at);
        }
    }
    let mut given: Vec<_> = given.into_iter().map(Some).collect();
    let mut merged = Vec::with_capacity(given.len() + slots.len());
    for slot in slots {
        match slot {
            Slot::Denied(entry) => merged.push(entry),
            Slot::Forwarded(key) => {
                let mut next = || places.get_mut(&key)?.pop_front();
                // A place that was taken by its other key is passed over.
                let entry = std::iter::from_fn(&mut next).find_map(|at| given[at].take());
                merged.extend(entry);
            }
        }
    }
    merged.extend(given.into_iter().flatten());
    answer.set(layout, field, Value::Array(merged));
}
