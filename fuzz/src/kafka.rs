//! The Kafka engine between a client and a broker of which either may say anything, in any pieces, under
//! drawn rules. What it lets through to the broker is read by kafka-protocol too, and each name in it asked
//! of the rules; what it holds stays within its bounds; pieces change nothing.

mod names;
mod shown;

use std::{collections::VecDeque, time::Instant};

use bytes::{Buf, Bytes};
use l7_parsers::kafka::{Cut, Engine, Limits, Pattern, Requests, Role, Rule, RuleSet};
use policy_engine::model::{KafkaRequests, KafkaRule};

use crate::draw::Draw;
use shown::Shown;

/// Small, so that an input reaches them.
const LIMITS: Limits = Limits {
    request_octets: 4 << 10,
    streamed_octets: 64,
    answer_octets: 4 << 10,
    request_values: 2 << 10,
    answer_values: 2 << 10,
    in_flight: 8,
    kept_octets: 2 << 10,
    outbox_octets: 4 << 10,
    topic_ids: 8,
    session_octets: 2 << 10,
};

pub fn run(data: &[u8]) {
    let (rules, script) = data.split_at(data.len().min(24));
    let rules = rules_of(rules);
    let whole = play(&rules, script, usize::MAX);
    assert_eq!(whole, play(&rules, script, 1), "pieces make a difference");
}

fn rules_of(data: &[u8]) -> RuleSet {
    let mut draw = Draw::new(data);
    let rules = (1..=draw.below(4) as u32).map(|id| rule(id, draw.kafka_rule())).collect();
    RuleSet { rules }
}

fn rule(id: u32, drawn: KafkaRule) -> Rule {
    let names =
        |names: Option<Vec<String>>| names.map(|names| names.iter().map(|name| Pattern::new(name)).collect());
    Rule {
        id,
        requests: match drawn.requests {
            KafkaRequests::Any => Requests::Any,
            KafkaRequests::Produce => Requests::Role(Role::Produce),
            KafkaRequests::Consume => Requests::Role(Role::Consume),
            KafkaRequests::ApiKey(key) => Requests::ApiKey(key),
        },
        api_version: drawn.api_version,
        client_id: drawn.client_id,
        topic: drawn.topic.as_deref().map(Pattern::new),
        groups: names(drawn.groups),
        transactional_ids: names(drawn.transactional_ids),
    }
}

/// All that comes out of the engine.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    to_broker: Vec<u8>,
    to_client: Vec<u8>,
    records: Vec<String>,
    closed: String,
}

/// One thing that happens. An octet says which, and with the one after it how many octets go with it.
fn next<'a>(script: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [first, second, rest @ ..] = script else { return None };
    let length = usize::from(first & 15) << 8 | usize::from(*second);
    let (octets, rest) = rest.split_at(rest.len().min(length));
    *script = rest;
    Some((first >> 4, octets))
}

fn play(rules: &RuleSet, mut script: &[u8], piece: usize) -> Outcome {
    let mut engine = Engine::new(LIMITS);
    let mut outcome = Outcome::default();
    // Of what the broker got: where the next frame begins, and the correlation ids that it has to answer.
    let (mut read, mut due) = (0, VecDeque::new());
    let mut shown = Shown::default();
    let mut fed = 0;
    while let Some((action, octets)) = next(&mut script) {
        let framed =
            |start: &[u8]| [&((start.len() + octets.len()) as u32).to_be_bytes(), start, octets].concat();
        let (from_client, octets) = match action & 3 {
            0 => (true, octets.to_vec()),
            1 => (true, framed(&[])),
            2 => (false, octets.to_vec()),
            _ => (false, framed(&due.pop_front().unwrap_or(0_i32).to_be_bytes())),
        };
        fed += octets.len();
        if from_client {
            shown.client_says(&octets);
        }
        for piece in octets.chunks(piece.min(octets.len().max(1))) {
            let ends = engine.ends();
            if from_client { ends.from_client } else { ends.from_broker }.extend_from_slice(piece);
            engine.advance(rules, Instant::now());
        }
        // Now and then nobody takes what is ready.
        if action & 4 == 0 {
            take(&mut engine, rules, &mut outcome);
        }
        while let Some((frame, next)) = frame(&outcome.to_broker, read) {
            due.extend(names::check(rules, &frame));
            read = next;
        }
        shown.check(rules, &outcome.to_client);
        // Twice as much as came may stand in buffers that grow, beside what has bounds of its own.
        assert!(engine.octets() <= 4 * fed + (256 << 10), "{} octets held, of {fed}", engine.octets());
    }
    take(&mut engine, rules, &mut outcome);
    shown.check(rules, &outcome.to_client);
    outcome.closed = format!("{:?}", engine.closed());
    engine.cut(Cut::Client, Instant::now());
    records(&mut engine, &mut outcome);
    assert_eq!(engine.in_flight(), 0);
    outcome
}

/// Takes all that is ready, and what gets ready by that.
fn take(engine: &mut Engine, rules: &RuleSet, outcome: &mut Outcome) {
    loop {
        let ends = engine.ends();
        let (asks, answers) = (ends.to_broker.remaining(), ends.to_client.remaining());
        outcome.to_broker.extend_from_slice(&ends.to_broker.copy_to_bytes(asks));
        outcome.to_client.extend_from_slice(&ends.to_client.copy_to_bytes(answers));
        records(engine, outcome);
        if asks + answers == 0 {
            return;
        }
        engine.advance(rules, Instant::now());
    }
}

fn records(engine: &mut Engine, outcome: &mut Outcome) {
    while let Some(mut record) = engine.record() {
        record.latency = std::time::Duration::ZERO;
        outcome.records.push(format!("{record:?}"));
    }
}

/// The frame that begins there, and where the next one does.
fn frame(octets: &[u8], at: usize) -> Option<(Bytes, usize)> {
    let length = u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?) as usize;
    let frame = octets.get(at + 4..at + 4 + length)?;
    Some((Bytes::copy_from_slice(frame), at + 4 + length))
}
