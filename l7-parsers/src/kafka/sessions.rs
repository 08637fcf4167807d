//! Fetch sessions: what a client fetches without saying it again.
//!
//! Consumers' fetch sessions are an economy that a client must be able to do without, so none is
//! granted: each fetch says all it wants and is judged by the rules of its moment. Share sessions are
//! part of their protocol; what they hold is kept here and judged with every fetch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    answer,
    api::{self, error},
    judge::{Decision, Judge},
    members::Members,
    merge::{Merge, Slot},
    rules::Resource,
    schema::Layout,
    topics::TopicId,
    value::Value,
};

/// Whether the request that goes on differs from the one that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Made,
}

/// Judges a request together with what its session holds.
pub(super) fn decide(
    shares: &mut ShareSessions,
    members: &mut Members,
    judge: &mut Judge<'_>,
    request: Value,
) -> (Decision, Change) {
    match judge.api.key {
        api::FETCH => fetch(judge, request),
        api::SHARE_FETCH => shares.fetch(judge, request),
        api::CONSUMER_GROUP_HEARTBEAT => members.heartbeat(judge, request),
        _ => (judge.decide(request), Change::None),
    }
}

const NO_SESSION: i64 = -1;

fn fetch(judge: &mut Judge<'_>, mut request: Value) -> (Decision, Change) {
    let layout = &judge.message.request;
    let number = |field: &str| request.get(layout, field).as_int();
    if number("SessionId").is_some_and(|id| id != 0) {
        // No client was given one here; it begins again without.
        return (refuse_session(judge, error::FETCH_SESSION_NOT_FOUND), Change::None);
    }
    if number("SessionEpoch").is_some_and(|epoch| epoch != NO_SESSION) {
        request.set(layout, "SessionEpoch", Value::Int(NO_SESSION));
        return (judge.decide(request), Change::Made);
    }
    (judge.decide(request), Change::None)
}

fn refuse_session(judge: &mut Judge<'_>, code: i16) -> Decision {
    let layout = &judge.message.response;
    let mut answer = Value::empty(layout);
    answer.set(layout, "ErrorCode", Value::Int(code.into()));
    judge.findings.code = code;
    Decision::Answer(answer)
}

#[derive(Debug)]
pub(super) struct ShareSessions {
    /// By group and member.
    sessions: HashMap<(String, String), Session>,
    /// What all sessions take, and may take.
    octets: usize,
    most: usize,
}

#[derive(Debug, Default)]
struct Session {
    topics: BTreeMap<TopicId, Shared>,
    /// What it took when it was last looked at.
    octets: usize,
}

impl Session {
    /// Octets of memory, about, with its key.
    fn octets(&self, key: &(String, String)) -> usize {
        const SESSION: usize = 256;
        const TOPIC: usize = 128;
        const PARTITION: usize = 24;
        let topic = |shared: &Shared| TOPIC + PARTITION * shared.partitions.len();
        SESSION + key.0.len() + key.1.len() + self.topics.values().map(topic).sum::<usize>()
    }
}

#[derive(Debug)]
struct Shared {
    partitions: BTreeSet<i64>,
    /// Whether the broker's session has the topic.
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sent,
    Withheld,
}

impl ShareSessions {
    pub(super) fn new(most: usize) -> Self {
        Self { sessions: HashMap::new(), octets: 0, most }
    }

    /// Octets of memory, about.
    pub(super) fn octets(&self) -> usize {
        self.octets
    }

