//! Commands that ask an agent.

use std::{io::Read as _, process::Stdio};

use serde_json::{Value, json};

use super::{
    agent::{Agent, Answer, Asked},
    ask, run, tektin,
};

fn record(rule: &str) -> Value {
    let end = |name: &str, ip: &str, port: u16| {
        json!({"identity": 256, "labels": ["k8s:app=web"], "endpoint": 1, "name": name,
               "namespace": "demo", "ip": ip, "port": port})
    };
    json!({
        "time": "2026-01-31T10:00:00Z", "node": "n", "layer": "l7", "verdict": "denied",
        "source": end("client", "10.0.0.1", 40000), "destination": end("web", "10.0.0.2", 80),
        "l4": {"protocol": "tcp"},
        "http": {"method": "GET", "path": "/x", "host": "web", "protocol": "HTTP/1.1", "status": 403},
        "egress": {"action": "none"}, "ingress": {"action": "deny", "rule": rule, "rule_id": 7},
        "rule": rule, "revision": 1, "length": 0,
    })
}

fn endpoint() -> Value {
    json!({
        "id": 3, "name": "web", "namespace": "demo", "labels": ["k8s:app=web"], "identity": 256,
        "ipv4": "10.244.0.5", "mac": "02:00:00:00:00:01", "veth": "tek3", "ifindex": 9,
        "netns": "/run/netns/web",
        "policy": {"documents": [], "ingress": "open", "egress": "enforced", "revision": 1},
        "state": {"state": "ready"},
    })
}

#[test]
fn without_an_agent_it_says_where_it_looked_and_what_to_do() {
    for args in [&["status"][..], &["endpoint", "list"], &["observe"], &["policy", "get"]] {
        let args = [args, &["--socket", "/nonexistent/agent.sock"]].concat();
        let finished = run(&args).expect(1);
        for part in ["/nonexistent/agent.sock", "tektin agent", "TEKTIN_SOCKET"] {
            assert!(finished.stderr.contains(part), "{args:?}: {}", finished.stderr);
        }
    }
}

#[test]
fn a_refusal_is_shown_with_its_details() {
    let agent = Agent::answering_json(409, &json!({"error": "no", "details": ["because", "and so"]}));
    let finished = ask(&agent.socket(), &["identity", "list"]).expect(1);
    assert_eq!(finished.stderr, "error: no\n  because\n  and so\n");
    assert_eq!(finished.stdout, "");
}

#[test]
fn an_endpoint_is_asked_for_as_it_was_described() {
    let agent = Agent::answering_json(201, &endpoint());
    let args = [
        "endpoint",
        "add",
        "web",
        "--netns",
        "web",
        "--namespace",
        "demo",
        "--label",
        "app=web",
        "-l",
        "tier=x",
        "--ip",
        "10.244.0.5",
        "--named-port",
        "HTTP=80",
        "--veth",
        "veth7",
    ];
    let finished = ask(&agent.socket(), &args).expect(0);
    assert!(finished.stdout.contains("10.244.0.5") && finished.stdout.contains("ready"), "{finished:?}");
    assert!(!finished.stdout.contains('\x1b'), "colour without a terminal");
    let body = json!({
        "name": "web", "netns": "web", "namespace": "demo", "labels": ["app=web", "tier=x"],
        "ips": ["10.244.0.5"], "veth": "veth7", "named_ports": {"http": "80/TCP"},
    });
    assert_eq!(agent.asked(), [Asked { line: "POST /v1/endpoints".into(), body }]);

    let relative = ["endpoint", "add", "web", "--netns", "./here", "--label", "a=b"];
    ask(&agent.socket(), &relative).expect(0);
    let netns = agent.asked()[1].body["netns"].as_str().expect("text").to_owned();
    assert!(netns.starts_with('/') && netns.ends_with("/here"), "{netns}");
}

#[test]
fn lists_have_three_forms() {
    let agent = Agent::answering_json(200, &json!([endpoint()]));
    let table = ask(&agent.socket(), &["endpoint", "list"]).expect(0).stdout;
    assert!(table.starts_with("ID ") && table.lines().count() == 2, "{table}");
    let compact = ask(&agent.socket(), &["endpoint", "list", "-o", "compact"]).expect(0).stdout;
    assert_eq!(compact, "3\tdemo\tweb\t256\t10.244.0.5\t-\topen\tenforced\tready\tapp=web\n");
    let json: Value =
        serde_json::from_str(&ask(&agent.socket(), &["endpoint", "list", "-o", "json"]).expect(0).stdout)
            .expect("JSON");
    assert_eq!(json[0]["ipv4"], "10.244.0.5");
}

#[test]
fn names_are_encoded_into_the_path() {
    let agent = Agent::answering(Answer::Once(204, String::new()));
    ask(&agent.socket(), &["endpoint", "delete", "demo/we b"]).expect(0);
    assert_eq!(agent.asked()[0].line, "DELETE /v1/endpoints/demo%2Fwe%20b");
}

