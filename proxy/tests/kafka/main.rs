//! Real clients, a real Apache Kafka broker, and the engine between them: the same programs run against
//! the broker's own ACLs and against rules that say the same, and must see the same.
//!
//! `bootstrap.sh test` installs the broker and the clients.

#![allow(clippy::unwrap_used)]

mod broker;
mod clients;
mod relay;
mod rules;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
};

use l7_parsers::kafka::{Outcome, Rule, RuleSet};
use tektin_proxy::kafka::{End, carry};

use crate::{
    broker::Broker,
    clients::{Clients, Outcomes},
    relay::Shared,
};

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const MESSAGES: usize = 100_000;

#[test]
fn clients_see_what_a_brokers_own_acls_would_show_them() {
    let broker = Broker::start();
    let shared = Arc::new(Shared::default());
    *shared.rules.lock().unwrap() = Arc::new(rules::like_the_acls());
    relay::start(broker.ports.relay, local(broker.ports.via), Arc::clone(&shared));
    let direct = Clients::new(&broker, broker.ports.direct, "app");
    let through = Clients::new(&broker, broker.ports.relay, "boss");
    direct.prepare(&["py1", "py2", "js1", "js2", "java"]);

    outcomes_are_equal(&direct, &through);
    every_codec_arrives_octet_for_octet(&through);
    transactions_arrive_as_they_were_committed(&through);
    console_clients_work_and_are_told(&through);
    a_change_of_rules_applies_to_the_next_request(&through, &shared);
    records_tell_all(&shared);
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// The two scripts, both ways at once.
fn outcomes_are_equal(direct: &Clients, through: &Clients) {
    let runs = thread::scope(|scope| {
        let runs: Vec<_> = [
            ("confluent-kafka", direct, "py1"),
            ("confluent-kafka", through, "py2"),
            ("kafkajs", direct, "js1"),
            ("kafkajs", through, "js2"),
        ]
        .into_iter()
        .map(|(client, clients, run)| scope.spawn(move || clients.outcomes(client, run)))
        .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    let [python, python_through, js, js_through] = &runs[..] else { panic!("four runs") };
    for (client, direct, through, least) in
        [("confluent-kafka", python, python_through, 49), ("kafkajs", js, js_through, 25)]
    {
        println!("\n{client:34} {:60} seconds  rules, through the engine", "ACLs, directly");
        for (line, other) in direct.lines.iter().zip(&through.lines) {
            let (what, outcome) = line.split_once(": ").unwrap_or(("", line));
            let (_, other) = other.split_once(": ").unwrap_or(("", other));
            let same = if outcome == other { "the same" } else { other };
            let seconds = |of: &Outcomes| of.seconds.get(what).copied().unwrap_or(f64::NAN);
            println!("{what:34} {outcome:60} {:7.2}  {same} {:.2}", seconds(direct), seconds(through));
        }
        let times = through.whole / direct.whole;
        println!("the whole: {:.1} s and {:.1} s, {times:.2} times as long", direct.whole, through.whole);
        assert_eq!(direct.lines, through.lines, "{client}");
        assert!(direct.lines.len() >= least, "{client} told only {:#?}", direct.lines);
    }
    // The script itself works: some things are allowed, some are not.
    let told = python.lines.join("\n");
    for word in
        ["TOPIC_AUTHORIZATION", "GROUP_AUTHORIZATION", "TRANSACTIONAL_ID_AUTHORIZATION", "committed", "ok"]
    {
        assert!(told.contains(word), "{told}");
    }
}

fn every_codec_arrives_octet_for_octet(through: &Clients) {
    let lines: String = (0..MESSAGES).map(|number| format!("{number} of {MESSAGES}\n")).collect();
    for codec in CODECS {
        let topic = format!("open-{codec}");
        through.kcat_produce(&topic, codec, &lines);
        let got = through.kcat_consume(&topic, MESSAGES);
        assert!(got == lines, "{codec}: {} octets came of {}", got.len(), lines.len());
    }
    let said = through.kcat_denied("ro-java", "-P") + &through.kcat_denied("wo-java", "-C");
    assert_eq!(said.matches("Topic authorization failed").count(), 2, "{said}");
}

/// Transactions, some of them aborted, and a reader of what was committed.
fn transactions_arrive_as_they_were_committed(through: &Clients) {
    let [committed, came, count] = through.transactions("open-transfer", MESSAGES);
    assert_eq!((&committed, count), (&came, MESSAGES.to_string()));
}

fn console_clients_work_and_are_told(through: &Clients) {
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let said = through.console_producer("open-java-console", &lines);
    assert!(!said.contains("Exception"), "{said}");
    let (got, said) = through.console_consumer("ConsoleConsumer", "open-java-console", "good-java", 1000);
    assert_eq!(got, lines, "{said}");
    through.share_from_the_beginning("good-share");
    let (got, said) =
        through.console_consumer("ConsoleShareConsumer", "open-java-console", "good-share", 1000);
    let sorted = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(sorted(&got), sorted(&lines), "{said}");

    thread::scope(|scope| {
        scope.spawn(|| {
            let said = through.console_producer("ro-java", "denied\n");
            assert!(said.contains("TopicAuthorizationException"), "{said}");
        });
        // Not the share consumer: where a broker's own ACLs deny it, it asks again for half a minute or ever.
        for (topic, group, told) in [
            ("shut-java", "good-java", "TopicAuthorizationException"),
            ("open-java", "bad-java", "GroupAuthorizationException"),
        ] {
            scope.spawn(move || {
                let (got, said) = through.console_consumer("ConsoleConsumer", topic, group, 1);
                assert_eq!(got, "");
                assert!(said.contains(told), "{topic} by {group}: {said}");
            });
        }
    });
}

/// A consumer that is reading when its topic is taken away learns it with the fetch that follows.
fn a_change_of_rules_applies_to_the_next_request(through: &Clients, shared: &Shared) {
    let before = Arc::clone(&shared.rules.lock().unwrap());
    let mut reading = through.kcat_follow("open-java-console");
    reading.wait_for("999\n");
    let without = RuleSet { rules: before.rules.iter().filter(|rule| !reads_open(rule)).cloned().collect() };
    *shared.rules.lock().unwrap() = Arc::new(without);
    let said = reading.said_at_its_end();
    *shared.rules.lock().unwrap() = before;
    assert!(said.contains("Topic authorization failed"), "{said}");
}

fn reads_open(rule: &Rule) -> bool {
    rule.id == 3
}

fn records_tell_all(shared: &Shared) {
    // Nobody was put out: clients leave by themselves, whatever they are denied.
    let ends = shared.ends.lock().unwrap();
    assert!(ends.len() > 10 && ends.iter().all(|end| *end == End::Client), "{ends:?}");
    let records = shared.records.lock().unwrap();
    let seen: BTreeSet<_> = records.iter().map(|record| record.api_name).collect();
    println!("{} requests of {} kinds: {seen:?}", records.len(), seen.len());
    for name in
        ["Produce", "Fetch", "ShareFetch", "ConsumerGroupHeartbeat", "TxnOffsetCommit", "SaslAuthenticate"]
    {
        assert!(seen.contains(name), "{name}");
    }
    for record in records.iter() {
        assert!(!matches!(record.outcome, Outcome::Refused(_)), "{record:?}");
        assert!(record.outcome != Outcome::Denied || record.error_code > 0, "{record:?}");
    }
    let denied = |name: &str| {
        records.iter().any(|record| record.api_name == name && record.outcome == Outcome::Denied)
    };
    assert!(denied("Produce") && denied("Fetch") && denied("FindCoordinator"));
}
