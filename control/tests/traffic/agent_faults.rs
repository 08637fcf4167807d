//! What goes wrong around an agent: crashes under traffic, no room, mistakes of people. The old state
//! or the new one is in force, never a third.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use tektin_loader::{Datapath, LoadOptions};

use crate::{
    netlab::{
        LIMIT, Lab,
        clients::{Reach, url},
        eventually,
        process::{Finished, run, tektin},
        workload::Workload,
    },
    policies::{cnp, http_port, port},
};

/// Counts of one kind of traffic.
#[derive(Default)]
struct Tally {
    answered: AtomicU32,
    silent: AtomicU32,
}

impl Tally {
    fn note(&self, answered: bool) {
        let count = if answered { &self.answered } else { &self.silent };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> (u32, u32) {
        (self.answered.load(Ordering::Relaxed), self.silent.load(Ordering::Relaxed))
    }
}

#[test]
fn nothing_is_lost_and_nothing_slips_through_while_agents_come_and_go() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7"]);
    let from_client = "fromEndpoints: [{matchLabels: {app: client}}]";
    lab.apply(&cnp(
        "web",
        "web",
        &format!(
            "ingress: [{{{from_client}, {}}}, {{{from_client}, {}}}]",
            port(7, "TCP"),
            http_port(80, "{path: /a}")
        ),
    ));
    let over = AtomicBool::new(false);
    let [direct, request, forbidden, stranger] = [(); 4].map(|()| Tally::default());
    std::thread::scope(|scope| {
        let repeat = |tally, answered: &'static (dyn Fn(&Workload, &Workload, &Workload) -> bool + Sync)| {
            let (web, client, foe, over): (&Workload, &Workload, &Workload, &AtomicBool) =
                (&web, &client, &foe, &over);
            let tally: &Tally = tally;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    tally.note(answered(web, client, foe));
                }
            });
        };
        repeat(&direct, &|web, client, _| client.ns.tcp(web.at(7)[0], LIMIT) == Reach::Answered);
        repeat(&request, &|web, client, _| {
            client.ns.curl(LIMIT, &url(web.at(80)[1], "/a"), &[]).status == 200
        });
        repeat(&forbidden, &|web, client, _| {
            client.ns.curl(LIMIT, &url(web.at(80)[0], "/b"), &[]).status != 403
        });
        repeat(&stranger, &|web, _, foe| {
            foe.ns.tcp(web.at(7)[1], Duration::from_millis(100)) == Reach::Answered
        });
        for _ in 0..5 {
            lab.kill_agent();
            lab.start_agent();
            std::thread::sleep(Duration::from_millis(100));
        }
        over.store(true, Ordering::Relaxed);
    });
    for (what, tally, wanted_silent) in [
        ("allowed connections", &direct, false),
        ("allowed requests", &request, false),
        ("forbidden requests", &forbidden, true),
        ("strangers", &stranger, true),
    ] {
        let (answered, silent) = tally.counts();
        let (right, wrong) = if wanted_silent { (silent, answered) } else { (answered, silent) };
        assert_eq!(wrong, 0, "{what}: {wrong} wrong of {}", wrong + right);
        assert!(right > 20, "{what}: only {right} were tried");
    }
    // A packet that was dropped and sent again would not show above.
    let dropped =
        lab.tektin(&["observe", "--last", "20", "--verdict", "dropped", "--from-endpoint", "client"]);
    let lines = dropped.success().stdout.lines().count();
    assert!(lines <= 1, "{}", dropped.stdout);
}

