//! What a group of the new protocol assigns to a member that subscribed by regular expression.

use bytes::Bytes;

use super::{
    ids::described,
    stage::{Names, Stage, answer, fields, message, request},
};
use crate::kafka::{Closing, Engine, Limits, Outcome, value::Value};

const METADATA: i16 = 3;
const HEARTBEAT: i16 = 12;
const GROUP_HEARTBEAT: i16 = 68;
const A: [u8; 16] = [1; 16];
const Z: [u8; 16] = [2; 16];
const GONE: [u8; 16] = [3; 16];

fn subscribes() -> Value {
    fields(
        &message(GROUP_HEARTBEAT).request,
        [
            ("GroupId", Value::text("a")),
            ("MemberId", Value::text("m")),
            ("SubscribedTopicRegex", Value::text(".*")),
        ],
    )
}

fn assigned(ids: &[[u8; 16]]) -> Value {
    let layout = &message(GROUP_HEARTBEAT).response;
    let inside = layout.inside("Assignment").unwrap();
    let topic = inside.inside("TopicPartitions").unwrap();
    let topics = ids.iter().map(|id| {
        let partitions = Value::Array(vec![Value::Int(0), Value::Int(1)]);
        fields(topic, [("TopicId", Value::Uuid(*id)), ("Partitions", partitions)])
    });
    let topics = fields(inside, [("TopicPartitions", Value::Array(topics.collect()))]);
    let member = Value::text("m");
    fields(layout, [("MemberId", member), ("MemberEpoch", Value::Int(7)), ("Assignment", topics)])
}

/// A heartbeat that says nothing new, or what it owns.
fn beat(id: i32, owns: Option<&[[u8; 16]]>) -> Bytes {
    let layout = &message(GROUP_HEARTBEAT).request;
    let topic = layout.inside("TopicPartitions").unwrap();
    let owned = |id: &[u8; 16]| {
        let partitions = Value::Array(vec![Value::Int(0), Value::Int(1)]);
        fields(topic, [("TopicId", Value::Uuid(*id)), ("Partitions", partitions)])
    };
    let owns = owns.map_or(Value::Null, |ids| Value::Array(ids.iter().map(owned).collect()));
    let said = [
        ("GroupId", Value::text("a")),
        ("MemberId", Value::text("m")),
        ("MemberEpoch", Value::Int(7)),
        ("TopicPartitions", owns),
    ];
    request(GROUP_HEARTBEAT, 1, id, &fields(layout, said))
}

fn subscribed() -> Stage {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(GROUP_HEARTBEAT, 1, 1, &subscribes()));
    assert_eq!(stage.at_broker(), request(GROUP_HEARTBEAT, 1, 1, &subscribes()));
    stage
}

fn heartbeat(id: i32) -> Bytes {
    let layout = &message(HEARTBEAT).request;
    request(
        HEARTBEAT,
        4,
        id,
        &fields(layout, [("GroupId", Value::text("a")), ("MemberId", Value::text("m"))]),
    )
}

fn beats(id: i32) -> Bytes {
    answer(HEARTBEAT, 4, id, &Value::empty(&message(HEARTBEAT).response))
}

#[test]
fn denied_topics_are_not_assigned() {
    let mut stage = subscribed();
    stage.broker_says(&answer(GROUP_HEARTBEAT, 1, 1, &assigned(&[Z, A, GONE])));
    // Nobody has told their names yet: the answer waits, and so does what comes behind it.
    assert_eq!((stage.at_client(), stage.engine.in_flight()), (Bytes::new(), 2));
    let asked = stage.request_at_broker();
    assert_eq!(asked.start.api_key, METADATA);
    stage.client_says(&heartbeat(2));
    assert_eq!(stage.at_broker(), heartbeat(2));
    stage.broker_says(&answer(METADATA, 12, asked.start.correlation_id, &described(&[(A, "a"), (Z, "z")])));
    assert_eq!(stage.at_client(), answer(GROUP_HEARTBEAT, 1, 1, &assigned(&[A])));
    stage.broker_says(&beats(2));
    assert_eq!(stage.at_client(), beats(2));

    // By now they are known, but for the one that is gone.
    stage.client_says(&request(GROUP_HEARTBEAT, 1, 3, &subscribes()));
    stage.at_broker();
    stage.broker_says(&answer(GROUP_HEARTBEAT, 1, 3, &assigned(&[Z, A])));
    assert_eq!(stage.at_client(), answer(GROUP_HEARTBEAT, 1, 3, &assigned(&[A])));
    let records = stage.records();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.outcome == Outcome::Allowed && record.error_code == 0));
}