    fn fetch(&mut self, judge: &mut Judge<'_>, mut request: Value) -> (Decision, Change) {
        let layout = &judge.message.request;
        let text = |field: &str| request.get(layout, field).as_text().unwrap_or_default().to_owned();
        let key = (text("GroupId"), text("MemberId"));
        let epoch = request.get(layout, "ShareSessionEpoch").as_int().unwrap_or(0);
        if epoch == 0 || !self.sessions.contains_key(&key) {
            self.end(&key);
            if epoch > 0 {
                return (refuse_session(judge, error::SHARE_SESSION_NOT_FOUND), Change::None);
            }
        }
        let session = self.sessions.entry(key.clone()).or_default();
        for (id, partitions) in listed(&request, layout, "Topics") {
            let shared = Shared { partitions: BTreeSet::new(), state: State::Withheld };
            session.topics.entry(id).or_insert(shared).partitions.extend(partitions);
        }
        for (id, partitions) in listed(&request, layout, "ForgottenTopicsData") {
            if let Some(shared) = session.topics.get_mut(&id) {
                partitions.iter().for_each(|partition| {
                    shared.partitions.remove(partition);
                });
                if shared.partitions.is_empty() {
                    session.topics.remove(&id);
                }
            }
        }
        let octets = session.octets(&key);
        self.octets = (self.octets + octets).saturating_sub(session.octets);
        session.octets = octets;
        if self.octets > self.most {
            self.end(&key);
            return (refuse_session(judge, error::SHARE_SESSION_NOT_FOUND), Change::None);
        }
        let asked: BTreeSet<TopicId> =
            listed(&request, layout, "Topics").into_iter().map(|(id, _)| id).collect();
        let (mut forget, mut slots) = (Vec::new(), Vec::new());
        for (id, shared) in session.topics.iter_mut() {
            let code = match judge.ids.name(*id) {
                Some(name) => judge.refusal(Resource::Topic(name), Some(&key.0)),
                None => Some(error::UNKNOWN_TOPIC_ID),
            };
            match (code, shared.state) {
                (None, State::Withheld) if !asked.contains(id) => {
                    // Allowed since: the broker must hear of it from the client, which begins again.
                    self.end(&key);
                    return (refuse_session(judge, error::SHARE_SESSION_NOT_FOUND), Change::None);
                }
                (None, _) => shared.state = State::Sent,
                (Some(code), state) => {
                    if state == State::Sent {
                        forget.push((*id, shared.partitions.clone()));
                    }
                    shared.state = State::Withheld;
                    if !asked.contains(id) {
                        slots.extend(denied(judge, *id, &shared.partitions, code).map(Slot::Denied));
                    }
                }
            }
        }
        if epoch == NO_SESSION {
            self.end(&key);
        }
        let change = if forget.is_empty() { Change::None } else { Change::Made };
        forget_topics(&mut request, layout, forget);
        judge.findings = std::mem::take(&mut judge.findings).without_topics();
        let mut decision = judge.decide(request);
        if let (Decision::Forward(_, edit) | Decision::Rewritten(_, edit), false) =
            (&mut decision, slots.is_empty())
        {
            match &mut edit.merge {
                Some(Merge::List { slots: all, .. }) => all.extend(slots),
                _ => edit.merge = Some(Merge::List { response: "Responses", slots }),
            }
        }
        (decision, change)
    }

    fn end(&mut self, key: &(String, String)) {
        let ended = self.sessions.remove(key).map_or(0, |session| session.octets);
        self.octets = self.octets.saturating_sub(ended);
    }
}

/// Topics and partitions of one of the request's lists.
fn listed(request: &Value, layout: &Layout, field: &str) -> Vec<(TopicId, Vec<i64>)> {
    let Some(inside) = layout.inside(field) else { return Vec::new() };
    let partitions = inside.inside("Partitions");
    let numbers = |one: &Value| {
        let all = one.get(inside, "Partitions").elements().iter();
        all.map(|partition| answer::partition_number(partition, partitions)).collect()
    };
    let topics = request.get(layout, field).elements().iter();
    topics.filter_map(|one| Some((one.get(inside, "TopicId").as_uuid()?, numbers(one)))).collect()
}

/// Makes the broker's session let go of topics.
fn forget_topics(request: &mut Value, layout: &Layout, topics: Vec<(TopicId, BTreeSet<i64>)>) {
    let Some(inside) = layout.inside("ForgottenTopicsData") else { return };
    if let Some(Value::Array(list)) = request.get_mut(layout, "ForgottenTopicsData") {
        for (id, partitions) in topics {
            let mut one = Value::empty(inside);
            one.set(inside, "TopicId", Value::Uuid(id));
            let partitions = partitions.into_iter().map(Value::Int).collect();
            one.set(inside, "Partitions", Value::Array(partitions));
            list.push(one);
        }
    }
}

/// The answer's entry of a topic that the session holds and the rules deny.
fn denied(judge: &Judge<'_>, id: TopicId, partitions: &BTreeSet<i64>, code: i16) -> Option<Value> {
    let (from, to) = (&judge.message.request, &judge.message.response);
    let entries = answer::entries_in(judge.api, from, judge.version)?;
    let (topic, part) = (from.inside("Topics")?, from.inside("Topics")?.inside("Partitions")?);
    let mut asked = Value::empty(topic);
    asked.set(topic, "TopicId", Value::Uuid(id));
    let partitions = partitions.iter().map(|number| {
        let mut one = Value::empty(part);
        one.set(part, "PartitionIndex", Value::Int(*number));
        one
    });
    asked.set(topic, "Partitions", Value::Array(partitions.collect()));
    Some(answer::entry(entries, &asked, from, to, code))
}
