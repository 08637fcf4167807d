//! Members of groups to whom not all was shown that they were assigned.
//!
//! A broker that takes a partition away waits until the member says what it still owns, and assigns nothing
//! else to it meanwhile. A member that was not shown the partition has no reason to say anything: it is said
//! here in its stead.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    api,
    judge::{Decision, Judge},
    schema::Layout,
    sessions::Change,
    topics::TopicId,
    value::Value,
};

/// Partitions by topic.
pub(super) type Assigned = BTreeMap<TopicId, BTreeSet<i64>>;

/// By group and member.
type Key = (String, String);

#[derive(Debug)]
pub(super) struct Members {
    given: HashMap<Key, Given>,
    octets: usize,
    most: usize,
}

#[derive(Debug)]
struct Given {
    all: Assigned,
    shown: Assigned,
    word: Word,
}

/// Whether the broker waits for a word of the member that the member will not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    None,
    Owed,
}

impl Members {
    pub(super) fn new(most: usize) -> Self {
        Self { given: HashMap::new(), octets: 0, most }
    }

    /// Octets of memory, about.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    /// The broker has assigned all this, and the member was shown some of it.
    pub(super) fn told(&mut self, group: &str, member: &str, all: Assigned, shown: Assigned) {
        let key = (group.to_owned(), member.to_owned());
        let word = match self.given.get(&key) {
            Some(before)
                if before.shown == shown && (before.word == Word::Owed || lost(&before.all, &all)) =>
            {
                Word::Owed
            }
            // Where what it is shown changes, the member has something to say of itself.
            _ => Word::None,
        };
        self.forget(&key);
        if all == shown && word == Word::None {
            return;
        }
        let given = Given { all, shown, word };
        self.octets += octets(&key, &given);
        if self.octets > self.most {
            // The broker's patience with a member has an end, after which it joins anew.
            (self.given, self.octets) = (HashMap::new(), 0);
            return;
        }
        self.given.insert(key, given);
    }

    /// A heartbeat, with the word that is owed.
    pub(super) fn heartbeat(&mut self, judge: &mut Judge<'_>, mut request: Value) -> (Decision, Change) {
        let layout = &judge.message.request;
        let text = |field: &str| request.get(layout, field).as_text().unwrap_or_default().to_owned();
        let key = (text("GroupId"), text("MemberId"));
        let leaves = request.get(layout, "MemberEpoch").as_int().is_some_and(|epoch| epoch < 0);
        let silent = *request.get(layout, "TopicPartitions") == Value::Null;
        let mut change = Change::None;
        if leaves {
            self.forget(&key);
        } else if let Some(given) = self.given.get_mut(&key)
            && std::mem::replace(&mut given.word, Word::None) == Word::Owed
            && silent
        {
            let owned = owned(&given.shown, layout);
            request.set(layout, "TopicPartitions", owned);
            change = Change::Made;
        }
        (judge.decide(request), change)
    }

    fn forget(&mut self, key: &Key) {
        if let Some(given) = self.given.remove(key) {
            self.octets = self.octets.saturating_sub(octets(key, &given));
        }
    }
}

fn octets((group, member): &Key, given: &Given) -> usize {
    const MEMBER: usize = 256;
    const TOPIC: usize = 96;
    const PARTITION: usize = 24;
    let lists = [&given.all, &given.shown].into_iter().flat_map(BTreeMap::values);
    MEMBER + group.len() + member.len() + lists.map(|parts| TOPIC + PARTITION * parts.len()).sum::<usize>()
}

fn lost(before: &Assigned, now: &Assigned) -> bool {
    before.iter().any(|(id, partitions)| now.get(id).is_none_or(|left| !partitions.is_subset(left)))
}

/// What an answer assigns; `None` where it says nothing of it.
pub(super) fn assigned(answer: &Value, layout: &Layout) -> Option<Assigned> {
    let (assignment, list, topic) = api::assignment(layout)?;
    let given = answer.get(layout, "Assignment");
    if given.fields().is_empty() {
        return None;
    }
    let topics = given.get(assignment, list).elements().iter();
    let one = |one: &Value| {
        let partitions = one.get(topic, "Partitions").elements().iter().filter_map(Value::as_int);
        Some((one.get(topic, "TopicId").as_uuid()?, partitions.collect()))
    };
    Some(topics.filter_map(one).collect())
}

fn owned(shown: &Assigned, request: &Layout) -> Value {
    let Some(topic) = request.inside("TopicPartitions") else { return Value::Null };
    let one = |(id, partitions): (&TopicId, &BTreeSet<i64>)| {
        let mut one = Value::empty(topic);
        one.set(topic, "TopicId", Value::Uuid(*id));
        one.set(topic, "Partitions", Value::Array(partitions.iter().copied().map(Value::Int).collect()));
        one
    };
    Value::Array(shown.iter().map(one).collect())
}
