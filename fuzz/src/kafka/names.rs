//! A request that went to the broker, as kafka-protocol reads it: each name in it must be allowed.

use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, RequestKind},
    protocol::Decodable,
};
use l7_parsers::kafka::{Policy, Question, Resource, RuleSet, Verdict};

/// What the request is, and in whose name.
struct Asking<'a> {
    rules: &'a RuleSet,
    key: i16,
    version: i16,
    client_id: String,
    group: Option<String>,
    transaction: Option<String>,
}

impl Asking<'_> {
    fn allowed(&self, resource: Resource<'_>) {
        let question = Question {
            api_key: self.key,
            api_version: self.version,
            client_id: &self.client_id,
            resource,
            group: self.group.as_deref(),
            transactional_id: self.transaction.as_deref(),
        };
        assert!(matches!(self.rules.judge(&question), Verdict::Allow { .. }), "it got through: {question:?}");
    }

    /// The group, or the transactional id, that the request speaks for.
    fn for_group(&mut self, group: impl ToString) {
        self.group = Some(group.to_string());
        self.allowed(Resource::Group(&group.to_string()));
    }

    fn for_transaction(&mut self, id: impl ToString) {
        self.transaction = Some(id.to_string());
        self.allowed(Resource::TransactionalId(&id.to_string()));
    }

    fn groups(&self, names: impl IntoIterator<Item = impl ToString>) {
        names.into_iter().for_each(|name| self.allowed(Resource::Group(&name.to_string())));
    }

    fn topics(&self, names: impl IntoIterator<Item = impl ToString>) {
        names.into_iter().for_each(|name| self.allowed(Resource::Topic(&name.to_string())));
    }
}

/// The correlation id of a request that has an answer. Names that stand as ids are not looked up here.
///
/// # Panics
/// Where a name is in it that the rules deny, or where it has no header.
pub(super) fn check(rules: &RuleSet, frame: &Bytes) -> Option<i32> {
    let mut start = frame.clone();
    let (key, version, correlation_id) = (start.get_i16(), start.get_i16(), start.get_i32());
    let silent_produce = |request: &RequestKind| matches!(request, RequestKind::Produce(r) if r.acks == 0);
    let Some((header, request)) = read(frame, key, version) else {
        // A version that it does not know; without acks there would be no answer, but that is rare.
        return Some(correlation_id);
    };
    let answered = (!silent_produce(&request)).then_some(correlation_id);
    if correlation_id == i32::MIN && matches!(request, RequestKind::Metadata(_)) {
        return answered;
    }
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    let mut asking = Asking { rules, key, version, client_id, group: None, transaction: None };
    names(&mut asking, request);
    answered
}

pub(super) fn read(frame: &Bytes, key: i16, version: i16) -> Option<(RequestHeader, RequestKind)> {
    let key = ApiKey::try_from(key).ok()?;
    let known = key.valid_versions();
    if !(known.min..=known.max).contains(&version) {
        return None;
    }
    let mut octets = frame.clone();
    let header = RequestHeader::decode(&mut octets, key.request_header_version(version)).ok()?;
    let request = RequestKind::decode(key, &mut octets, version).ok()?;
    octets.is_empty().then_some((header, request))
}

