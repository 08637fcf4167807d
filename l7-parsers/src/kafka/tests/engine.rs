use bytes::Bytes;

use super::stage::{Everything, Names, Nothing, Stage, answer, fields, message, read_request, request};
use crate::kafka::{
    Closing, Engine, Limits, Outcome, Policy, Question, Verdict, api, respond, schema::Layout, value::Value,
};

const PRODUCE: i16 = 0;
const LIST_OFFSETS: i16 = 2;
const HEARTBEAT: i16 = 12;

pub(super) fn heartbeat(group: &str) -> Value {
    fields(&message(HEARTBEAT).request, [("GroupId", Value::text(group)), ("MemberId", Value::text("m"))])
}

fn ok(key: i16, version: i16, correlation_id: i32) -> Bytes {
    answer(key, version, correlation_id, &Value::empty(&message(key).response))
}

fn topics(layout: &Layout, names: &[&str]) -> Value {
    let topic = layout.inside("Topics").unwrap();
    let list = names.iter().map(|name| fields(topic, [("Name", Value::text(name))]));
    Value::Array(list.collect())
}

/// Produce of one partition each with these records.
pub(super) fn produce(acks: i64, names: &[&str], records: &Bytes) -> Value {
    let layout = &message(PRODUCE).request;
    let topic = layout.inside("TopicData").unwrap();
    let partition = topic.inside("PartitionData").unwrap();
    let data = names.iter().map(|name| {
        let one = fields(partition, [("Index", Value::Int(3)), ("Records", Value::Octets(records.clone()))]);
        fields(topic, [("Name", Value::text(name)), ("PartitionData", Value::Array(vec![one]))])
    });
    let data = Value::Array(data.collect());
    fields(layout, [("Acks", Value::Int(acks)), ("TopicData", data), ("TransactionalId", Value::Null)])
}

#[test]
fn an_answer_made_here_waits_for_its_turn() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("a")));
    stage.client_says(&request(HEARTBEAT, 4, 2, &heartbeat("z")));
    stage.client_says(&request(HEARTBEAT, 4, 3, &heartbeat("a")));
    let sent = stage.at_broker();
    assert_eq!(
        sent,
        [request(HEARTBEAT, 4, 1, &heartbeat("a")), request(HEARTBEAT, 4, 3, &heartbeat("a"))].concat()
    );
    assert_eq!(stage.at_client(), "");
    let first = ok(HEARTBEAT, 4, 1);
    stage.broker_says(&first);
    let both = stage.at_client();
    assert_eq!(both[..first.len()], first);
    let second = super::stage::read_answer(&both.slice(first.len()..), HEARTBEAT, 4);
    assert_eq!(second.start.correlation_id, 2);
    assert_eq!(respond::first_error(&second.value, &message(HEARTBEAT).response), 30);
    stage.broker_says(&ok(HEARTBEAT, 4, 3));
    assert_eq!(stage.at_client(), ok(HEARTBEAT, 4, 3));
    let outcomes: Vec<_> =
        stage.records().iter().map(|record| (record.correlation_id, record.outcome)).collect();
    assert_eq!(outcomes, [(1, Outcome::Allowed), (2, Outcome::Denied), (3, Outcome::Allowed)]);
}

#[test]
fn the_record_says_what_was_asked_and_which_rule_decided() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("z")));
    let record = stage.records().pop().unwrap();
    assert_eq!(
        (record.api_key, record.api_name, record.api_version, record.correlation_id),
        (HEARTBEAT, "Heartbeat", 4, 1)
    );
    assert_eq!((record.client_id.as_str(), record.group.as_deref()), ("tests", Some("z")));
    assert_eq!((record.rule, record.error_code, record.outcome), (9, 30, Outcome::Denied));
}

#[test]
fn records_are_passed_on_as_the_same_octets_whole_or_in_part() {
    let records = Bytes::from(vec![7; 100_000]);
    let mut stage = Stage::new(Names);
    let whole = request(PRODUCE, 9, 1, &produce(-1, &["a", "ab"], &records));
    stage.client_says(&whole);
    assert_eq!(stage.at_broker(), whole);
    stage.client_says(&request(PRODUCE, 9, 2, &produce(-1, &["a", "z", "ab"], &records)));
    assert_eq!(stage.at_broker(), request(PRODUCE, 9, 2, &produce(-1, &["a", "ab"], &records)));
}

