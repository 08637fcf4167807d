//! Every request, in every version, allowed, denied and half denied.

use bytes::{Buf, Bytes};
use kafka_protocol::{
    messages::{ApiKey, ResponseHeader, ResponseKind},
    protocol::Decodable,
};

use super::{
    random::{Dice, random_struct},
    stage::{Everything, Names, Nothing, Seen, Stage, answer, message, read_answer, read_request, request},
};
use crate::kafka::{
    Outcome, answer as refusing,
    api::{self, Names as Kind},
    merge::Key,
    respond, schema,
    value::Value,
};

/// Answered by the broker whatever the rules say: what it tells of names is cut, or tells none.
const OPEN: [i16; 9] = [3, 16, 17, 18, 36, 60, 66, 71, 72];

fn each_version(mut test: impl FnMut(i16, i16, &mut Dice)) {
    let mut dice = Dice(0xfee1_600d);
    for message in schema::messages() {
        let versions = api::versions(message.key);
        for version in versions.first..=versions.last {
            for _ in 0..8 {
                test(message.key, version, &mut dice);
            }
        }
    }
}

/// A request with no session and with an answer.
fn random_request(key: i16, version: i16, dice: &mut Dice) -> Value {
    let layout = &message(key).request;
    let mut value = random_struct(layout, version, dice);
    for (field, number) in [
        ("Acks", 1),
        ("SessionId", 0),
        ("SessionEpoch", -1),
        ("ShareSessionEpoch", 0),
        ("KeyType", 1),
        ("ReplicaId", -1),
    ] {
        if layout.index_in(field, version).is_some() {
            value.set(layout, field, Value::Int(number));
        }
    }
    value.set(layout, "ReplicaState", Value::Absent);
    value
}

fn kafka_protocol_reads(octets: &Bytes, key: i16, version: i16) {
    let Ok(key) = ApiKey::try_from(key) else { return };
    if !(key.valid_versions().min..=key.valid_versions().max).contains(&version) {
        return;
    }
    let mut rest = octets.slice(4..);
    let header = key.response_header_version(version);
    ResponseHeader::decode(&mut rest, header).unwrap();
    ResponseKind::decode(key, &mut rest, version)
        .unwrap_or_else(|error| panic!("{key:?} v{version}: {error:#}"));
    assert_eq!(rest.remaining(), 0, "{key:?} v{version}");
}

#[test]
fn allowed_requests_go_on_octet_for_octet() {
    each_version(|key, version, dice| {
        let mut stage = Stage::new(Everything);
        let octets = request(key, version, 7, &random_request(key, version, dice));
        stage.client_says(&octets);
        let got = stage.at_broker();
        if got.first_chunk::<6>().map(|start| &start[4..]) == Some(&[0, 3]) && key != 3 {
            return; // It asks for names of topic ids first.
        }
        assert_eq!(got, octets, "{key} v{version}");
        assert_eq!(stage.engine.in_flight(), 1);
    });
}

#[test]
fn denied_requests_get_an_error_of_their_own_version() {
    let mut answered = 0;
    each_version(|key, version, dice| {
        let mut stage = Stage::new(Nothing);
        let value = random_request(key, version, dice);
        stage.client_says(&request(key, version, 7, &value));
        let sent = stage.at_broker();
        if !sent.is_empty() {
            let asked = read_request(&sent);
            let names_first = asked.start.api_key == 3 && key != 3;
            assert!(names_first || OPEN.contains(&key) || is_empty(key, version, &value), "{key} v{version}");
            return;
        }
        let octets = stage.at_client();
        kafka_protocol_reads(&octets, key, version);
        let seen = read_answer(&octets, key, version);
        assert_eq!(seen.start.correlation_id, 7);
        let record = stage.records().pop().expect("a record");
        assert_eq!(record.outcome, Outcome::Denied, "{key} v{version}");
        assert!(record.error_code > 0, "{key} v{version}");
        if has_entries(key, version, &value) {
            let code = respond::first_error(&seen.value, &message(key).response);
            assert_eq!(code, record.error_code, "{key} v{version}: {seen:?}");
        }
        answered += 1;
    });
    assert!(answered > 800, "{answered}");
}

/// Whether the request names nothing that could be denied.
fn is_empty(key: i16, version: i16, value: &Value) -> bool {
    api::api(key).is_some_and(|api| api.whole.is_empty() || matches!(key, 0 | 1 | 9 | 10 | 24))
        && !has_entries(key, version, value)
}

