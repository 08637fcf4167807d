//! What the client is answered: request for request in its order, by the numbers it gave, and nothing in a
//! list of all there is that the rules deny; what was asked for and denied says so.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{ApiKey, RequestKind, ResponseHeader, ResponseKind, TopicName},
    protocol::Decodable,
};
use l7_parsers::kafka::{Policy, Question, Resource, RuleSet, Verdict};

use super::{frame, names};

/// The requests that wait for an answer, and how far both streams are read.
#[derive(Default)]
pub(super) struct Shown {
    asked: VecDeque<Bytes>,
    from_client: Vec<u8>,
    read: [usize; 2],
}

impl Shown {
    pub(super) fn client_says(&mut self, octets: &[u8]) {
        self.from_client.extend_from_slice(octets);
        while let Some((request, next)) = frame(&self.from_client, self.read[0]) {
            self.asked.push_back(request);
            self.read[0] = next;
        }
    }

    /// Looks at the whole answers in what the client has got by now.
    pub(super) fn check(&mut self, rules: &RuleSet, to_client: &[u8]) {
        while let Some((answer, next)) = frame(to_client, self.read[1]) {
            self.read[1] = next;
            let request = self.asked_for(&answer);
            one(rules, &request, &answer);
        }
    }

    /// Only a Produce may go without an answer.
    fn asked_for(&mut self, answer: &Bytes) -> Bytes {
        loop {
            let request = self.asked.pop_front().expect("an answer is to a request");
            if request.get(4..8) == answer.get(..4) {
                return request;
            }
            assert_eq!(request[..2], [0, 0], "{request:?} has no answer, or {answer:?} is none of its");
        }
    }
}

fn one(rules: &RuleSet, request: &Bytes, answer: &Bytes) {
    let mut start = request.clone();
    let (key, version) = (start.get_i16(), start.get_i16());
    // Other answers may pass as they came, and kafka-protocol allocates whatever length it reads.
    if ![3, 16, 19, 66, 75].contains(&key) {
        return;
    }
    let Some((header, asked)) = names::read(request, key, version) else { return };
    let Some(said) = read(answer, key, version) else { return };
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    let is_denied = |resource: Resource<'_>| {
        let question = Question {
            api_key: key,
            api_version: version,
            client_id: &client_id,
            resource,
            group: None,
            transactional_id: None,
        };
        !matches!(rules.judge(&question), Verdict::Allow { .. })
    };
    let topic_is_denied = |name: &str| is_denied(Resource::Topic(name));
    // Of each topic in the answer, its error.
    let says = |topics: &[(String, i16)], name: &str| {
        assert!(
            !topic_is_denied(name) || topics.iter().any(|(own, error)| own == name && *error != 0),
            "{name} is denied, but not so answered: {asked:?} {said:?}"
        );
    };
    match (&asked, &said) {
        (_, ResponseKind::ListGroups(r)) => {
            let shown = r.groups.iter().find(|one| is_denied(Resource::Group(&one.group_id)));
            assert!(shown.is_none(), "shown: {shown:?}");
        }
        (_, ResponseKind::ListTransactions(r)) => {
            let is_denied = |id: &str| is_denied(Resource::TransactionalId(id));
            let shown = r.transaction_states.iter().find(|one| is_denied(&one.transactional_id));
            assert!(shown.is_none(), "shown: {shown:?}");
        }
        (RequestKind::Metadata(asked), ResponseKind::Metadata(r)) => {
            // Where there is an id, it says which topic is meant.
            let named = asked.topics.iter().flatten().filter(|one| one.topic_id.is_nil());
            let named = named.filter_map(|one| one.name.as_ref());
            let named: Vec<String> = named.map(|name| name.to_string()).collect();
            let name = |name: Option<&TopicName>| name.map(|name| name.to_string()).unwrap_or_default();
            let topics: Vec<_> =
                r.topics.iter().map(|one| (name(one.name.as_ref()), one.error_code)).collect();
            let asks_for_all = asked.topics.as_ref().is_none_or(|topics| version == 0 && topics.is_empty());
            if asks_for_all {
                let shown = topics.iter().find(|(name, _)| topic_is_denied(name));
                assert!(shown.is_none(), "shown: {shown:?}");
            }
            named.iter().for_each(|name| says(&topics, name));
        }
        (RequestKind::DescribeTopicPartitions(asked), ResponseKind::DescribeTopicPartitions(r)) => {
            let name = |name: Option<&TopicName>| name.map(|name| name.to_string()).unwrap_or_default();
            let topics: Vec<_> =
                r.topics.iter().map(|one| (name(one.name.as_ref()), one.error_code)).collect();
            if asked.topics.is_empty() {
                let shown = topics.iter().find(|(name, _)| topic_is_denied(name));
                assert!(shown.is_none(), "shown: {shown:?}");
            }
            asked.topics.iter().for_each(|one| says(&topics, &one.name));
        }
        (RequestKind::CreateTopics(asked), ResponseKind::CreateTopics(r)) => {
            let topics: Vec<_> = r.topics.iter().map(|one| (one.name.to_string(), one.error_code)).collect();
            asked.topics.iter().for_each(|one| says(&topics, &one.name));
        }
        _ => {}
    }
}

fn read(answer: &Bytes, key: i16, version: i16) -> Option<ResponseKind> {
    let key = ApiKey::try_from(key).ok()?;
    let mut octets = answer.clone();
    ResponseHeader::decode(&mut octets, key.response_header_version(version)).ok()?;
    let answer = ResponseKind::decode(key, &mut octets, version).ok()?;
    octets.is_empty().then_some(answer)
}