#[test]
fn produce_without_answer_is_told_by_the_end_of_the_connection() {
    let records = Bytes::from_static(b"records");
    let mut stage = Stage::new(Names);
    stage.client_says(&request(PRODUCE, 9, 1, &produce(0, &["a"], &records)));
    assert_eq!((stage.engine.in_flight(), stage.closed()), (0, None));
    stage.at_broker();
    stage.client_says(&request(HEARTBEAT, 4, 2, &heartbeat("a")));
    stage.at_broker();
    stage.client_says(&request(PRODUCE, 9, 3, &produce(0, &["a", "z"], &records)));
    assert_eq!(stage.at_broker(), request(PRODUCE, 9, 3, &produce(0, &["a"], &records)));
    // What was asked before is still answered.
    assert_eq!((stage.closed(), stage.engine.wants_client()), (None, false));
    stage.broker_says(&ok(HEARTBEAT, 4, 2));
    assert_eq!(stage.at_client(), ok(HEARTBEAT, 4, 2));
    assert_eq!(stage.closed(), Some(Closing::ProduceWithoutAnswer));
}

#[test]
fn metadata_of_all_hides_and_of_names_marks() {
    let (from, to) = (&message(3).request, &message(3).response);
    let answered = fields(to, [("Topics", topics(to, &["a1", "z1", "a2"]))]);
    let names = |value: &Value| -> Vec<String> {
        let topic = to.inside("Topics").unwrap();
        let all = value.get(to, "Topics").elements().iter();
        all.map(|one| {
            format!(
                "{} {}",
                one.get(topic, "Name").as_text().unwrap_or("-"),
                one.get(topic, "ErrorCode").as_int().unwrap()
            )
        })
        .collect()
    };
    for version in [1, 8, 12, 13] {
        let mut stage = Stage::new(Names);
        let all = fields(from, [("Topics", Value::Null)]);
        stage.client_says(&request(3, version, 1, &all));
        assert_eq!(stage.at_broker(), request(3, version, 1, &all));
        stage.broker_says(&answer(3, version, 1, &answered));
        assert_eq!(names(&stage.answer_at_client(3, version).value), ["a1 0", "a2 0"]);

        let named = fields(from, [("Topics", topics(from, &["z1", "a1"]))]);
        stage.client_says(&request(3, version, 2, &named));
        let left = fields(from, [("Topics", topics(from, &["a1"]))]);
        assert_eq!(stage.at_broker(), request(3, version, 2, &left));
        let answered = fields(to, [("Topics", topics(to, &["a1"]))]);
        stage.broker_says(&answer(3, version, 2, &answered));
        assert_eq!(names(&stage.answer_at_client(3, version).value), ["z1 29", "a1 0"]);
    }
    // Version 0 has no way to ask for nothing.
    let mut stage = Stage::new(Names);
    let named = fields(from, [("Topics", topics(from, &["z1"]))]);
    stage.client_says(&request(3, 0, 1, &named));
    stage.at_broker();
    stage.broker_says(&answer(3, 0, 1, &answered));
    assert_eq!(names(&stage.answer_at_client(3, 0).value), ["z1 29"]);
}

#[test]
fn versions_are_narrowed_to_what_is_understood() {
    let to = &message(18).response;
    let one = to.inside("ApiKeys").unwrap();
    let offer = |key: i64, first: i64, last: i64| {
        fields(
            one,
            [
                ("ApiKey", Value::Int(key)),
                ("MinVersion", Value::Int(first)),
                ("MaxVersion", Value::Int(last)),
            ],
        )
    };
    // Fetch newer than known, SaslHandshake, one for brokers only, one that nobody knows.
    let offered = [offer(1, 0, 99), offer(17, 0, 1), offer(27, 1, 2), offer(999, 0, 5), offer(0, 90, 99)];
    let mut stage = Stage::new(Nothing);
    stage.client_says(&request(18, 3, 1, &Value::empty(&message(18).request)));
    stage.at_broker();
    stage.broker_says(&answer(18, 3, 1, &fields(to, [("ApiKeys", Value::Array(offered.to_vec()))])));
    let seen = stage.answer_at_client(18, 3);
    assert_eq!(seen.value.get(to, "ApiKeys").elements(), [offer(1, 4, 18), offer(17, 0, 1)]);
}