#[test]
fn who_gets_an_address_after_another_inherits_nothing() {
    let lab = Lab::new();
    let (web, friend) = (lab.workload("web"), lab.workload("friend"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7"]);
    let from = "fromEndpoints: [{matchLabels: {app: friend}}]";
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress: [{{{from}, {}}}, {{{from}, {}}}]", port(7, "TCP"), http_port(80, "{path: /a}")),
    ));
    let (direct, proxied) = (web.at(7)[0], web.at(80)[0]);
    friend.ns.expect_open(direct);
    friend.ns.expect_status(200, proxied, "/a", &[]);
    let number =
        |lab: &Lab, name: &str| lab.json(&["endpoint", "get", name])["identity"].as_u64().expect("a number");
    let before = number(&lab, "friend");
    lab.tektin(&["endpoint", "delete", "friend"]).success();
    // Nothing in the kernel speaks of it any more.
    for map in ["ct", "steered", "verdicts"] {
        let dump = lab.json(&["map", "get", map]).to_string();
        assert!(!dump.contains(&friend.v4.to_string()), "{map}: {dump}");
        assert!(!dump.contains(&format!(":{before},")), "{map}: {dump}");
    }
    let foe = lab.workload_with("foe", &["--label", "app=foe", "--ip", &friend.v4.to_string()]);
    assert_eq!(foe.v4, friend.v4);
    assert_ne!(number(&lab, "foe"), before, "a number that was given back is not given again at once");
    foe.ns.expect_silence(direct);
    foe.ns.expect_silence(proxied);
}

#[test]
fn a_change_that_has_no_room_is_refused_and_leaves_the_old_policy() {
    // The agent finds the tables as they are, here with little room.
    let small = |lab: &Lab| {
        let options = LoadOptions { map_max_entries: vec![("policy", 40)], ..LoadOptions::default() };
        lab.node.inside(|| Datapath::open_or_load(&lab.pin_dir(), &options)).expect("the programs load");
    };
    let lab = Lab::prepared(&[], small);
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7", "echo:8"]);
    let good = format!("ingress: [{{{}}}, {{{}}}]", port(7, "TCP"), http_port(80, "{path: /a}"));
    lab.apply(&cnp("web", "web", &good));
    let holds = || {
        for ip in web.addresses() {
            client.ns.expect_open((ip, 7).into());
            client.ns.expect_silence((ip, 8).into());
            client.ns.expect_status(200, (ip, 80).into(), "/a", &[]);
            client.ns.expect_status(403, (ip, 80).into(), "/b", &[]);
        }
    };
    holds();
    // Odd ports cannot share a prefix: an entry each.
    let ports: Vec<String> = (0..39).map(|n| format!("{{port: \"{}\", protocol: TCP}}", 2 * n + 1)).collect();
    let large = format!("ingress: [{{toPorts: [{{ports: [{}]}}]}}]", ports.join(", "));
    for _ in 0..2 {
        let refused = lab.try_apply(&cnp("web", "web", &large));
        assert!(refused.exit(1).stderr.contains("stays in force"), "{}", refused.stderr);
        holds();
    }
    // Nothing of it is left, or this would not fit either.
    lab.apply(&cnp("web", "web", &good.replace("/a", "/(a|c)")));
    holds();
}

/// Nothing in the directory changes when the room is there: the agent tries again by itself.
#[test]
fn a_file_that_had_no_room_is_in_force_once_there_is() {
    let small = |lab: &Lab| {
        let options = LoadOptions { map_max_entries: vec![("policy", 40)], ..LoadOptions::default() };
        lab.node.inside(|| Datapath::open_or_load(&lab.pin_dir(), &options)).expect("the programs load");
    };
    let lab = Lab::prepared(&[], small);
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:7", "echo:8"]);
    lab.serve(&client.ns, &["echo:7", "echo:8"]);
    // Odd ports, of which each is an entry: there is room for one such policy.
    let ports: Vec<String> = (4..29).map(|n| format!("{{port: \"{}\", protocol: TCP}}", 2 * n + 1)).collect();
    let ports = format!("[{{port: \"8\", protocol: TCP}}, {}]", ports.join(", "));
    let policy = |name: &str| cnp(name, name, &format!("egress: [{{toPorts: [{{ports: {ports}}}]}}]"));
    let holds = |from: &Workload, to: &Workload| {
        from.ns.expect_open(to.at(8)[0]);
        from.ns.expect_silence(to.at(7)[1]);
    };
    lab.apply(&policy("client"));
    std::fs::write(lab.policy_dir().join("web.yaml"), policy("web")).expect("a policy file");
    let error = || lab.json(&["status"])["policy"]["files"][0]["error"].as_str().map(str::to_owned);
    let said = eventually("the file is refused", error);
    assert!(said.contains("stays in force"), "{said}");
    holds(&client, &web);
    web.ns.expect_open(client.at(7)[0]);
    lab.tektin(&["policy", "delete", "--name", "client"]).success();
    eventually("the file is tried again", || error().is_none().then_some(()));
    holds(&web, &client);
    client.ns.expect_open(web.at(7)[0]);
}

