//! Records of long requests pass before all of them is there.

use std::time::Instant;

use bytes::Bytes;

use super::{
    engine::{heartbeat, produce},
    stage::{Everything, Names, Nothing, Stage, answer, fields, message, read_answer, request},
};
use crate::kafka::{Closing, Cut, Engine, Limits, Malformed, Outcome, Passing, respond, value::Value};

const PRODUCE: i16 = 0;
const HEARTBEAT: i16 = 12;

fn records() -> Bytes {
    (0..1000_u32).map(|number| number as u8).collect()
}

fn long(version: i16, id: i32, acks: i64, topics: &[&str]) -> Bytes {
    request(PRODUCE, version, id, &produce(acks, topics, &records()))
}

fn error_of(octets: &Bytes, version: i16) -> i16 {
    let seen = read_answer(octets, PRODUCE, version);
    respond::first_error(&seen.value, &message(PRODUCE).response)
}

#[test]
fn a_request_cut_anywhere_goes_on_in_the_same_octets() {
    // Not flexible, flexible.
    for version in [8, 12] {
        let whole = long(version, 1, -1, &["a"]);
        for cut in 1..whole.len() {
            let mut stage = Stage::new(Names);
            stage.client_says(&whole[..cut]);
            let first = stage.at_broker();
            assert_eq!(whole[..first.len()], first, "cut at {cut}");
            assert!(first.len() < whole.len(), "a request of which a part has not come is whole");
            // All but what stands behind the records, once these have begun.
            assert!(first.is_empty() || first.len() + 3 >= cut, "cut at {cut}: {}", first.len());
            assert!(stage.records().is_empty() && stage.closed().is_none());
            stage.client_says(&whole[cut..]);
            assert_eq!([first, stage.at_broker()].concat(), whole, "cut at {cut}");
            assert_eq!((stage.engine.in_flight(), stage.engine.is_amid_a_request()), (1, false));
            stage.broker_says(&answer(PRODUCE, version, 1, &Value::empty(&message(PRODUCE).response)));
            assert_eq!(stage.records()[0].outcome, Outcome::Allowed);
        }
    }
}

#[test]
fn what_passes_may_be_moved_past_the_engine() {
    let whole = long(9, 1, -1, &["a"]);
    let mut stage = Stage::new(Names);
    stage.client_says(&whole[..200]);
    assert_eq!(stage.engine.passing_request(), Passing::default(), "what was read goes before");
    let first = stage.at_broker();
    assert_eq!(first, whole[..200]);
    let left = Passing { octets: whole.len() - 200 - 3, behind: 3 };
    assert_eq!(stage.engine.passing_request(), left);
    stage.engine.passed_request(100);
    assert_eq!(stage.engine.passing_request(), Passing { octets: left.octets - 100, ..left });
    stage.engine.passed_request(left.octets - 100);
    stage.client_says(&whole[whole.len() - 3..]);
    assert_eq!(stage.at_broker(), [0; 3].as_slice());
    assert_eq!(stage.engine.in_flight(), 1);

    let fetched = Bytes::from(vec![7; 100_000]);
    let layout = &message(PRODUCE).response;
    let told = answer(PRODUCE, 9, 1, &Value::empty(layout));
    stage.broker_says(&[&(fetched.len() as u32).to_be_bytes()[..], &told[4..8], &fetched[..100]].concat());
    assert_eq!(stage.engine.passing_answer(), Passing::default());
    stage.at_client();
    let left = fetched.len() + 4 - 4 - 4 - 100;
    assert_eq!(stage.engine.passing_answer(), Passing { octets: left, behind: 0 });
    stage.engine.passed_answer(left, Instant::now());
    assert_eq!((stage.engine.in_flight(), stage.records().len()), (0, 1));
}

#[test]
fn nothing_of_a_denied_request_goes_out() {
    for topics in [&["z"][..], &["a", "z"], &["z", "a"], &["a", "ab"]] {
        let whole = long(9, 1, -1, topics);
        let mut stage = Stage::new(Names);
        stage.client_says(&whole[..whole.len() - 1]);
        assert_eq!(stage.at_broker(), "", "{topics:?}");
        stage.client_says(&whole[whole.len() - 1..]);
        let allowed: Vec<_> = topics.iter().copied().filter(|name| name.starts_with('a')).collect();
        let left = if allowed.is_empty() { Bytes::new() } else { long(9, 1, -1, &allowed) };
        assert_eq!(stage.at_broker(), left);
        if allowed.is_empty() {
            assert_eq!(error_of(&stage.at_client(), 9), 29);
        }
    }
}

#[test]
fn a_request_that_is_malformed_behind_its_records_is_never_whole() {
    let mut whole = long(9, 2, -1, &["a"]).to_vec();
    for at in whole.len() - 3..whole.len() {
        let kept = std::mem::replace(&mut whole[at], 1);
        let mut stage = Stage::new(Names);
        stage.client_says(&request(HEARTBEAT, 4, 1, &heartbeat("a")));
        stage.at_broker();
        stage.client_says(&whole);
        assert_eq!(stage.at_broker(), whole[..whole.len() - 3]);
        assert_eq!(stage.closed(), Some(Closing::Request(Malformed::Truncated)));
        assert!(!stage.engine.wants_client() && !stage.engine.wants_broker());
        let told = stage.records();
        assert_eq!((told.len(), told[0].correlation_id), (1, 2));
        assert!(matches!(told[0].outcome, Outcome::Refused(_)));
        whole[at] = kept;
    }
}