#[test]
fn observe_sends_its_filters_and_shows_what_comes() {
    let lines = format!("{}\n{}\n", record("RULE one"), json!({"lost": 3, "at": "kernel"}));
    let agent = Agent::answering(Answer::Once(200, lines));
    let args = [
        "observe",
        "--last",
        "5",
        "--verdict",
        "denied",
        "--port",
        "80",
        "--path",
        "/x.*",
        "--ip",
        "10.0.0.1",
    ];
    let finished = ask(&agent.socket(), &args).expect(0);
    for part in ["demo/client", "demo/web:80", "GET /x 403", "denied", "RULE one"] {
        assert!(finished.stdout.contains(part), "{part}: {}", finished.stdout);
    }
    assert!(finished.stderr.contains("3 records lost in the kernel"), "{finished:?}");
    let body = &agent.asked()[0].body;
    assert_eq!((&body["last"], &body["follow"]), (&json!(5), &json!(false)));
    let filter = &body["filter"];
    assert_eq!((&filter["verdict"], &filter["port"]), (&json!(["denied"]), &json!([80])));
    assert_eq!((&filter["path"], &filter["ip"]), (&json!(["/x.*"]), &json!(["10.0.0.1/32"])));

    let json = ask(&agent.socket(), &["observe", "-o", "json"]).expect(0).stdout;
    let shown: Value = serde_json::from_str(json.trim()).expect("one JSON line");
    assert_eq!((&shown["rule"], &shown["http"]["status"]), (&json!("RULE one"), &json!(403)));
    assert_eq!(agent.asked()[1].body["last"], 20);
}

#[test]
fn observe_ends_quietly_when_nobody_reads_any_more() {
    let agent = Agent::answering(Answer::Endless(format!("{}\n", record("RULE"))));
    let mut child = tektin(&["observe", "--follow"])
        .env("TEKTIN_SOCKET", agent.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tektin starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    // Live lines come out as they come in, not when a buffer is full.
    stdout.read_exact(&mut [0; 100]).expect("output");
    drop(stdout);
    let output = child.wait_with_output().expect("tektin ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn an_agent_that_breaks_off_is_a_failure() {
    let agent = Agent::answering(Answer::Once(200, "{\"time".into()));
    let finished = ask(&agent.socket(), &["observe"]).expect(1);
    assert!(finished.stderr.contains("broke off"), "{finished:?}");
    let finished = ask(&agent.socket(), &["status"]).expect(1);
    assert!(finished.stderr.contains("not understood"), "{finished:?}");
}

#[test]
fn documents_are_sent_as_they_are() {
    let result = json!({"revision": 2, "documents": [
        {"document": "CiliumNetworkPolicy default/a", "change": "created", "endpoints": 1,
         "warnings": ["spec.ingress: selects nobody"]}]});
    let agent = Agent::answering_json(200, &result);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, "kind: X # kept\n").expect("a file");
    let finished = ask(&agent.socket(), &["policy", "apply", &file.to_string_lossy()]).expect(0);
    assert!(finished.stdout.contains("created"), "{finished:?}");
    assert!(finished.stderr.contains("warning: CiliumNetworkPolicy default/a: spec.ingress: selects nobody"));
    let source = json!({"name": file.to_string_lossy(), "text": "kind: X # kept\n"});
    assert_eq!(agent.asked()[0].body, json!({"sources": [source]}));

    ask(&agent.socket(), &["policy", "delete", "--name", "a"]).expect(0);
    ask(&agent.socket(), &["policy", "delete", "default/a", "--kind", "CiliumNetworkPolicy"]).expect(0);
    let lines: Vec<_> = agent.asked().into_iter().skip(1).map(|asked| asked.line).collect();
    let second = "DELETE /v1/policies?kind=CiliumNetworkPolicy&namespace=default&name=a";
    assert_eq!(lines, ["DELETE /v1/policies?name=a", second]);
}

#[test]
fn explain_asks_and_shows_why() {
    let direction = |action: &str, rule: &str| json!({"action": action, "rule": rule, "others": []});
    let answer = json!({
        "from": {"name": "client", "identity": 256, "labels": []},
        "to": {"name": "web", "identity": 257, "labels": []},
        "port": "80/TCP", "verdict": "deny", "rule": "default deny (X)",
        "egress": direction("none", "no policy"),
        "ingress": {"action": "deny", "rule": "default deny (X)",
                    "others": [{"rule": "X spec.ingress[0]", "why": "another method"}]},
        "revision": 4,
    });
    let agent = Agent::answering_json(200, &answer);
    let args =
        ["policy", "explain", "--from", "client", "--to", "web", "--port", "80/TCP", "--method", "PUT"];
    let finished = ask(&agent.socket(), &args).expect(0);
    for part in ["deny", "default deny (X)", "X spec.ingress[0]", "another method", "no policy"] {
        assert!(finished.stdout.contains(part), "{part}: {}", finished.stdout);
    }
    let http = json!({"method": "PUT", "path": "/", "host": "", "headers": {}});
    let body = json!({"from": "client", "to": "web", "port": "80/TCP", "http": http});
    assert_eq!(agent.asked()[0].body, body);
    let ends = ["policy", "explain", "--from", "client", "--to", "web", "--port", "80/TCP"];
    ask(&agent.socket(), &[&ends[..], &["--grpc", "shop.Orders/Get"]].concat()).expect(0);
    let headers = json!({"content-type": "application/grpc"});
    let call = json!({"method": "POST", "path": "/shop.Orders/Get", "host": "", "headers": headers});
    assert_eq!(agent.asked()[1].body["http"], call);
    for (call, reason) in
        [("shop.Orders", "no call"), ("shop.*/Get", "several calls"), ("a b/Get", "no service")]
    {
        let refused = ask(&agent.socket(), &[&ends[..], &["--grpc", call]].concat()).expect(1);
        assert!(refused.stderr.contains(reason), "{call}: {}", refused.stderr);
    }
    assert_eq!(agent.asked().len(), 2);
}