fn has_entries(key: i16, version: i16, value: &Value) -> bool {
    let layout = &message(key).request;
    let Some(api) = api::api(key) else { return false };
    if message(key).response.index_in("ErrorCode", version).is_some() && !api.whole.is_empty() && key != 1 {
        return true;
    }
    let lists = ["Groups", "Deletions", "Upsertions", "Dirs"];
    refusing::entries_in(api, layout, version).map(|entries| entries.request).into_iter().chain(lists).any(
        |list| {
            value.get(layout, list).elements().iter().any(|entry| {
                let parts = layout.inside(list).map(|inside| {
                    ["Partitions", "PartitionData", "PartitionIndexes"].iter().all(|field| {
                        inside.index_in(field, version).is_none()
                            || !entry.get(inside, field).elements().is_empty()
                    })
                });
                parts.unwrap_or(true) && list != "Dirs" && list != "Groups"
            })
        },
    )
}

/// A broker's answer without errors, an entry for each of the request's, in another order.
fn broker_answers(asked: &Seen) -> Value {
    let (key, version) = (asked.start.api_key, asked.start.api_version);
    let (from, to) = (&message(key).request, &message(key).response);
    let mut value = Value::empty(to);
    let Some(entries) = refusing::entries_in(api::api(key).unwrap(), from, version) else { return value };
    let list = asked.value.get(from, entries.request).elements();
    let mut all: Vec<_> = list.iter().map(|one| refusing::entry(entries, one, from, to, 0)).collect();
    all.reverse();
    value.set(to, entries.response, Value::Array(all));
    value
}

#[test]
fn what_is_left_of_a_request_goes_on_and_its_answer_is_whole_again() {
    let mut mixed = 0;
    each_version(|key, version, dice| {
        let (from, to) = (&message(key).request, &message(key).response);
        let Some(entries) = refusing::entries_in(api::api(key).unwrap(), from, version) else { return };
        let inside = from.inside(entries.request);
        if entries.names != Kind::Topic || key == 24 || api::api(key).unwrap().scope.is_some() {
            return;
        }
        // Four entries by name: allowed, denied, allowed, denied, in a random order.
        let mut value = random_request(key, version, dice);
        for field in ["GroupId", "TransactionalId"] {
            if from.index_in(field, version).is_some() {
                value.set(from, field, Value::text("a-name"));
            }
        }
        let mut names = ["a1", "z1", "a2", "z2"];
        (0..3).for_each(|at| names.swap(at, at + dice.roll(4 - at as u64) as usize));
        let list: Vec<_> = names.iter().filter_map(|name| entry(inside, version, name, dice)).collect();
        if list.len() < 4 {
            return; // This version has ids alone.
        }
        value.set(from, entries.request, Value::Array(list));

        let mut stage = Stage::new(Names);
        stage.client_says(&request(key, version, 7, &value));
        let asked = stage.request_at_broker();
        let kept = |value: &Value, layout: &schema::Layout, field: &str| -> Vec<Key> {
            let list = value.get(layout, field).elements().iter();
            list.map(|one| Key::of(one, layout.inside(field))).collect()
        };
        let allowed: Vec<Key> =
            names.iter().filter(|name| name.starts_with('a')).map(|name| Key::Name((*name).into())).collect();
        assert_eq!(kept(&asked.value, from, entries.request), allowed, "{key} v{version}");
        stage.broker_says(&answer(key, version, 7, &broker_answers(&asked)));
        let octets = stage.at_client();
        kafka_protocol_reads(&octets, key, version);
        let seen = read_answer(&octets, key, version);
        let all: Vec<Key> = names.iter().map(|name| Key::Name((*name).into())).collect();
        assert_eq!(kept(&seen.value, to, entries.response), all, "{key} v{version}");
        let record = stage.records().pop().expect("a record");
        assert_eq!((record.outcome, record.error_code, record.rule), (Outcome::Partly, 29, 9));
        assert_eq!(record.topics.len(), 4, "{record:?}");
        for (name, one) in names.iter().zip(seen.value.get(to, entries.response).elements()) {
            let code = respond::first_error(one, to.inside(entries.response).unwrap());
            assert_eq!(code != 0, name.starts_with('z'), "{key} v{version} {name}: {one:?}");
        }
        mixed += 1;
    });
    assert!(mixed > 300, "{mixed}");
}

/// An entry of this name that has at least one partition; `None` where the version has no names.
fn entry(inside: Option<&schema::Layout>, version: i16, name: &str, dice: &mut Dice) -> Option<Value> {
    let Some(inside) = inside else { return Some(Value::text(name)) };
    let field =
        ["Name", "Topic", "TopicName"].into_iter().find(|name| inside.index_in(name, version).is_some())?;
    let list = ["Partitions", "PartitionData", "PartitionIndexes"];
    loop {
        let mut value = random_struct(inside, version, dice);
        value.set(inside, field, Value::text(name));
        value.set(inside, "TopicId", Value::Uuid([0; 16]));
        if list.iter().all(|list| {
            inside.index_in(list, version).is_none() || !value.get(inside, list).elements().is_empty()
        }) {
            return Some(value);
        }
    }
}
