//! Each part goes on without the other, and where it cannot, nothing passes.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    netlab::{
        LIMIT, Lab,
        clients::{KeepAlive, SILENCE, ask, echoes},
        eventually,
    },
    policies::{cnp, documents, http_port, port},
};

/// HTTP rules at port 80, plain TCP at port 7, nothing else, and only from `client`.
fn policy() -> String {
    let peers = "fromEndpoints: [{matchLabels: {app: client}}]";
    let (l7, l4) = (http_port(80, "{path: /a}"), port(7, "TCP"));
    documents(&[
        cnp("l7", "web", &format!("ingress: [{{{peers}, {l7}}}]")),
        cnp("l4", "web", &format!("ingress: [{{{peers}, {l4}}}]")),
    ])
}

#[test]
fn the_agent_dies_and_everything_goes_on() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7", "echo:8"]);
    lab.apply(&policy());
    let proxies = lab.proxies();
    assert_eq!(proxies.len(), 1, "one proxy serves");
    let mut open: Vec<_> = web
        .at(80)
        .into_iter()
        .zip(web.at(7))
        .map(|(http, tcp)| {
            let mut requests = KeepAlive::connect(&lab, &client.ns, http);
            let answer = requests.request("GET", "/a");
            assert!(answer.starts_with("200 "), "{answer}");
            let mut stream = client.ns.connect(tcp, LIMIT).expect("a connection");
            assert!(echoes(&mut stream, "before", LIMIT).expect("an echo"));
            (requests, answer, stream)
        })
        .collect();
    let mut check = |when: &str| {
        for (requests, answer, stream) in &mut open {
            assert_eq!(requests.request("GET", "/a"), *answer, "{when}");
            assert_eq!(requests.request("GET", "/b"), answer.replacen("200", "403", 1), "{when}");
            assert!(echoes(stream, when, LIMIT).expect("an echo"), "{when}");
        }
        for ip in web.addresses() {
            client.ns.expect_status(200, (ip, 80).into(), "/a", &[]);
            client.ns.expect_status(403, (ip, 80).into(), "/b", &[]);
            client.ns.expect_open((ip, 7).into());
            client.ns.expect_silence((ip, 8).into());
            foe.ns.expect_silence((ip, 80).into());
        }
    };
    check("with the agent");
    lab.kill_agent();
    assert_eq!(lab.proxies(), proxies, "the proxy outlives its agent");
    check("without an agent");
    lab.start_agent();
    check("with the next agent");
    // The new agent is in charge: it changes what is in force.
    lab.apply(&cnp("l7", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /b}"))));
    for ip in web.addresses() {
        client.ns.expect_status(403, (ip, 80).into(), "/a", &[]);
        client.ns.expect_status(200, (ip, 80).into(), "/b", &[]);
    }
    for (requests, answer, _) in &mut open {
        assert_eq!(requests.request("GET", "/b"), *answer, "the connection was never cut");
    }
}

#[test]
fn an_agent_that_is_told_to_end_leaves_policy_in_force() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.serve(&web.ns, &["echo:7", "echo:8"]);
    lab.apply(&policy());
    lab.stop_agent();
    for ip in web.addresses() {
        client.ns.expect_open((ip, 7).into());
        client.ns.expect_silence((ip, 8).into());
        foe.ns.expect_silence((ip, 7).into());
    }
}

#[test]
fn without_a_proxy_l7_fails_closed_and_l4_goes_on() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7"]);
    lab.apply(&policy());
    let mut proxied: Vec<_> = web
        .at(80)
        .into_iter()
        .map(|to| {
            let mut stream = client.ns.connect(to, LIMIT).expect("a connection");
            assert_eq!(ask(&mut stream, "/a", LIMIT).expect("an answer"), Some(200));
            stream
        })
        .collect();
    let mut direct: Vec<_> =
        web.at(7).into_iter().map(|to| client.ns.connect(to, LIMIT).expect("a connection")).collect();

    // Its supervisor must not start it again yet.
    let agent = Pid::from_raw(lab.agent_pid());
    kill(agent, Signal::SIGSTOP).expect("stop the agent");
    let before = lab.proxies();
    for pid in &before {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("kill the proxy");
    }
    eventually("the proxy is gone", || lab.proxies().iter().all(|pid| !before.contains(pid)).then_some(()));
    for to in web.at(80) {
        client.ns.expect_silence(to);
    }
    for stream in &mut proxied {
        // Reset or silent, but never past the proxy.
        let answer = ask(stream, "/a", SILENCE);
        assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
    }
    for (stream, to) in direct.iter_mut().zip(web.at(7)) {
        assert!(echoes(stream, "no proxy needed", LIMIT).expect("an echo"));
        client.ns.expect_open(to);
    }

    kill(agent, Signal::SIGCONT).expect("let the agent go on");
    eventually("a new proxy serves", || {
        let reply = client.ns.curl(SILENCE, &crate::netlab::clients::url(web.at(80)[0], "/a"), &[]);
        (reply.status == 200).then_some(())
    });
    for to in web.at(80) {
        client.ns.expect_status(200, to, "/a", &[]);
        client.ns.expect_status(403, to, "/b", &[]);
    }
    assert!(lab.proxies().iter().all(|pid| !before.contains(pid)));
}

#[test]
fn the_agent_starts_a_proxy_that_died_again() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&policy());
    for _ in 0..2 {
        let before = lab.proxies();
        kill(Pid::from_raw(before[0]), Signal::SIGKILL).expect("kill the proxy");
        eventually("another proxy serves", || {
            let changed = lab.proxies().iter().any(|pid| !before.contains(pid));
            (changed && lab.proxy_is_ready()).then_some(())
        });
        for to in web.at(80) {
            client.ns.expect_status(200, to, "/a", &[]);
            client.ns.expect_status(403, to, "/b", &[]);
        }
    }
    assert_eq!(lab.json(&["status"])["proxy"]["restarts"], 2);
}
