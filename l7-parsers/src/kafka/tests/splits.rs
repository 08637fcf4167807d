//! Octets come in any pieces, and may be any octets.

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    random::{Dice, random_struct},
    stage::{Names, Stage, answer, message, request},
};
use crate::kafka::{Record, api, schema};

/// Requests and the answers of a broker that answers whatever it is asked, at random.
fn conversation(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut dice = Dice(seed | 1);
    let keys: Vec<i16> =
        schema::messages().iter().map(|message| message.key).filter(|key| api::api(*key).is_some()).collect();
    let mut stage = Stage::new(Names);
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    for id in 0..6 {
        let key = keys[dice.roll(keys.len() as u64) as usize];
        let versions = api::versions(key);
        let version = versions.first + dice.roll((versions.last - versions.first + 1) as u64) as i16;
        let octets = request(key, version, id, &random_struct(&message(key).request, version, &mut dice));
        stage.client_says(&octets);
        asked.extend(&octets[..]);
        let mut sent = stage.at_broker();
        // The request that goes on may come after a question for names.
        while sent.len() >= 12 {
            let length = 4 + u32::from_be_bytes(sent[..4].try_into().unwrap()) as usize;
            let frame = sent.split_to(length);
            let octets = reply(&frame, &mut dice);
            stage.broker_says(&octets);
            answered.extend(&octets[..]);
            sent = Bytes::from([&sent[..], &stage.at_broker()].concat());
        }
        stage.at_client();
    }
    (asked, answered)
}

fn reply(frame: &Bytes, dice: &mut Dice) -> Bytes {
    let start = super::stage::read_request(frame).start;
    let layout = &message(start.api_key).response;
    let silent = start.api_key == 0
        && super::stage::read_request(frame).value.get(&message(0).request, "Acks").as_int() == Some(0);
    if silent {
        return Bytes::new();
    }
    let value = random_struct(layout, start.api_version, dice);
    answer(start.api_key, start.api_version, start.correlation_id, &value)
}

/// Everything that comes out of it, whatever the pieces.
fn play(asked: &[u8], answered: &[u8], pieces: &[usize]) -> (Bytes, Bytes, Vec<Record>, String) {
    let mut stage = Stage::new(Names);
    let (mut to_broker, mut to_client) = (Vec::new(), Vec::new());
    let (mut asked, mut answered) = (asked, answered);
    let mut pieces = pieces.iter().copied().cycle();
    while !asked.is_empty() {
        let (piece, rest) = asked.split_at(asked.len().min(pieces.next().unwrap_or(1)));
        stage.client_says(piece);
        to_broker.extend_from_slice(&stage.at_broker());
        asked = rest;
    }
    while !answered.is_empty() {
        let (piece, rest) = answered.split_at(answered.len().min(pieces.next().unwrap_or(1)));
        stage.broker_says(piece);
        to_client.extend_from_slice(&stage.at_client());
        to_broker.extend_from_slice(&stage.at_broker());
        answered = rest;
    }
    to_client.extend_from_slice(&stage.at_client());
    let records = stage.records().into_iter().map(|record| Record { latency: Default::default(), ..record });
    (to_broker.into(), to_client.into(), records.collect(), format!("{:?}", stage.closed()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(seed: u64, pieces in proptest::collection::vec(1..200_usize, 1..9)) {
        let (asked, answered) = conversation(seed);
        let whole = play(&asked, &answered, &[usize::MAX]);
        prop_assert_eq!(&whole, &play(&asked, &answered, &pieces));
        prop_assert_eq!(&whole, &play(&asked, &answered, &[1]));
    }

    #[test]
    fn any_octets_end_in_a_refusal_or_wait_for_more(
        seed: u64, from in 0..300_usize, to: Vec<u8>, cut in 0..300_usize, answers: Vec<u8>,
    ) {
        let (mut asked, mut answered) = conversation(seed);
        for (octets, at) in [(&mut asked, from), (&mut answered, cut)] {
            let at = at.min(octets.len());
            let end = octets.len().min(at + to.len());
            octets[at..end].copy_from_slice(&to[..end - at]);
        }
        answered.extend(answers);
        let (to_broker, to_client, ..) = play(&asked, &answered, &[64]);
        prop_assert!(to_broker.len() <= 20 * asked.len() + 4096);
        prop_assert!(to_client.len() <= 20 * (answered.len() + asked.len()) + 4096);
    }
}