#[test]
fn a_newer_client_is_told_the_version_of_api_versions() {
    let mut stage = Stage::new(Nothing);
    let mut octets = request(18, 3, 5, &Value::empty(&message(18).request)).to_vec();
    octets[7] = 77;
    stage.client_says(&octets);
    assert_eq!(stage.at_broker(), "");
    let seen = stage.answer_at_client(18, 0);
    let to = &message(18).response;
    assert_eq!((seen.start.correlation_id, respond::first_error(&seen.value, to)), (5, 35));
    // And a broker that is older answers like that, too.
    stage.client_says(&request(18, 4, 6, &Value::empty(&message(18).request)));
    stage.at_broker();
    stage.broker_says(&answer(18, 0, 6, &fields(to, [("ErrorCode", Value::Int(35))])));
    assert_eq!(respond::first_error(&stage.answer_at_client(18, 0).value, to), 35);
}

#[test]
fn what_is_not_understood_is_refused() {
    let bad = |octets: &[u8]| {
        let mut stage = Stage::new(Everything);
        stage.client_says(octets);
        assert_eq!(stage.at_broker(), "");
        let outcome = stage.records().pop().map(|record| record.outcome);
        assert_eq!(outcome, stage.closed().map(Outcome::Refused));
        stage.closed()
    };
    assert_eq!(bad(&(-1_i32).to_be_bytes()), Some(Closing::RequestLength));
    assert_eq!(bad(&i32::MAX.to_be_bytes()), Some(Closing::RequestLength));
    assert!(matches!(bad(&[0, 0, 0, 3, 0, 0, 0]), Some(Closing::Header(_))));
    let with = |key: i16, version: i16| {
        let mut octets = request(HEARTBEAT, 4, 1, &heartbeat("a")).to_vec();
        octets[4..6].copy_from_slice(&key.to_be_bytes());
        octets[6..8].copy_from_slice(&version.to_be_bytes());
        bad(&octets)
    };
    assert_eq!(with(999, 0), Some(Closing::UnknownRequest));
    assert_eq!(with(27, 1), Some(Closing::UnknownRequest)); // WriteTxnMarkers, for brokers
    assert_eq!(with(HEARTBEAT, 5), Some(Closing::UnsupportedVersion));
    assert_eq!(with(17, 0), Some(Closing::UnsupportedVersion)); // SASL without headers
    assert!(matches!(with(PRODUCE, 9), Some(Closing::Request(_))));
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let mut stage = Stage::new(Everything);
    stage.broker_says(&ok(HEARTBEAT, 4, 1));
    assert_eq!(stage.closed(), Some(Closing::UnexpectedAnswer));
    let mut stage = Stage::new(Everything);
    stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("a")));
    stage.broker_says(&ok(HEARTBEAT, 4, 2));
    assert_eq!((stage.closed(), stage.at_client()), (Some(Closing::UnexpectedAnswer), Bytes::new()));
}

#[test]
fn an_answer_that_must_be_cut_and_cannot_be_read_is_not_passed_on() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(3, 12, 1, &fields(&message(3).request, [("Topics", Value::Null)])));
    stage.broker_says(&[0, 0, 0, 8, 0, 0, 0, 1, 0, 255, 255, 255]);
    assert!(matches!(stage.closed(), Some(Closing::Answer(_))));
    assert_eq!(stage.at_client(), "");
    assert!(matches!(stage.records().pop().unwrap().outcome, Outcome::Refused(Closing::Answer(_))));
}

