//! Many things change at once while traffic goes on: endpoints, identities, prefixes, documents, proxies.
//! What all versions allow always passes, what all deny never does, and nothing is left behind.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use tektin_loader::{Datapath, LoadOptions};

use crate::{
    netlab::{
        LIMIT, Lab, WORLD_V4, WORLD_V6,
        clients::{Reach, ask, echoes},
        eventually, load,
        workload::Workload,
    },
    policies::{cnp, documents, http_port, port},
};

const CLIENT: &str = "fromEndpoints: [{matchLabels: {app: client}}]";

/// What holds throughout: the client may `/a…` on port 80 and port 7; who else is denied.
fn base() -> String {
    let rules = http_port(80, "{path: /a.*}");
    cnp("base", "web", &format!("ingress: [{{{CLIENT}, {rules}}}, {{{CLIENT}, {}}}]", port(7, "TCP")))
}

/// How many entries the policy maps have.
fn entries(lab: &Lab) -> BTreeMap<String, u64> {
    let maps = lab.json(&["map", "list"]);
    let of = |map: &serde_json::Value| {
        let name = map["name"].as_str()?;
        let counted = ["policy", "peer_class", "ipcache", "endpoints"].contains(&name);
        counted.then(|| (name.to_owned(), map["entries"].as_u64().expect("a count")))
    };
    maps.as_array().expect("a list").iter().filter_map(of).collect()
}

#[test]
fn naming_a_peers_prefix_elsewhere_cuts_no_connection() {
    let lab = Lab::new();
    let (web, other) = (lab.workload("web"), lab.workload("other"));
    lab.nginx(&web.ns);
    lab.nginx(&lab.world);
    lab.serve(&web.ns, &["echo:7"]);
    lab.apply(&documents(&[
        cnp(
            "in",
            "web",
            &format!("ingress: [{{{}}}, {{{}}}]", http_port(80, "{path: /a.*}"), port(7, "TCP")),
        ),
        cnp("out", "other", &format!("egress: [{{toEntities: [world], {}}}]", http_port(80, "{path: /a.*}"))),
    ]));
    let world = [WORLD_V4, WORLD_V6].map(|ip| std::net::SocketAddr::new(ip.parse().expect("IP"), 80));
    let mut proxied: Vec<TcpStream> =
        web.at(80).into_iter().map(|to| lab.world.connect(to, LIMIT).expect("a connection")).collect();
    proxied.extend(world.map(|to| other.ns.connect(to, LIMIT).expect("a connection")));
    let mut plain: Vec<TcpStream> =
        web.at(7).into_iter().map(|to| lab.world.connect(to, LIMIT).expect("a connection")).collect();
    let mut check = |when: &str| {
        for stream in &mut proxied {
            let peer = stream.peer_addr();
            for (path, status) in [("/a", 200), ("/b", 403)] {
                let answer = ask(stream, path, Duration::from_secs(5));
                assert_eq!(answer.ok().flatten(), Some(status), "{when}: {path} on {peer:?}");
            }
        }
        for stream in &mut plain {
            assert!(echoes(stream, when, LIMIT).expect("an echo"), "{when}");
        }
    };
    check("before");
    // About a workload that does not exist.
    let named =
        cnp("named", "nobody", &format!("ingress: [{{fromCIDR: [{WORLD_V4}/32, \"{WORLD_V6}/128\"]}}]"));
    for _ in 0..2 {
        lab.apply(&named);
        check("with their prefixes named");
        lab.tektin(&["policy", "delete", "--name", "named"]).success();
        check("with nothing named any more");
    }
}

fn churn_endpoints(lab: &Lab, number: usize, rounds: usize) {
    let namespaces = [0, 1].map(|n| lab.namespace(&format!("churn{number}-{n}")));
    for round in 0..rounds {
        let name = format!("w{number}-{round}");
        let netns = &namespaces[round % 2];
        let label = format!("app=w{}", round % 3);
        lab.tektin(&["endpoint", "add", &name, "--netns", netns.name(), "--label", &label]).success();
        lab.tektin(&["endpoint", "delete", &name]).success();
    }
}