#[test]
fn what_stands_behind_the_records_is_held_if_it_may_change_them() {
    let mut stage = Stage::new(Everything);
    let layout = &message(PRODUCE).request;
    let topic = layout.inside("TopicData").unwrap();
    let partition = topic.inside("PartitionData").unwrap();
    let one = fields(partition, [("Records", Value::Octets(records()))]);
    let data =
        fields(topic, [("Name", Value::text("a")), ("PartitionData", Value::Array(vec![one.clone(), one]))]);
    let two = fields(layout, [("TransactionalId", Value::Null), ("TopicData", Value::Array(vec![data]))]);
    let mut behind = long(9, 1, -1, &["a"]).to_vec();
    behind.push(0);
    let length = behind.len() as u32 - 4;
    behind[..4].copy_from_slice(&length.to_be_bytes());
    for (octets, sent) in [
        (request(PRODUCE, 9, 1, &two), request(PRODUCE, 9, 1, &two)),
        (behind.into(), long(9, 1, -1, &["a"])),
    ] {
        stage.client_says(&octets[..octets.len() - 1]);
        assert_eq!(stage.at_broker(), "");
        stage.client_says(&octets[octets.len() - 1..]);
        assert_eq!(stage.at_broker(), sent);
    }
}

#[test]
fn a_change_of_rules_is_for_the_next_request() {
    let whole = long(9, 1, -1, &["a"]);
    let mut stage = Stage::new(Names);
    stage.client_says(&whole[..500]);
    assert!(!stage.at_broker().is_empty());
    stage.policy = Box::new(Nothing);
    stage.client_says(&[&whole[500..], &long(9, 2, -1, &["a"])].concat());
    assert_eq!(stage.at_broker(), whole[500..]);
    stage.broker_says(&answer(PRODUCE, 9, 1, &Value::empty(&message(PRODUCE).response)));
    let told: Vec<_> = stage.records().iter().map(|record| (record.correlation_id, record.outcome)).collect();
    assert_eq!(told, [(1, Outcome::Allowed), (2, Outcome::Denied)]);
}

#[test]
fn a_request_without_an_answer_ends_with_its_last_octet() {
    let whole = long(9, 1, 0, &["a"]);
    let mut stage = Stage::new(Names);
    stage.client_says(&whole[..whole.len() - 1]);
    assert_eq!((stage.records().len(), stage.engine.in_flight()), (0, 1));
    stage.client_says(&whole[whole.len() - 1..]);
    assert_eq!(stage.at_broker(), whole);
    assert_eq!((stage.records().len(), stage.engine.in_flight()), (1, 0));
    // Denied, and so held: the connection ends.
    stage.client_says(&long(9, 2, 0, &["z"]));
    assert_eq!((stage.at_broker(), stage.closed()), (Bytes::new(), Some(Closing::ProduceWithoutAnswer)));
}

#[test]
fn a_connection_that_ends_in_the_middle_has_a_record_of_it() {
    for acks in [-1, 0] {
        let mut stage = Stage::new(Names);
        stage.client_says(&long(9, 1, acks, &["a"])[..500]);
        assert!(stage.engine.is_amid_a_frame() && stage.engine.octets() < 4096);
        stage.engine.cut(Cut::Client, Instant::now());
        let told = stage.records();
        assert_eq!((told[0].outcome, told[0].cut), (Outcome::Allowed, Some(Cut::Client)));
        assert_eq!((told.len(), stage.engine.in_flight()), (1, 0));
    }
}

#[test]
fn a_length_is_bounded_and_is_no_longer_than_its_request() {
    let limits = Limits { request_octets: 1000, streamed_octets: 64, ..Limits::default() };
    let mut stage = Stage { engine: Engine::new(limits), policy: Box::new(Everything) };
    stage.client_says(&long(9, 1, -1, &["a"])[..100]);
    assert_eq!((stage.at_broker(), stage.closed()), (Bytes::new(), Some(Closing::RequestLength)));
    // Records that say they are longer than their request, or shorter.
    for by in [1, u8::MAX] {
        let mut octets = long(8, 1, -1, &["a"]).to_vec();
        let last = octets.len() - records().len() - 1;
        octets[last] = octets[last].wrapping_add(by);
        let mut stage = Stage::new(Everything);
        stage.client_says(&octets);
        assert_ne!(stage.at_broker(), octets);
    }
}

#[test]
fn no_question_of_the_engine_gets_between_a_request_and_its_records() {
    let layout = &message(68).response;
    let assigned = layout.inside("Assignment").unwrap();
    let inside = assigned.inside("TopicPartitions").unwrap();
    let one = fields(inside, [("TopicId", Value::Uuid([3; 16]))]);
    let assignment = fields(assigned, [("TopicPartitions", Value::Array(vec![one]))]);
    let told =
        answer(68, 0, 1, &fields(layout, [("MemberId", Value::text("m")), ("Assignment", assignment)]));
    let asked = fields(&message(68).request, [("GroupId", Value::text("a")), ("MemberId", Value::text("m"))]);
    let whole = long(9, 2, -1, &["a"]);

    let mut stage = Stage::new(Names);
    stage.client_says(&request(68, 0, 1, &asked));
    stage.at_broker();
    stage.client_says(&whole[..500]);
    let first = stage.at_broker();
    stage.broker_says(&told);
    assert_eq!((stage.at_broker(), stage.engine.wants_broker()), (Bytes::new(), false));
    stage.client_says(&whole[500..]);
    let rest = stage.at_broker();
    let sent = [first, rest].concat();
    assert_eq!(sent[..whole.len()], whole);
    // Then the names of the topics are asked for.
    assert_eq!(sent[whole.len() + 4..whole.len() + 6], 3_i16.to_be_bytes());
    assert!(stage.engine.wants_broker());
}
