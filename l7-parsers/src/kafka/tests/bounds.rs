//! What a connection may hold, and what is told of requests that it ends with.

use std::time::Instant;

use super::{
    ids::described,
    stage::{Everything, Names, Stage, answer, fields, message, request},
};
use crate::kafka::{Cut, Engine, Limits, Outcome, value::Value};

const HEARTBEAT: i16 = 12;
const FETCH: i16 = 1;
const METADATA: i16 = 3;
const SHARE_FETCH: i16 = 78;

fn heartbeat(group: &str) -> Value {
    fields(&message(HEARTBEAT).request, [("GroupId", Value::text(group)), ("MemberId", Value::text("m"))])
}

/// A fetch of a topic that only its id is known of.
fn fetch_by_id() -> Value {
    let layout = &message(FETCH).request;
    let topic = fields(layout.inside("Topics").unwrap(), [("TopicId", Value::Uuid([7; 16]))]);
    fields(layout, [("Topics", Value::Array(vec![topic]))])
}

#[test]
fn what_is_due_at_the_end_has_a_record_that_says_so() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("a")));
    stage.client_says(&request(HEARTBEAT, 4, 2, &heartbeat("z")));
    stage.client_says(&request(FETCH, 13, 3, &fetch_by_id()));
    assert!(stage.records().is_empty());
    stage.engine.cut(Cut::Broker, Instant::now());
    let told: Vec<_> =
        stage.records().iter().map(|record| (record.correlation_id, record.outcome, record.cut)).collect();
    let cut = Some(Cut::Broker);
    assert_eq!(told, [(1, Outcome::Allowed, cut), (2, Outcome::Denied, cut), (3, Outcome::Unjudged, cut)]);
    assert_eq!(stage.engine.in_flight(), 0);
}

#[test]
fn a_refusal_has_its_own_reason() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("a")));
    stage.client_says(&u32::MAX.to_be_bytes());
    stage.engine.cut(Cut::Client, Instant::now());
    let told = stage.records();
    assert!(matches!((told[0].outcome, told[0].cut), (Outcome::Allowed, Some(Cut::Client))), "{told:?}");
    assert!(matches!((told[1].outcome, told[1].cut), (Outcome::Refused(_), None)), "{told:?}");
}

#[test]
fn a_request_counts_as_a_whole_once_it_is_let_in() {
    let mut stage = Stage::new(Everything);
    let octets = request(HEARTBEAT, 4, 1, &heartbeat(&"a".repeat(100_000)));
    let (first, rest) = octets.split_at(1000);
    assert_eq!(stage.engine.octets(), 0);
    stage.client_says(first);
    assert!(stage.engine.request_needs_room());
    assert!(stage.engine.octets() < 50_000);
    stage.engine.admit_request();
    assert!(!stage.engine.request_needs_room() && stage.engine.is_amid_a_frame());
    assert!(stage.engine.octets() >= 100_000);
    stage.client_says(rest);
    assert!(stage.engine.request_needs_room() && !stage.engine.is_amid_a_frame());
    assert_eq!(stage.at_broker(), octets);
    stage.engine.ends().from_client.clear();
    *stage.engine.ends().from_client = bytes::BytesMut::new();
    // Names for its record and for its answer, beside what each request takes.
    assert!((200_000..202_000).contains(&stage.engine.octets()), "{}", stage.engine.octets());
    // The next one is not let in.
    stage.client_says(&octets.slice(..500));
    assert!(stage.engine.request_needs_room());
}

#[test]
fn share_sessions_are_bounded_whatever_they_hold() {
    let limits = Limits { session_octets: 10_000, ..Limits::default() };
    let layout = &message(SHARE_FETCH).request;
    let topic = layout.inside("Topics").unwrap();
    let partition = topic.inside("Partitions").unwrap();
    let wide = |number: i64| {
        let of = |index| fields(partition, [("PartitionIndex", Value::Int(index))]);
        let partitions = Value::Array((0..number).map(of).collect());
        let one = fields(topic, [("TopicId", Value::Uuid([1; 16])), ("Partitions", partitions)]);
        Value::Array(vec![one])
    };
    for (topics, at_once) in [(Value::Array(Vec::new()), 39), (wide(1), 24), (wide(1000), 0)] {
        let mut stage = Stage { engine: Engine::new(limits), policy: Box::new(Everything) };
        let all = fields(&message(METADATA).request, [("Topics", Value::Null)]);
        stage.client_says(&request(METADATA, 12, 0, &all));
        stage.broker_says(&answer(METADATA, 12, 0, &described(&[([1; 16], "a")])));
        for member in 1..=100 {
            let asked = fields(
                layout,
                [
                    ("GroupId", Value::text("a")),
                    ("MemberId", Value::text(&format!("{member}"))),
                    ("ShareSessionEpoch", Value::Int(0)),
                    ("Topics", topics.clone()),
                ],
            );
            stage.client_says(&request(SHARE_FETCH, 1, member, &asked));
        }
        // The rest is told that there is no such session.
        assert_eq!(stage.engine.in_flight(), if at_once > 0 { 100 } else { 0 });
        let sent = stage.at_broker();
        let one = request(SHARE_FETCH, 1, 1, &Value::empty(layout)).len();
        assert!(sent.len() >= at_once * one && (at_once > 0 || sent.len() < 1000), "{}", sent.len());
        assert!(stage.engine.octets() < 200_000, "{}", stage.engine.octets());
    }
}
