//! Topic ids: known, learned, asked for, unknown.

use bytes::Bytes;

use super::stage::{Everything, Names, Stage, answer, fields, message, read_request, request};
use crate::kafka::{Outcome, respond, value::Value};

const A: [u8; 16] = [1; 16];
const Z: [u8; 16] = [2; 16];

/// Fetch 13 of one partition of each, without a session.
fn fetch(ids: &[[u8; 16]]) -> Value {
    let layout = &message(1).request;
    let topic = layout.inside("Topics").unwrap();
    let partition = topic.inside("Partitions").unwrap();
    let topics = ids.iter().map(|id| {
        let partitions = Value::Array(vec![fields(partition, [("Partition", Value::Int(4))])]);
        fields(topic, [("TopicId", Value::Uuid(*id)), ("Partitions", partitions)])
    });
    fields(layout, [("Topics", Value::Array(topics.collect())), ("SessionEpoch", Value::Int(-1))])
}

pub(super) fn described(topics: &[([u8; 16], &str)]) -> Value {
    let layout = &message(3).response;
    let topic = layout.inside("Topics").unwrap();
    let list = topics
        .iter()
        .map(|(id, name)| fields(topic, [("TopicId", Value::Uuid(*id)), ("Name", Value::text(name))]));
    fields(layout, [("Topics", Value::Array(list.collect()))])
}

fn fetched(octets: &Bytes) -> Vec<([u8; 16], i16)> {
    let layout = &message(1).response;
    let topic = layout.inside("Responses").unwrap();
    let seen = super::stage::read_answer(octets, 1, 13);
    seen.value
        .get(layout, "Responses")
        .elements()
        .iter()
        .map(|one| (one.get(topic, "TopicId").as_uuid().unwrap(), respond::first_error(one, topic)))
        .collect()
}

#[test]
fn an_unknown_id_is_asked_for_first_and_the_request_waits() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(1, 13, 1, &fetch(&[Z, A])));
    let sent = stage.request_at_broker();
    assert_eq!((sent.start.api_key, sent.start.api_version), (3, 12));
    assert!(!stage.engine.wants_client());
    stage.client_says(&request(1, 13, 2, &fetch(&[Z])));
    assert_eq!(stage.at_broker(), "");
    stage.broker_says(&answer(3, 12, sent.start.correlation_id, &described(&[(A, "a"), (Z, "z")])));
    // The answer to its own question went to nobody; both requests are judged in their order.
    assert_eq!(stage.at_broker(), request(1, 13, 1, &fetch(&[A])));
    assert_eq!(stage.at_client(), "");
    let layout = &message(1).response;
    let topic = layout.inside("Responses").unwrap();
    let told =
        fields(layout, [("Responses", Value::Array(vec![fields(topic, [("TopicId", Value::Uuid(A))])]))]);
    stage.broker_says(&answer(1, 13, 1, &told));
    let octets = stage.at_client();
    let first = 4 + u32::from_be_bytes(octets[..4].try_into().unwrap()) as usize;
    assert_eq!(fetched(&octets.slice(..first)), [(Z, 29), (A, 0)]);
    assert_eq!(fetched(&octets.slice(first..)), [(Z, 29)]);
    assert_eq!(
        stage.records().iter().map(|one| one.outcome).collect::<Vec<_>>(),
        [Outcome::Partly, Outcome::Denied]
    );
}

#[test]
fn an_id_that_the_broker_does_not_know_is_answered_so() {
    let mut stage = Stage::new(Everything);
    stage.client_says(&request(1, 13, 1, &fetch(&[A])));
    let sent = stage.request_at_broker();
    stage.broker_says(&answer(3, 12, sent.start.correlation_id, &described(&[])));
    assert_eq!(stage.at_broker(), "");
    assert_eq!(fetched(&stage.at_client()), [(A, 100)]);
}

#[test]
fn names_are_learned_from_what_passes() {
    let mut stage = Stage::new(Names);
    stage.client_says(&request(3, 12, 1, &fields(&message(3).request, [("Topics", Value::Null)])));
    stage.at_broker();
    stage.broker_says(&answer(3, 12, 1, &described(&[(A, "a"), (Z, "z")])));
    stage.at_client();
    // Also of a topic that was hidden.
    stage.client_says(&request(1, 13, 2, &fetch(&[A, Z])));
    assert_eq!(stage.at_broker(), request(1, 13, 2, &fetch(&[A])));
}

#[test]
fn metadata_by_id_marks_in_the_answer() {
    let (from, to) = (&message(3).request, &message(3).response);
    let topic = from.inside("Topics").unwrap();
    // A name beside the id does not count: a broker goes by the id.
    let by_id = |id: [u8; 16], name: Value| fields(topic, [("TopicId", Value::Uuid(id)), ("Name", name)]);
    let asked = Value::Array(vec![by_id(A, Value::Null), by_id(Z, Value::text("a"))]);
    let mut stage = Stage::new(Names);
    stage.client_says(&request(3, 12, 1, &fields(from, [("Topics", asked)])));
    let sent = stage.at_broker();
    assert_eq!(read_request(&sent).value.get(from, "Topics").elements().len(), 2);
    stage.broker_says(&answer(3, 12, 1, &described(&[(A, "a"), (Z, "z")])));
    let seen = stage.answer_at_client(3, 12);
    let topic = to.inside("Topics").unwrap();
    let told: Vec<_> = seen
        .value
        .get(to, "Topics")
        .elements()
        .iter()
        .map(|one| {
            (
                one.get(topic, "TopicId").as_uuid().unwrap(),
                one.get(topic, "Name").as_text(),
                respond::first_error(one, topic),
            )
        })
        .collect();
    assert_eq!(told, [(A, Some("a"), 0), (Z, None, 29)]);
}
