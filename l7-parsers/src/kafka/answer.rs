//! Answers that say no, in the version of their request. What a field is called tells what it gets:
//! the request's name and partition, the error, −1 where a broker has no offset, node or time to tell.

use super::{
    api::{self, Api, Entries, error},
    schema::{Layout, Message},
    value::Value,
};

/// Goes where the protocol has room for words.
const REFUSED: &str = "refused by network policy";

/// Fields that say what an entry is about.
const NAMES: [&str; 10] = [
    "Name",
    "Topic",
    "TopicName",
    "TopicId",
    "GroupId",
    "TransactionalId",
    "Key",
    "ResourceType",
    "ResourceName",
    "Entity",
];
const PARTITION: [&str; 4] = ["Index", "Partition", "PartitionIndex", "PartitionId"];
const UNKNOWN: [&str; 11] = [
    "BaseOffset",
    "LogAppendTimeMs",
    "LogStartOffset",
    "HighWatermark",
    "LastStableOffset",
    "LowWatermark",
    "CommittedOffset",
    "NodeId",
    "Port",
    "LeaderId",
    "LeaderEpoch",
];

pub(super) fn set_error(answer: &mut Value, layout: &Layout, code: i16) {
    answer.set(layout, "ErrorCode", Value::Int(code.into()));
    answer.set(layout, "PartitionErrorCode", Value::Int(code.into()));
    answer.set(layout, "ErrorMessage", Value::text(REFUSED));
    for name in UNKNOWN {
        answer.set(layout, name, Value::Int(-1));
    }
    // A tagged struct that is left out is one without a leader.
    answer.set(layout, "CurrentLeader", Value::Absent);
}

/// The answer's entry for one of the request's.
pub(super) fn entry(
    entries: &Entries,
    asked: &Value,
    request: &Layout,
    response: &Layout,
    code: i16,
) -> Value {
    let Some(layout) = response.inside(entries.response) else { return Value::Null };
    let mut answer = Value::empty(layout);
    match request.inside(entries.request) {
        Some(from) => {
            for name in NAMES {
                answer.set(layout, name, asked.get(from, name).clone());
            }
        }
        None => {
            NAMES.iter().take(7).filter(|name| **name != "TopicId").for_each(|name| {
                answer.set(layout, name, asked.clone());
            });
        }
    }
    if entries.partitions.is_empty() {
        set_error(&mut answer, layout, code);
        return answer;
    }
    let from = request.inside(entries.request);
    let (Some(from), Some(to)) = (from, layout.inside(entries.response_partitions)) else {
        return answer;
    };
    let partitions = asked.get(from, entries.partitions).elements().iter().map(|partition| {
        let mut one = Value::empty(to);
        set_error(&mut one, to, code);
        let number = partition_number(partition, from.inside(entries.partitions));
        PARTITION.iter().for_each(|name| one.set(to, name, Value::Int(number)));
        one
    });
    let partitions = Value::Array(partitions.collect());
    answer.set(layout, entries.response_partitions, partitions);
    answer
}

/// The number of an entry of a partition list, which is a struct or the bare number.
pub(super) fn partition_number(partition: &Value, layout: Option<&Layout>) -> i64 {
    match layout {
        Some(layout) => PARTITION.iter().find_map(|name| partition.get(layout, name).as_int()).unwrap_or(-1),
        None => partition.as_int().unwrap_or(-1),
    }
}

/// The answer to a request that is denied as a whole: the answer's own error where the version has
/// one, else the error for each thing that was asked.
pub(super) fn whole(message: &Message, api: &Api, version: i16, request: &Value, code: i16) -> Value {
    let layout = &message.response;
    let mut answer = Value::empty(layout);
    if layout.index_in("ErrorCode", version).is_some() {
        set_error(&mut answer, layout, code);
        return answer;
    }
    match api.key {
        api::ALTER_REPLICA_LOG_DIRS => log_dirs(message, request, &mut answer, code),
        api::ALTER_USER_SCRAM_CREDENTIALS => users(message, request, &mut answer, code),
        _ => {}
    }
    if let Some(entries) = entries_in(api, &message.request, version) {
        let asked = request.get(&message.request, entries.request).elements();
        let all = asked.iter().map(|asked| entry(entries, asked, &message.request, layout, code));
        answer.set(layout, entries.response, Value::Array(all.collect()));
    }
    answer
}

/// The list of this version, if it is not inside a scope.
pub(super) fn entries_in<'a>(api: &'a Api, request: &Layout, version: i16) -> Option<&'a Entries> {
    api.entries.iter().find(|entries| request.index_in(entries.request, version).is_some())
}

/// AlterReplicaLogDirs asks by directory and is answered by topic.
fn log_dirs(message: &Message, request: &Value, answer: &mut Value, code: i16) {
    let (from, to) = (&message.request, &message.response);
    let (Some(dir), Some(_)) = (from.inside("Dirs"), to.inside("Results")) else { return };
    let entries = api::log_dir_topics();
    let asked = request.get(from, "Dirs").elements().iter();
    let topics = asked.flat_map(|one| one.get(dir, entries.request).elements());
    let results: Vec<_> = topics
        .map(|topic| {
            let mut result = entry(entries, topic, dir, to, code);
            let (layout, name) = (to.inside("Results"), dir.inside("Topics"));
            if let (Some(layout), Some(name)) = (layout, name) {
                result.set(layout, "TopicName", topic.get(name, "Name").clone());
            }
            result
        })
        .collect();
    answer.set(to, "Results", Value::Array(results));
}

/// AlterUserScramCredentials has two lists of users and is answered with one.
fn users(message: &Message, request: &Value, answer: &mut Value, code: i16) {
    let (from, to) = (&message.request, &message.response);
    let Some(result) = to.inside("Results") else { return };
    let mut results = Vec::new();
    for list in ["Deletions", "Upsertions"] {
        let Some(layout) = from.inside(list) else { continue };
        for user in request.get(from, list).elements() {
            let mut one = Value::empty(result);
            set_error(&mut one, result, code);
            one.set(result, "User", user.get(layout, "Name").clone());
            results.push(one);
        }
    }
    answer.set(to, "Results", Value::Array(results));
}

/// The error of a resource's kind.
pub(super) fn code_of(resource: super::rules::Resource<'_>) -> i16 {
    use super::rules::Resource;
    match resource {
        Resource::Topic(_) => error::TOPIC,
        Resource::Group(_) => error::GROUP,
        Resource::TransactionalId(_) => error::TRANSACTIONAL_ID,
        Resource::Cluster | Resource::ProducerId => error::CLUSTER,
    }
}