fn churn_documents(lab: &Lab, rounds: usize) {
    for round in 0..rounds {
        let n = round % 5;
        let peers = format!("fromCIDR: [198.51.{n}.0/24, \"2001:db8:{n}::/48\"]");
        let more = cnp(
            "api",
            "web",
            &format!(
                "ingress: [{{fromEndpoints: [{{matchLabels: {{app: w{n}}}}}], {}}}, {{{peers}, {}}}]",
                port(9000 + n as u16, "TCP"),
                http_port(80, &format!("{{path: /c{n}}}")),
            ),
        );
        lab.apply(&more);
        if n == 4 {
            lab.tektin(&["policy", "delete", "--name", "api"]).success();
        }
    }
    lab.tektin(&["policy", "delete", "--name", "api"]);
}

fn churn_files(lab: &Lab, is_over: &AtomicBool) {
    let path = lab.policy_dir().join("flip.yaml");
    let hidden = lab.policy_dir().join(".flip.tmp");
    for n in (0..5).cycle() {
        if n == 4 {
            fs::remove_file(&path).expect("remove it");
        } else {
            let deny = format!("ingressDeny: [{{fromEndpoints: [{{matchLabels: {{app: w{n}}}}}]}}]");
            let text = documents(&[
                cnp("file", "web", &deny),
                cnp("first-and-last", "client", "egress: [{toEntities: [all]}]"),
            ]);
            fs::write(&hidden, text).expect("write a policy");
            fs::rename(&hidden, &path).expect("put it in place");
        }
        thread::sleep(Duration::from_millis(20));
        if is_over.load(Ordering::Acquire) && n == 4 {
            break;
        }
    }
}

/// Goes on with an echo server until it is over. Says what went wrong.
fn keep_talking(client: &Workload, web: &Workload, over: &AtomicBool) -> Result<usize, String> {
    let mut rounds = 0;
    let to = web.at(7);
    let mut kept: Vec<TcpStream> =
        to.iter().map(|to| client.ns.connect(*to, LIMIT).expect("a connection")).collect();
    while !over.load(Ordering::Acquire) {
        for (stream, to) in kept.iter_mut().zip(to) {
            let mut fresh = client.ns.connect(to, LIMIT).map_err(|e| format!("connect {rounds}: {e}"))?;
            for stream in [stream, &mut fresh] {
                match echoes(stream, "words", LIMIT) {
                    Ok(true) => {}
                    other => return Err(format!("{to} {rounds}: {other:?}")),
                }
            }
        }
        rounds += 1;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(rounds)
}

#[test]
fn several_changes_at_once_disturb_nobody() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7"]);
    lab.apply(&base());
    let before = entries(&lab);
    let over = AtomicBool::new(false);
    let targets = web.at(80);
    let (seen, talked, slipped) = thread::scope(|scope| {
        let requests = load::start(scope, &client.ns, &targets, &over);
        let talking = scope.spawn(|| keep_talking(&client, &web, &over));
        let slipping = scope.spawn(|| {
            let mut slipped = Vec::new();
            while !over.load(Ordering::Acquire) {
                for to in web.at(7).into_iter().chain(web.at(80)) {
                    if foe.ns.tcp(to, Duration::from_millis(60)) == Reach::Answered {
                        slipped.push(to);
                    }
                }
            }
            slipped
        });
        let changes = [
            scope.spawn(|| churn_endpoints(&lab, 0, 10)),
            scope.spawn(|| churn_endpoints(&lab, 1, 10)),
            scope.spawn(|| churn_documents(&lab, 40)),
            scope.spawn(|| {
                for _ in 0..2 {
                    lab.tektin(&["proxy", "replace"]).success();
                    thread::sleep(Duration::from_millis(200));
                }
            }),
        ];
        let files = scope.spawn(|| churn_files(&lab, &over));
        let ended: Vec<_> = changes.into_iter().map(|change| change.join()).collect();
        over.store(true, Ordering::Release);
        files.join().expect("files change");
        ended.into_iter().for_each(|ended| ended.expect("every change is made"));
        (load::join(requests), talking.join().expect("talks"), slipping.join().expect("tries"))
    });
    assert_eq!(seen.failed, [""; 0], "of {} requests", seen.requests());
    assert!(talked.is_ok_and(|rounds| rounds > 10), "a plain connection was disturbed");
    assert!(slipped.is_empty(), "who is denied got through: {slipped:?}");
    eventually("nothing is left of what came and went", || (entries(&lab) == before).then_some(()));
}