#[test]
fn a_long_answer_passes_in_pieces() {
    let mut stage = Stage::new(Everything);
    stage.client_says(&request(LIST_OFFSETS, 7, 1, &Value::empty(&message(LIST_OFFSETS).request)));
    stage.at_broker();
    let length = 500_000_000_u32;
    stage.broker_says(&[&length.to_be_bytes()[..], &1_i32.to_be_bytes(), &[0; 92]].concat());
    assert_eq!(stage.at_client().len(), 100);
    let mut left = length as usize + 4 - 100;
    let piece = vec![0; 1 << 20];
    while left > 0 {
        assert!(stage.records().is_empty());
        let next = left.min(piece.len());
        stage.broker_says(&piece[..next]);
        assert_eq!(stage.at_client().len(), next);
        left -= next;
    }
    assert_eq!(stage.records().len(), 1);
    assert!(stage.engine.ends().from_broker.capacity() < 4 << 20);
}

#[test]
fn a_claimed_length_costs_no_memory() {
    let mut stage = Stage::new(Everything);
    stage.client_says(&(30_u32 << 20).to_be_bytes());
    assert!(stage.engine.ends().from_client.capacity() < 64 << 10);
}

#[test]
fn nothing_more_is_read_while_answers_wait() {
    let limits = Limits { in_flight: 3, ..Limits::default() };
    let mut stage = Stage { engine: Engine::new(limits), policy: Box::new(Names) };
    for id in 0..5 {
        stage.client_says(&request(HEARTBEAT, 4, id, &heartbeat("a")));
    }
    assert_eq!((stage.engine.in_flight(), stage.engine.wants_client()), (3, false));
    stage.broker_says(&ok(HEARTBEAT, 4, 0));
    assert_eq!((stage.engine.in_flight(), stage.engine.wants_client()), (3, false));

    let limits = Limits { outbox_octets: 10, ..Limits::default() };
    let mut stage = Stage { engine: Engine::new(limits), policy: Box::new(Nothing) };
    for id in 0..5 {
        stage.client_says(&request(HEARTBEAT, 4, id, &heartbeat("a")));
    }
    // One denial fills the outbox, the rest waits unread.
    assert_eq!(stage.records().len(), 1);
    assert!(!stage.engine.wants_client());
    let one = stage.at_client().len();
    assert_eq!(stage.at_client().len(), one);
}

#[test]
fn extra_octets_and_tags_do_not_go_on() {
    let mut stage = Stage::new(Everything);
    let plain = request(HEARTBEAT, 4, 1, &heartbeat("a"));
    let mut octets = plain.to_vec();
    // The last octet counts the body's tagged fields: one, number 9, of two octets; and three octets more.
    octets.pop();
    octets.extend([1, 9, 2, 1, 1, 5, 5, 5]);
    let length = (octets.len() - 4) as u32;
    octets[..4].copy_from_slice(&length.to_be_bytes());
    stage.client_says(&octets);
    assert_eq!(stage.at_broker(), plain);
}

#[test]
fn rules_are_those_of_the_moment() {
    struct Changing(std::cell::Cell<u32>);
    impl Policy for Changing {
        fn judge(&self, question: &Question<'_>) -> Verdict {
            self.0.set(self.0.get() + 1);
            if self.0.get() == 1 { Everything.judge(question) } else { Nothing.judge(question) }
        }
    }
    let mut stage = Stage::new(Changing(std::cell::Cell::new(0)));
    stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("a")));
    stage.client_says(&request(HEARTBEAT, 4, 2, &heartbeat("a")));
    assert_eq!(read_request(&stage.at_broker()).start.correlation_id, 1);
    assert_eq!(stage.engine.in_flight(), 2);
}

#[test]
fn a_transaction_with_a_denied_topic_adds_nothing() {
    let (from, to) = (&message(24).request, &message(24).response);
    let topic = from.inside("V3AndBelowTopics").unwrap();
    let list = ["a", "z"].map(|name| {
        fields(topic, [("Name", Value::text(name)), ("Partitions", Value::Array(vec![Value::Int(0)]))])
    });
    let asked = fields(
        from,
        [("V3AndBelowTransactionalId", Value::text("a")), ("V3AndBelowTopics", Value::Array(list.to_vec()))],
    );
    let mut stage = Stage::new(Names);
    stage.client_says(&request(24, 3, 1, &asked));
    assert_eq!(stage.at_broker(), "");
    let seen = stage.answer_at_client(24, 3);
    let topic = to.inside("ResultsByTopicV3AndBelow").unwrap();
    let codes: Vec<_> = seen
        .value
        .get(to, "ResultsByTopicV3AndBelow")
        .elements()
        .iter()
        .map(|one| respond::first_error(one, topic))
        .collect();
    assert_eq!(codes, [55, 29]);
}