#[test]
fn answers_behind_it_wait_in_their_order() {
    let mut stage = subscribed();
    stage.client_says(&heartbeat(2));
    stage.client_says(&request(GROUP_HEARTBEAT, 1, 3, &subscribes()));
    stage.client_says(&heartbeat(4));
    // And a refusal at the end.
    stage.client_says(&u32::MAX.to_be_bytes());
    stage.at_broker();
    let answers = [
        answer(GROUP_HEARTBEAT, 1, 1, &assigned(&[A])),
        beats(2),
        answer(GROUP_HEARTBEAT, 1, 3, &assigned(&[Z])),
        beats(4),
    ];
    stage.broker_says(&answers.concat());
    assert_eq!((stage.at_client(), stage.closed()), (Bytes::new(), None));
    let names = described(&[(A, "a")]);
    stage.broker_says(&answer(METADATA, 12, i32::MIN, &names));
    assert_eq!(stage.at_client(), [&answers[0][..], &answers[1]].concat());
    stage.broker_says(&answer(METADATA, 12, i32::MIN, &described(&[(Z, "z")])));
    let rest = [&answer(GROUP_HEARTBEAT, 1, 3, &assigned(&[]))[..], &answers[3]].concat();
    assert_eq!((stage.at_client(), stage.closed()), (rest.into(), Some(Closing::RequestLength)));
    assert_eq!(stage.records().len(), 5);
}

#[test]
fn what_comes_behind_is_bounded() {
    let limits = Limits { kept_octets: 1000, ..Limits::default() };
    let mut stage = Stage { engine: Engine::new(limits), policy: Box::new(Names) };
    stage.client_says(&request(GROUP_HEARTBEAT, 1, 0, &subscribes()));
    for id in 1..100 {
        stage.client_says(&heartbeat(id));
    }
    stage.at_broker();
    stage.broker_says(&answer(GROUP_HEARTBEAT, 1, 0, &assigned(&[A])));
    for id in 1..100 {
        if stage.closed().is_none() {
            stage.broker_says(&beats(id));
        }
    }
    assert_eq!((stage.closed(), stage.at_client()), (Some(Closing::TopicNames), Bytes::new()));
    stage.engine.cut(crate::kafka::Cut::Refused, std::time::Instant::now());
    let refused = Outcome::Refused(Closing::TopicNames);
    assert_eq!(stage.records().iter().filter(|record| record.outcome == refused).count(), 1);
}

#[test]
fn a_partition_that_was_not_shown_is_given_back_in_the_members_stead() {
    let mut stage = subscribed();
    let mut id = 1;
    stage.broker_says(&answer(GROUP_HEARTBEAT, 1, 1, &assigned(&[A, Z])));
    stage.at_broker();
    stage.broker_says(&answer(METADATA, 12, i32::MIN, &described(&[(A, "a"), (Z, "z")])));
    assert_eq!(stage.at_client(), answer(GROUP_HEARTBEAT, 1, 1, &assigned(&[A])));
    let mut round = |says: Option<&[[u8; 16]]>, arrives: Option<&[[u8; 16]]>, ids: &[[u8; 16]]| {
        id += 1;
        stage.client_says(&beat(id, says));
        assert_eq!(stage.at_broker(), beat(id, arrives));
        stage.broker_says(&answer(GROUP_HEARTBEAT, 1, id, &assigned(ids)));
        stage.at_client();
    };
    // Nothing to say as long as nothing is taken away.
    round(None, None, &[A, Z]);
    round(None, None, &[A]);
    // The broker waits for a word on what is gone; the member has none.
    round(None, Some(&[A]), &[A]);
    round(None, None, &[A, Z]);
    // It says itself what it owns where it was shown a change.
    round(None, None, &[]);
    round(Some(&[]), Some(&[]), &[Z]);
    round(None, None, &[]);
    round(Some(&[A]), Some(&[A]), &[]);
    round(None, None, &[]);
}