#[test]
fn a_full_map_in_the_middle_of_a_change_leaves_the_last_state_in_force() {
    let lab = Lab::prepared(&[], |lab| {
        let map_max_entries = vec![("policy", 60), ("peer_class", 48), ("ipcache", 40)];
        let options = LoadOptions { map_max_entries, ..LoadOptions::default() };
        lab.node.inside(|| Datapath::open_or_load(&lab.pin_dir(), &options)).expect("the programs load");
    });
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7"]);
    lab.apply(&base());
    let before = entries(&lab);
    let prefixes = |count: usize| -> String {
        let all: Vec<String> = (0..count).map(|n| format!("203.0.{n}.0/24")).collect();
        all.join(", ")
    };
    let open = |from: &str| format!("ingress: [{{{from}}}]");
    let ports = |first: usize| -> String {
        let ports = (0..39).map(|n| format!("{{port: \"{}\", protocol: TCP}}", first + 2 * n));
        format!("{{ports: [{}]}}", ports.collect::<Vec<_>>().join(", "))
    };
    let many =
        format!("toPorts: [{{ports: [{{port: \"7\", protocol: TCP}}]}}, {}, {}]", ports(1), ports(100));
    let stranger = "fromEndpoints: [{matchLabels: {app: foe}}]";
    let others = format!("fromCIDR: [{}]", prefixes(20));
    // Each would let the stranger in if a part of it held.
    let refused = [
        ("ipcache", cnp("more", "web", &open(&format!("{stranger}}}, {{fromCIDR: [{}]", prefixes(60))))),
        ("policy", cnp("more", "web", &open(&many))),
        ("policy", cnp("more", "web", &open(&format!("{stranger}, {many}")))),
        (
            "peer_class",
            documents(&[
                cnp("more", "web", &open(&format!("{stranger}}}, {{{others}"))),
                cnp("more2", "client", &open(&others)),
                cnp("more3", "foe", &open(&others)),
            ]),
        ),
    ];
    let over = AtomicBool::new(false);
    let targets = web.at(80);
    let (seen, talked, slipped) = thread::scope(|scope| {
        let requests = load::start(scope, &client.ns, &targets, &over);
        let talking = scope.spawn(|| keep_talking(&client, &web, &over));
        let slipping = scope.spawn(|| {
            let mut slipped = Vec::new();
            while !over.load(Ordering::Acquire) {
                for to in web.at(7).into_iter().chain(web.at(80)) {
                    if foe.ns.tcp(to, Duration::from_millis(60)) == Reach::Answered {
                        slipped.push(to);
                    }
                }
            }
            slipped
        });
        let mut wrong = Vec::new();
        for (map, text) in refused.iter().cycle().take(3 * refused.len()) {
            let finished = lab.try_apply(text);
            if finished.code != Some(1) || !finished.stderr.contains(&format!("map {map} is full")) {
                wrong.push(format!("{map}: {finished:?}"));
            }
        }
        over.store(true, Ordering::Release);
        assert_eq!(wrong, [""; 0]);
        (load::join(requests), talking.join().expect("talks"), slipping.join().expect("tries"))
    });
    assert_eq!(seen.failed, [""; 0], "of {} requests", seen.requests());
    assert!(talked.is_ok_and(|rounds| rounds > 3), "a plain connection was disturbed");
    assert!(slipped.is_empty(), "who is denied got through: {slipped:?}");
    eventually("nothing is left of what came and went", || (entries(&lab) == before).then_some(()));
}
