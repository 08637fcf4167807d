//! Proxies that are replaced, killed or stopped.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::under_load::{Chance, Node, policy, repeated, show};
use crate::{
    netlab::{
        LIMIT, Lab,
        clients::{ask, echoes},
        eventually,
        process::tektin_path,
        workload::Workload,
    },
    policies::{cnp, http_port},
};

/// The proxies that serve and those that drain, as the agent sees them.
fn proxies(lab: &Lab) -> (i64, usize) {
    let status = lab.json(&["status"]);
    let proxy = &status["proxy"];
    (proxy["pid"].as_i64().unwrap_or(0), proxy["draining"].as_array().map_or(0, Vec::len))
}

/// Waits until one proxy serves, other than `old`, and no other is left.
fn only_one_but(lab: &Lab, old: i64) -> i64 {
    eventually("the old proxies have ended", || {
        let (pid, draining) = proxies(lab);
        (pid != old && pid != 0 && draining == 0 && lab.proxies() == [pid as i32]).then_some(pid)
    })
}

/// A server that takes connections and never answers.
fn silent_server(at: &Workload) -> std::net::TcpListener {
    at.ns.inside(|| std::net::TcpListener::bind((at.v4, 82))).expect("a listener")
}

#[test]
fn a_new_proxy_takes_over_and_no_connection_notices() {
    let node = Node::new(&["--proxy-drain-seconds", "9"]);
    let lab = &node.lab;
    let mut chance = Chance::new();
    let before = node.drops();
    let _silent = silent_server(&node.web);
    let mut waiting = node.client.ns.connect((node.web.v4, 82).into(), LIMIT).expect("a connection");
    let seen = node.under_load(|| {
        let (first, _) = proxies(lab);
        // In flight, without an end.
        std::io::Write::write_all(&mut waiting, b"GET /a/waits HTTP/1.1\r\nHost: lab\r\n\r\n")
            .expect("a request");
        sleep(Duration::from_millis(300));

        // An operator asks for it, twice in a row.
        let replaced = lab.json(&["proxy", "replace"]);
        assert_eq!(replaced["old"], first);
        let again = lab.json(&["proxy", "replace"]);
        assert_eq!(again["old"], replaced["new"]);
        let (serving, draining) = proxies(lab);
        assert_eq!((again["new"].as_i64(), draining > 0), (Some(serving), true));
        // Those that drain judge by every change, too.
        lab.apply(&policy(1));

        // An agent of another binary finds a proxy of the old one.
        let upgraded = lab.dir().join("tektin-new");
        std::fs::copy(tektin_path(), &upgraded).expect("a copy of the binary");
        lab.upgrade(&upgraded);
        lab.kill_agent();
        lab.start_agent();
        let third = only_one_but(lab, serving);
        let runs = std::fs::read_link(format!("/proc/{third}/exe")).expect("its binary");
        assert_eq!(runs, upgraded);

        // Agents that die while they replace: the next one knows what to do.
        let mut last = third;
        for _ in 0..4 {
            std::thread::scope(|scope| {
                scope.spawn(|| lab.tektin(&["proxy", "replace"]));
                sleep(chance.up_to(400));
                lab.kill_agent();
            });
            lab.start_agent();
            last = eventually("one proxy serves", || Some(proxies(lab).0).filter(|pid| *pid != 0));
        }
        // All have ended but the last one, and what was in flight has been cut.
        let last = eventually("the rest has drained", || {
            (lab.proxies() == [last as i32] || lab.proxies().len() == 1).then(|| proxies(lab).0)
        });
        assert_eq!(lab.proxies(), [last as i32]);
    });
    show(&seen);
    println!("SYNs repeated: {}; dropped: {:?}", repeated(&node.client.ns), node.drops());
    assert_eq!(seen.failed, Vec::<String>::new());
    assert!(seen.closed > 0, "no kept connection was told to end");
    node.check_server(&seen);
    // The one that waited was cut, and its record says why.
    waiting.set_read_timeout(Some(LIMIT)).expect("a time limit");
    let end = std::io::Read::read(&mut waiting, &mut [0; 64]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    let shown = lab.tektin(&["observe", "--last", "100000", "--port", "82", "--output", "json"]);
    assert!(shown.success().stdout.contains("time was up that a proxy has to drain"), "{}", shown.stdout);
    assert_eq!(node.drops(), before);
}

#[test]
fn a_new_proxy_that_does_not_come_up_leaves_the_old_one() {
    let node = Node::new(&[]);
    let lab = &node.lab;
    let (serving, _) = proxies(lab);
    let broken = lab.dir().join("tektin-broken");
    std::fs::copy(tektin_path(), &broken).expect("a copy of the binary");
    lab.upgrade(&broken);
    lab.kill_agent();
    lab.start_agent();
    let serving = only_one_but(lab, serving);
    // What is installed now is no proxy. (A rename: the agent runs the file that was there.)
    let useless = lab.dir().join("useless");
    std::fs::write(&useless, "#!/bin/sh\necho this is no proxy\nexit 3\n").expect("a script");
    std::fs::set_permissions(&useless, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a script");
    std::fs::rename(&useless, &broken).expect("an upgrade");
    let refused = lab.tektin(&["proxy", "replace"]);
    assert!(refused.exit(1).stderr.contains("this is no proxy"), "{}", refused.stderr);
    assert_eq!(proxies(lab), (serving, 0));
    for to in node.web.at(80) {
        node.client.ns.expect_status(200, to, "/a/b", &[]);
        node.client.ns.expect_status(403, to, "/b", &[]);
    }
}

#[test]
fn a_proxy_that_is_killed_lets_nothing_pass_and_is_back_soon() {
    let node = Node::new(&[]);
    let lab = &node.lab;
    let mut direct: Vec<_> = node
        .web
        .at(7)
        .into_iter()
        .map(|to| node.client.ns.connect(to, LIMIT).expect("a connection"))
        .collect();
    let mut gaps = Vec::new();
    let seen = node.under_load(|| {
        for _ in 0..3 {
            let (pid, _) = proxies(lab);
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("kill the proxy");
            let killed = Instant::now();
            for stream in &mut direct {
                assert!(echoes(stream, "no proxy needed", LIMIT).expect("an echo"));
            }
            let to = node.web.at(80)[0];
            eventually("L7 is back", || {
                // A short limit: the kernel repeats a SYN after a second only.
                let mut stream = node.client.ns.connect(to, Duration::from_millis(200)).ok()?;
                (ask(&mut stream, "/a/probe", LIMIT).ok()?? == 200).then_some(())
            });
            gaps.push(killed.elapsed());
            eventually("the agent knows", || Some(proxies(lab).0).filter(|new| *new != pid && *new != 0));
            // The clients' next SYNs come after a second.
            sleep(Duration::from_millis(1500));
        }
    });
    show(&seen);
    println!("L7 was back after {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(10)), "{gaps:?}");
    // What was in flight is lost, and all that failed failed closed.
    let log = node.nginx.log();
    let passed: Vec<_> = log.lines().filter(|line| line.contains(" /b/")).collect();
    assert!(passed.is_empty(), "{passed:?}");
    assert!(seen.failed.iter().all(|failure| !failure.contains("answered with")), "{:?}", seen.failed);
    assert!(seen.requests() > 50, "only {} requests", seen.requests());
}

/// A proxy that was stopped over a change of policy, which it heard of neither from the agent that was killed
/// nor from the next one, does not judge by the old policy when it goes on.
#[test]
fn a_proxy_that_sleeps_through_a_change_judges_no_request_by_the_old_policy() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let allow = |path: &str| {
        let rules = http_port(80, &format!("{{path: {path}}}"));
        let text = cnp(
            "web",
            "web",
            &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {rules}}}]"),
        );
        std::fs::write(lab.policy_dir().join("web.yaml"), text).expect("a policy file");
    };
    let in_force = |path: &str| {
        let finished = lab.tektin(&["policy", "get", "--output", "json"]);
        (finished.code == Some(0) && finished.stdout.contains(path)).then_some(())
    };
    allow("/before");
    eventually("the first policy is in force", || in_force("/before"));
    let mut connection = client.ns.connect(web.at(80)[0], LIMIT).expect("a connection");
    let mut request = || ask(&mut connection, "/before", LIMIT);
    let first = request();
    assert!(matches!(first, Ok(Some(status)) if status != 403), "{first:?}");

    let proxies = lab.proxies();
    // One that was ended meanwhile is no error.
    let signal = |signal| proxies.iter().for_each(|pid| _ = kill(Pid::from_raw(*pid), signal));
    lab.kill_agent();
    signal(Signal::SIGSTOP);
    allow("/after");
    lab.spawn_agent();
    eventually("the second policy is in force", || in_force("/after"));
    let answer = std::thread::scope(|scope| {
        let answer = scope.spawn(request);
        // It waits in the proxy's socket.
        sleep(Duration::from_millis(300));
        signal(Signal::SIGCONT);
        answer.join().expect("an answer, or none")
    });
    assert!(matches!(answer, Ok(Some(403) | None) | Err(_)), "{answer:?}");
}