fn in_node(lab: &Lab, command: &str, directory: &str) -> Finished {
    let mut process = lab.node.command(&tektin().get_program().to_string_lossy());
    process.arg(command);
    for flag in ["state-dir", "run-dir", "policy-dir"] {
        process.arg(format!("--{flag}")).arg(lab.dir().join(directory).join(flag));
    }
    process.arg("--pin-dir").arg(format!("{}-{directory}", lab.pin_dir().display()));
    run(process, LIMIT)
}

#[test]
fn a_namespace_has_one_agent() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:7"]);
    for command in ["agent", "cleanup"] {
        let refused = in_node(&lab, command, "other");
        assert!(refused.exit(1).stderr.contains("in this network namespace"), "{}", refused.stderr);
    }
    client.ns.expect_open(web.at(7)[0]);
    // A second endpoint in one namespace would make it two workloads in one.
    let refused = lab.tektin(&["endpoint", "add", "again", "--netns", web.ns.name(), "--label", "app=again"]);
    assert!(refused.exit(1).stderr.contains("default/web"), "{}", refused.stderr);
}

#[test]
fn a_renamed_device_is_guarded_as_before() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:7", "echo:8"]);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", port(7, "TCP"))));
    let guarded = |to: [SocketAddr; 2], not: [SocketAddr; 2]| {
        to.into_iter().for_each(|to| client.ns.expect_open(to));
        not.into_iter().for_each(|to| client.ns.expect_silence(to));
    };
    let veth = |name: &str| lab.json(&["endpoint", "get", name])["veth"].as_str().expect("a name").to_owned();
    for (down, new) in [(false, "other"), (true, "third")] {
        let old = veth("web");
        if down {
            lab.kill_agent();
        }
        lab.node.ip(&["link", "set", &old, "name", new]);
        if down {
            lab.start_agent();
        }
        eventually("the agent knows the new name", || (veth("web") == new).then_some(()));
        assert_eq!(lab.json(&["endpoint", "get", "web"])["state"]["state"], "ready");
        guarded(web.at(7), web.at(8));
        let attached = lab.json(&["status"])["programs"].to_string();
        assert!(attached.contains(new) && !attached.contains(&old), "{attached}");
    }
    lab.node.ip(&["link", "set", "uplink", "name", "uplink9"]);
    eventually("the uplink's new name is known", || {
        let attached = lab.json(&["status"])["programs"].to_string();
        (attached.contains("uplink9") && !attached.contains("\"uplink\"")).then_some(())
    });
}

/// Somebody has removed pins, some or all: the next agent makes what is missing, and policy holds again.
#[test]
fn pins_that_are_gone_are_made_again() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let rules = http_port(80, "{path: /a.*}");
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {rules}}}]"),
    ));
    let status = |path| client.ns.curl(Duration::from_secs(3), &url(web.at(80)[0], path), &[]).status;
    for gone in ["maps/policy", "maps/steered", "maps/listeners", ""] {
        let gone = lab.pin_dir().join("v1").join(gone);
        lab.kill_agent();
        let removed =
            if gone.is_dir() { std::fs::remove_dir_all(&gone) } else { std::fs::remove_file(&gone) };
        removed.expect("pins are removed");
        lab.start_agent();
        eventually("what is allowed passes", || (status("/a") == 200).then_some(()));
        assert_eq!(status("/b"), 403, "without {}", gone.display());
    }
}
