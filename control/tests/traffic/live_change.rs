//! A change of policy reaches what is already open.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
};

use crate::{
    netlab::{
        LIMIT, Lab,
        clients::{KeepAlive, SILENCE, ask, echoes, url},
        eventually,
        workload::Workload,
    },
    policies::{cnp, http_port, port},
};

#[test]
fn the_next_request_on_an_open_connection_meets_the_new_policy() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let policy = |path: &str| {
        cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, &format!("{{path: {path}}}"))))
    };
    lab.apply(&policy("/a"));
    for to in web.at(80) {
        lab.apply(&policy("/a"));
        let mut connection = KeepAlive::connect(&lab, &client.ns, to);
        let allowed = connection.request("GET", "/a");
        assert!(allowed.starts_with("200 "), "{allowed}");
        let denied = allowed.replacen("200", "403", 1);
        // The same local port in every answer: it is one connection from the first to the last.
        assert_eq!(connection.request("GET", "/b"), denied);
        lab.apply(&policy("/b"));
        assert_eq!(connection.request("GET", "/a"), denied);
        assert_eq!(connection.request("GET", "/b"), allowed);
        lab.apply(&policy("/a"));
        assert_eq!(connection.request("GET", "/a"), allowed);
        assert_eq!(connection.request("GET", "/b"), denied);
    }
}

/// Opens a connection to an echo server and sees it work.
fn talking(from: &Workload, to: SocketAddr) -> TcpStream {
    let mut stream = from.ns.connect(to, LIMIT).expect("a connection");
    assert!(echoes(&mut stream, "first words", LIMIT).expect("an echo"), "{to}");
    stream
}

#[test]
fn an_established_flow_ends_when_its_policy_does() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.serve(&web.ns, &["echo:80"]);
    let rule = port(80, "TCP");
    let all = cnp("web", "web", &format!("ingress: [{{{rule}}}]"));
    let one = cnp(
        "web",
        "web",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {rule}}}]"),
    );
    for to in web.at(80) {
        lab.apply(&all);
        let mut kept = talking(&client, to);
        let mut lost = talking(&foe, to);
        lab.apply(&one);
        assert!(echoes(&mut kept, "still here", LIMIT).expect("an echo"), "{to}");
        assert!(!echoes(&mut lost, "anybody?", SILENCE).expect("silence, no reset"), "{to}");
        // Allowed again, it goes on where it stood: TCP sends once more what was dropped.
        lab.apply(&all);
        lost.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let mut back = [0; 8];
        lost.read_exact(&mut back).expect("what was dropped arrives after all");
        assert_eq!(&back, b"anybody?");
    }
}

#[test]
fn a_flow_that_now_needs_the_proxy_is_ended() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let l4 = cnp("web", "web", &format!("ingress: [{{{}}}]", port(80, "TCP")));
    let l7 = cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /a}")));
    for to in web.at(80) {
        lab.apply(&l4);
        let mut direct = client.ns.connect(to, LIMIT).expect("a connection");
        assert_eq!(ask(&mut direct, "/b", LIMIT).expect("an answer"), Some(200));
        lab.apply(&l7);
        // Nobody has read its bytes from the start, so nobody can judge what follows: not even a
        // request that the rules allow.
        assert_eq!(ask(&mut direct, "/a", SILENCE).expect("silence, no reset"), None, "{to}");
        let mut new = client.ns.connect(to, LIMIT).expect("a new connection is proxied");
        assert_eq!(ask(&mut new, "/a", LIMIT).expect("an answer"), Some(200));
        assert_eq!(ask(&mut new, "/b", LIMIT).expect("an answer"), Some(403));
        // The other way round: a proxied connection stays one, and every request passes.
        lab.apply(&l4);
        assert_eq!(ask(&mut new, "/b", LIMIT).expect("an answer"), Some(200));
    }
}

#[test]
fn a_proxied_connection_that_nothing_allows_any_more_ends_at_once() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["http:80"]);
    let policy = |peer: &str| {
        let from = format!("fromEndpoints: [{{matchLabels: {{app: {peer}}}}}]");
        cnp("web", "web", &format!("ingress: [{{{from}, {}}}]", http_port(80, "{path: /.*}")))
    };
    for to in web.at(80) {
        lab.apply(&policy("client"));
        let mut idle = client.ns.connect(to, LIMIT).expect("a connection");
        assert_eq!(ask(&mut idle, "/a", LIMIT).expect("an answer"), Some(200));
        // More than all buffers on the way hold, and nobody reads it.
        let mut loading = client.ns.connect(to, LIMIT).expect("a connection");
        std::io::Write::write_all(&mut loading, b"GET /big/100000000 HTTP/1.1\r\nHost: lab\r\n\r\n")
            .expect("a request");
        loading.set_read_timeout(Some(LIMIT)).expect("a time limit");
        loading.read_exact(&mut [0; 1000]).expect("the beginning of the download");
        lab.apply(&policy("nobody"));
        // Not silence: both are told, although no packet passes any more.
        for (stream, what) in [(&mut idle, "idle"), (&mut loading, "loading")] {
            stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
            let end = std::io::copy(stream, &mut std::io::sink());
            let told = match &end {
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            };
            assert!(told, "{what} to {to}: {end:?}");
        }
    }
    eventually("each has its record", || {
        let shown = lab.tektin(&["observe", "--last", "100", "--output", "json"]);
        let ended = shown.success().stdout.matches("the policy in force now denies this connection").count();
        (ended == 4).then_some(())
    });
}

#[test]
fn policies_from_the_directory_come_and_go() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let file = lab.policy_dir().join("web.yaml");
    let status = |to| client.ns.curl(LIMIT, &url(to, "/b"), &[]).status;
    let to = web.at(80)[0];
    assert_eq!(status(to), 200);
    let text = cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /a}")));
    std::fs::write(&file, text).expect("a policy file");
    eventually("the file is in force", || (status(to) == 403).then_some(()));
    std::fs::remove_file(&file).expect("the policy file goes");
    eventually("the file is no more in force", || (status(to) == 200).then_some(()));
}
