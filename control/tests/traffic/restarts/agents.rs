//! Agents that are killed.

use std::{collections::BTreeSet, thread::sleep, time::Instant};

use tektin_loader::{Datapath, LoadOptions};

use super::under_load::{Chance, Node, policy, repeated, show};
use crate::netlab::{Lab, eventually};

#[test]
fn twenty_agents_are_killed_and_no_request_notices() {
    let node = Node::new(&[]);
    let lab = &node.lab;
    let mut chance = Chance::new();
    let before = node.drops();
    let began = Instant::now();
    let mut recorded = BTreeSet::new();
    let seen = node.under_load(|| {
        for round in 0..20u32 {
            match round % 4 {
                0 => sleep(chance.up_to(300)),
                1 => {
                    // While it starts.
                    lab.kill_agent();
                    lab.spawn_agent();
                    sleep(chance.up_to(600));
                }
                2 => std::thread::scope(|scope| {
                    scope.spawn(|| lab.try_apply(&policy(round)));
                    sleep(chance.up_to(80));
                    lab.kill_agent();
                    lab.spawn_agent();
                }),
                _ => std::thread::scope(|scope| {
                    let name = format!("extra{round}");
                    let extra = lab.namespace(&name);
                    scope.spawn(move || {
                        lab.tektin(&[
                            "endpoint",
                            "add",
                            &name,
                            "--netns",
                            extra.name(),
                            "--label",
                            "app=extra",
                        ])
                    });
                    sleep(chance.up_to(250));
                    lab.kill_agent();
                    lab.spawn_agent();
                }),
            }
            lab.kill_agent();
            lab.start_agent();
            if round % 5 == 4 {
                node.collect(&mut recorded);
            }
        }
    });
    show(&seen);
    println!("35 agents in {:?}; SYNs repeated: {}", began.elapsed(), repeated(&node.client.ns));
    println!("dropped: before {before:?}, after {:?}", node.drops());
    assert_eq!(seen.failed, Vec::<String>::new());
    // A kept connection that was cut would be a failed request; one that was asked to end, this.
    assert_eq!(seen.closed, 0);
    assert!(seen.requests() > 500, "only {} requests", seen.requests());
    node.check_server(&seen);
    node.check_records(&seen, recorded);
    // Not even a packet that was sent again.
    assert_eq!(node.drops(), before);
}

#[test]
fn what_the_kernel_had_no_room_for_while_there_was_no_agent_is_counted() {
    // A page of events: some thirty.
    let small = |lab: &Lab| {
        let options = LoadOptions { map_max_entries: vec![("events", 4096)], ..LoadOptions::default() };
        lab.node.inside(|| Datapath::open_or_load(&lab.pin_dir(), &options)).expect("the programs load");
    };
    let lab = Lab::prepared(&[], small);
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:7"]);
    let flows = |lab: &Lab| {
        let status = lab.json(&["status"]);
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        let flows = &status["flows"];
        let lost = (number(&flows["lost_kernel"]), number(&status["counters"]["events_lost"]));
        (number(&flows["seen"]) + number(&flows["restored"]), lost)
    };
    let mut opened = 0;
    let mut open = |count: u64| {
        for _ in 0..count {
            client.ns.expect_open(web.at(7)[0]);
        }
        opened += count;
        opened
    };
    // One event a connection, while somebody reads them one by one.
    open(3);
    let (before, _) = eventually("all are read", || Some(flows(&lab)).filter(|(seen, _)| *seen >= 3));
    for round in 1..3 {
        lab.kill_agent();
        let opened = open(100);
        lab.start_agent();
        // Also what was lost while an agent before this one was away, and nothing twice.
        let (seen, lost) = eventually("every connection is seen or counted as lost", || {
            Some(flows(&lab))
                .filter(|(seen, (lost, total))| lost == total && seen + lost >= before - 3 + opened)
        });
        println!("round {round}: {seen} seen, {lost:?} lost of {opened}");
        assert!(lost.0 >= 50 * round, "{lost:?}");
    }
}
