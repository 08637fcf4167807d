use std::{cell::Cell, rc::Rc};

use super::stage::{Everything, Names, Nothing, Stage, answer, fields, message, request};
use crate::kafka::{Policy, Question, Verdict, respond, value::Value};

const FETCH: i16 = 1;
const SHARE_FETCH: i16 = 78;
const A: [u8; 16] = [1; 16];
const Z: [u8; 16] = [2; 16];

#[test]
fn a_fetch_session_is_not_granted() {
    let (from, to) = (&message(FETCH).request, &message(FETCH).response);
    let session =
        |id, epoch| fields(from, [("SessionId", Value::Int(id)), ("SessionEpoch", Value::Int(epoch))]);
    let mut stage = Stage::new(Everything);
    stage.client_says(&request(FETCH, 11, 1, &session(0, 0)));
    assert_eq!(stage.at_broker(), request(FETCH, 11, 1, &session(0, -1)));
    stage.broker_says(&answer(FETCH, 11, 1, &Value::empty(to)));
    stage.at_client();
    stage.client_says(&request(FETCH, 11, 2, &session(77, 1)));
    assert_eq!(stage.at_broker(), "");
    assert_eq!(respond::first_error(&stage.answer_at_client(FETCH, 11).value, to), 70);
}

/// Everything, then what begins with `a`, then everything again.
#[derive(Clone)]
struct Switched(Rc<Cell<u8>>);

impl Policy for Switched {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        match self.0.get() {
            0 => Everything.judge(question),
            1 => Names.judge(question),
            _ => Nothing.judge(question),
        }
    }
}

fn share_fetch(epoch: i64, topics: &[[u8; 16]], forgotten: &[[u8; 16]]) -> Value {
    let layout = &message(SHARE_FETCH).request;
    let (topic, left) = (layout.inside("Topics").unwrap(), layout.inside("ForgottenTopicsData").unwrap());
    let part = topic.inside("Partitions").unwrap();
    let list = topics.iter().map(|id| {
        let partitions = Value::Array(vec![fields(part, [("PartitionIndex", Value::Int(4))])]);
        fields(topic, [("TopicId", Value::Uuid(*id)), ("Partitions", partitions)])
    });
    let forgotten = forgotten.iter().map(|id| {
        fields(left, [("TopicId", Value::Uuid(*id)), ("Partitions", Value::Array(vec![Value::Int(4)]))])
    });
    fields(
        layout,
        [
            ("GroupId", Value::text("a")),
            ("MemberId", Value::text("m")),
            ("ShareSessionEpoch", Value::Int(epoch)),
            ("Topics", Value::Array(list.collect())),
            ("ForgottenTopicsData", Value::Array(forgotten.collect())),
        ],
    )
}

fn codes(stage: &mut Stage) -> Vec<([u8; 16], i16)> {
    let layout = &message(SHARE_FETCH).response;
    let topic = layout.inside("Responses").unwrap();
    let seen = stage.answer_at_client(SHARE_FETCH, 1);
    let list = seen.value.get(layout, "Responses").elements().iter();
    list.map(|one| (one.get(topic, "TopicId").as_uuid().unwrap(), respond::first_error(one, topic))).collect()
}

#[test]
fn what_a_share_session_holds_is_judged_with_every_fetch() {
    let rules = Rc::new(Cell::new(0));
    let mut stage = Stage::new(Switched(Rc::clone(&rules)));
    let nothing = Value::empty(&message(SHARE_FETCH).response);
    stage.client_says(&request(SHARE_FETCH, 1, 1, &share_fetch(0, &[A, Z], &[])));
    let names = stage.request_at_broker();
    let layout = &message(3).response;
    let topic = layout.inside("Topics").unwrap();
    let named = [(A, "a"), (Z, "z")]
        .map(|(id, name)| fields(topic, [("TopicId", Value::Uuid(id)), ("Name", Value::text(name))]));
    let described = fields(layout, [("Topics", Value::Array(named.to_vec()))]);
    stage.broker_says(&answer(3, 12, names.start.correlation_id, &described));
    assert_eq!(stage.at_broker(), request(SHARE_FETCH, 1, 1, &share_fetch(0, &[A, Z], &[])));
    stage.broker_says(&answer(SHARE_FETCH, 1, 1, &nothing));
    assert_eq!(codes(&mut stage), []);

    // The rules deny one of them: the broker's session lets go of it, the client is told.
    rules.set(1);
    stage.client_says(&request(SHARE_FETCH, 1, 2, &share_fetch(1, &[], &[])));
    assert_eq!(stage.at_broker(), request(SHARE_FETCH, 1, 2, &share_fetch(1, &[], &[Z])));
    stage.broker_says(&answer(SHARE_FETCH, 1, 2, &nothing));
    assert_eq!(codes(&mut stage), [(Z, 29)]);
    // And told again, but the broker has nothing to forget any more.
    stage.client_says(&request(SHARE_FETCH, 1, 3, &share_fetch(2, &[], &[])));
    assert_eq!(stage.at_broker(), request(SHARE_FETCH, 1, 3, &share_fetch(2, &[], &[])));
    stage.broker_says(&answer(SHARE_FETCH, 1, 3, &nothing));
    assert_eq!(codes(&mut stage), [(Z, 29)]);

    // Allowed again: the client has to begin a session that has it.
    rules.set(0);
    stage.client_says(&request(SHARE_FETCH, 1, 4, &share_fetch(3, &[], &[])));
    assert_eq!(stage.at_broker(), "");
    let seen = stage.answer_at_client(SHARE_FETCH, 1);
    assert_eq!(respond::first_error(&seen.value, &message(SHARE_FETCH).response), 122);
    stage.client_says(&request(SHARE_FETCH, 1, 5, &share_fetch(0, &[A, Z], &[])));
    assert_eq!(stage.at_broker(), request(SHARE_FETCH, 1, 5, &share_fetch(0, &[A, Z], &[])));
}

#[test]
fn a_share_session_of_another_connection_is_not_known() {
    let mut stage = Stage::new(Everything);
    stage.client_says(&request(SHARE_FETCH, 1, 1, &share_fetch(5, &[], &[])));
    assert_eq!(stage.at_broker(), "");
    let seen = stage.answer_at_client(SHARE_FETCH, 1);
    assert_eq!(respond::first_error(&seen.value, &message(SHARE_FETCH).response), 122);
}