#[test]
fn offsets_of_several_groups_are_judged_group_by_group() {
    let (from, to) = (&message(9).request, &message(9).response);
    let (group, answered) = (from.inside("Groups").unwrap(), to.inside("Groups").unwrap());
    let topic = group.inside("Topics").unwrap();
    let named = |names: &[&str]| {
        let one = |name: &&str| {
            fields(
                topic,
                [("Name", Value::text(name)), ("PartitionIndexes", Value::Array(vec![Value::Int(0)]))],
            )
        };
        Value::Array(names.iter().map(one).collect())
    };
    let groups = [("a1", named(&["a", "z"])), ("z", named(&["a"])), ("a2", Value::Null)];
    let asked = groups.map(|(id, topics)| fields(group, [("GroupId", Value::text(id)), ("Topics", topics)]));
    let mut stage = Stage::new(Names);
    stage.client_says(&request(9, 9, 1, &fields(from, [("Groups", Value::Array(asked.to_vec()))])));
    let sent = stage.request_at_broker();
    let ids: Vec<_> = sent
        .value
        .get(from, "Groups")
        .elements()
        .iter()
        .map(|one| one.get(group, "GroupId").as_text())
        .collect();
    assert_eq!(ids, [Some("a1"), Some("a2")]);
    // The broker's answer comes in another order, and tells of all topics of the second.
    let inside = answered.inside("Topics").unwrap();
    let told = |id: &str, names: &[&str]| {
        let topics = names.iter().map(|name| fields(inside, [("Name", Value::text(name))])).collect();
        fields(answered, [("GroupId", Value::text(id)), ("Topics", Value::Array(topics))])
    };
    let groups = Value::Array(vec![told("a2", &["a", "z", "az"]), told("a1", &["a"])]);
    stage.broker_says(&answer(9, 9, 1, &fields(to, [("Groups", groups)])));
    let seen = stage.answer_at_client(9, 9);
    let told: Vec<_> = seen
        .value
        .get(to, "Groups")
        .elements()
        .iter()
        .map(|one| {
            let names: Vec<_> = one
                .get(answered, "Topics")
                .elements()
                .iter()
                .map(|one| {
                    format!(
                        "{}:{}",
                        one.get(inside, "Name").as_text().unwrap(),
                        respond::first_error(one, inside)
                    )
                })
                .collect();
            (
                one.get(answered, "GroupId").as_text().unwrap(),
                one.get(answered, "ErrorCode").as_int().unwrap(),
                names.join(" "),
            )
        })
        .collect();
    assert_eq!(told, [("a1", 0, "a:0 z:29".into()), ("z", 30, String::new()), ("a2", 0, "a:0 az:0".into())]);
}

#[test]
fn every_request_of_the_table_has_a_layout() {
    for key in 0..200 {
        assert_eq!(
            api::api(key).is_some(),
            crate::kafka::versions(key).first <= crate::kafka::versions(key).last,
            "{key}"
        );
        let Some(api) = api::api(key) else { continue };
        let (from, to) = (&message(key).request, &message(key).response);
        for entries in api.entries {
            let (from, to) = match api.scope {
                Some(scope) if from.index(entries.request).is_none() => {
                    (from.inside(scope).unwrap(), to.inside(scope).unwrap())
                }
                _ => (from, to),
            };
            assert!(from.index(entries.request).is_some() && to.index(entries.response).is_some(), "{key}");
            if !entries.partitions.is_empty() {
                assert!(from.inside(entries.request).unwrap().index(entries.partitions).is_some(), "{key}");
                assert!(
                    to.inside(entries.response).unwrap().index(entries.response_partitions).is_some(),
                    "{key}"
                );
            }
        }
        for whole in api.whole {
            use api::Whole::{Coordinator, Group, Topics, Transaction};
            if let Group(field) | Transaction(field) | Coordinator(field) | Topics(field) = whole {
                assert!(from.index(field).is_some(), "{key} {field}");
            }
        }
    }
}