fn names(asking: &mut Asking<'_>, request: RequestKind) {
    match request {
        RequestKind::Produce(r) => {
            r.transactional_id.into_iter().for_each(|id| asking.for_transaction(&*id));
            if asking.version < 13 {
                asking.topics(r.topic_data.iter().map(|one| &*one.name));
            }
        }
        RequestKind::Fetch(r) if asking.version < 13 => asking.topics(r.topics.iter().map(|one| &*one.topic)),
        RequestKind::ListOffsets(r) => asking.topics(r.topics.iter().map(|one| &*one.name)),
        RequestKind::Metadata(r) => {
            let topics = r.topics.into_iter().flatten().filter(|one| one.topic_id.is_nil());
            asking.topics(topics.filter_map(|one| one.name.map(|name| name.to_string())));
        }
        RequestKind::OffsetCommit(r) => {
            asking.for_group(&*r.group_id);
            asking.topics(r.topics.iter().map(|one| &*one.name));
        }
        RequestKind::OffsetFetch(r) if asking.version < 8 => {
            asking.for_group(&*r.group_id);
            asking.topics(r.topics.iter().flatten().map(|one| &*one.name));
        }
        RequestKind::OffsetFetch(r) => {
            for group in &r.groups {
                asking.for_group(&*group.group_id);
                asking.topics(group.topics.iter().flatten().map(|one| &*one.name));
                asking.group = None;
            }
        }
        RequestKind::FindCoordinator(r) => {
            let one = (asking.version < 4).then_some(r.key);
            for name in one.iter().chain(&r.coordinator_keys) {
                match r.key_type {
                    0 => asking.allowed(Resource::Group(name)),
                    1 => asking.allowed(Resource::TransactionalId(name)),
                    _ => asking.allowed(Resource::Cluster),
                }
            }
        }
        RequestKind::JoinGroup(r) => asking.for_group(&*r.group_id),
        RequestKind::Heartbeat(r) => asking.for_group(&*r.group_id),
        RequestKind::LeaveGroup(r) => asking.for_group(&*r.group_id),
        RequestKind::SyncGroup(r) => asking.for_group(&*r.group_id),
        RequestKind::DescribeGroups(r) => asking.groups(r.groups.iter().map(|one| &**one)),
        RequestKind::DeleteGroups(r) => asking.groups(r.groups_names.iter().map(|one| &**one)),
        RequestKind::CreateTopics(r) => asking.topics(r.topics.iter().map(|one| &*one.name)),
        RequestKind::DeleteTopics(r) if asking.version < 6 => {
            asking.topics(r.topic_names.iter().map(|one| &**one));
        }
        RequestKind::DeleteTopics(r) => {
            let named = r.topics.iter().filter(|one| one.topic_id.is_nil());
            asking.topics(named.filter_map(|one| one.name.as_deref()));
        }
        RequestKind::DeleteRecords(r) => asking.topics(r.topics.iter().map(|one| &*one.name)),
        RequestKind::CreatePartitions(r) => asking.topics(r.topics.iter().map(|one| &*one.name)),
        RequestKind::OffsetForLeaderEpoch(r) => asking.topics(r.topics.iter().map(|one| &*one.topic)),
        RequestKind::DescribeTopicPartitions(r) => asking.topics(r.topics.iter().map(|one| &*one.name)),
        RequestKind::InitProducerId(r) => match r.transactional_id {
            Some(id) => asking.for_transaction(&*id),
            None => asking.allowed(Resource::ProducerId),
        },
        RequestKind::AddPartitionsToTxn(r) => {
            asking.for_transaction(&*r.v3_and_below_transactional_id);
            asking.topics(r.v3_and_below_topics.iter().map(|one| &*one.name));
        }
        RequestKind::AddOffsetsToTxn(r) => {
            asking.group = Some(r.group_id.to_string());
            asking.for_transaction(&*r.transactional_id);
            asking.for_group(&*r.group_id);
        }
        RequestKind::EndTxn(r) => asking.for_transaction(&*r.transactional_id),
        RequestKind::TxnOffsetCommit(r) => {
            asking.group = Some(r.group_id.to_string());
            asking.for_transaction(&*r.transactional_id);
            asking.for_group(&*r.group_id);
            asking.topics(r.topics.iter().map(|one| &*one.name));
        }
        RequestKind::DescribeTransactions(r) => {
            for id in &r.transactional_ids {
                asking.allowed(Resource::TransactionalId(id));
            }
        }
        RequestKind::DescribeConfigs(r) => {
            for one in &r.resources {
                match one.resource_type {
                    2 => asking.allowed(Resource::Topic(&one.resource_name)),
                    32 => asking.allowed(Resource::Group(&one.resource_name)),
                    _ => asking.allowed(Resource::Cluster),
                }
            }
        }
        RequestKind::ConsumerGroupHeartbeat(r) => {
            asking.for_group(&*r.group_id);
            asking.topics(r.subscribed_topic_names.iter().flatten().map(|one| &**one));
        }
        RequestKind::ShareGroupHeartbeat(r) => {
            asking.for_group(&*r.group_id);
            asking.topics(r.subscribed_topic_names.iter().flatten().map(|one| &**one));
        }
        RequestKind::ShareFetch(r) => asking.for_group(r.group_id.as_deref().map_or("", |id| id)),
        RequestKind::ShareAcknowledge(r) => asking.for_group(r.group_id.as_deref().map_or("", |id| id)),
        RequestKind::DescribeAcls(_) | RequestKind::CreateAcls(_) | RequestKind::DeleteAcls(_) => {
            asking.allowed(Resource::Cluster);
        }
        _ => {}
    }
}
