//! Every verdict names the document and the rule that decided, in `observe` and in `explain`.

use serde_json::Value;

use crate::{
    netlab::{LIMIT, Lab, eventually, workload::Workload},
    policies::{cnp, documents, http_port, port},
};

fn policies() -> String {
    let peers = "fromEndpoints: [{matchLabels: {app: client}}]";
    let (l7, l4) = (http_port(80, "{method: GET, path: /a}, {method: GET, path: /b}"), port(7, "TCP"));
    documents(&[
        cnp("l7", "web", &format!("ingress: [{{fromEntities: [host]}}, {{{peers}, {l7}}}]")),
        cnp("l4", "web", &format!("ingress: [{{{peers}, {l4}}}]")),
        cnp("no-foes", "web", "ingressDeny: [{fromEndpoints: [{matchLabels: {app: foe}}]}]"),
        cnp(
            "out",
            "client",
            &format!("egress: [{{toEndpoints: [{{}}]}}, {{toEntities: [world], {}}}]", port(443, "TCP")),
        ),
    ])
}

/// A flow, and what must be said of it.
struct Case {
    from: &'static str,
    port: u16,
    path: Option<&'static str>,
    /// `verdict` of the record.
    verdict: &'static str,
    /// `verdict` of the explanation.
    explained: &'static str,
    rule: &'static str,
}

const CASES: &[Case] = &[
    Case {
        from: "client",
        port: 80,
        path: Some("/a"),
        verdict: "forwarded",
        explained: "allow",
        rule: "CiliumNetworkPolicy default/l7 spec.ingress[1].toPorts[0].rules.http[0]",
    },
    Case {
        from: "client",
        port: 80,
        path: Some("/b"),
        verdict: "forwarded",
        explained: "allow",
        rule: "CiliumNetworkPolicy default/l7 spec.ingress[1].toPorts[0].rules.http[1]",
    },
    Case {
        from: "client",
        port: 80,
        path: Some("/c"),
        verdict: "denied",
        explained: "deny",
        rule: "CiliumNetworkPolicy default/l7 spec",
    },
    Case {
        from: "client",
        port: 80,
        path: None,
        verdict: "redirected",
        explained: "redirect",
        rule: "CiliumNetworkPolicy default/l7 spec.ingress[1]",
    },
    Case {
        from: "client",
        port: 7,
        path: None,
        verdict: "forwarded",
        explained: "allow",
        rule: "CiliumNetworkPolicy default/l4 spec.ingress[0]",
    },
    Case { from: "client", port: 8, path: None, verdict: "dropped", explained: "deny", rule: "default deny" },
    Case {
        from: "foe",
        port: 7,
        path: None,
        verdict: "dropped",
        explained: "deny",
        rule: "CiliumNetworkPolicy default/no-foes spec.ingressDeny[0]",
    },
    Case { from: "other", port: 7, path: None, verdict: "dropped", explained: "deny", rule: "default deny" },
];

/// Records that `observe` has, oldest first.
fn records(lab: &Lab, args: &[&str]) -> Vec<Value> {
    let finished = lab.tektin(&[&["observe", "--last", "1000", "--output", "json"], args].concat());
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    finished.success().stdout.lines().map(line).collect()
}

fn is_about(record: &Value, case: &Case, to: std::net::IpAddr) -> bool {
    record["source"]["name"] == case.from
        && record["destination"]["name"] == "web"
        && record["destination"]["ip"] == to.to_string()
        && record["destination"]["port"] == case.port
        && match case.path {
            Some(path) => record["http"]["path"] == path,
            None => record["layer"] == "l4",
        }
}

#[test]
fn observe_names_the_deciding_document_and_rule() {
    let lab = Lab::new();
    let web = lab.workload("web");
    let clients: Vec<Workload> = ["client", "foe", "other"].map(|name| lab.workload(name)).into();
    lab.nginx(&web.ns);
    lab.serve(&web.ns, &["echo:7", "echo:8"]);
    lab.apply(&policies());
    for case in CASES {
        let from = clients.iter().find(|c| c.name == case.from).expect("a client");
        for ip in web.addresses() {
            let to = (ip, case.port).into();
            match (case.path, case.verdict) {
                (Some(path), _) => drop(from.ns.curl(LIMIT, &crate::netlab::clients::url(to, path), &[])),
                (None, "dropped") => from.ns.expect_silence(to),
                (None, _) => from.ns.expect_open(to),
            }
        }
    }
    for case in CASES {
        for ip in web.addresses() {
            let record = eventually("the verdict is on record", || {
                records(&lab, &[]).into_iter().find(|r| is_about(r, case, ip))
            });
            assert_eq!(record["verdict"], case.verdict, "{record:#}");
            let rule = record["rule"].as_str().expect("a rule");
            assert!(rule.contains(case.rule), "{} port {} {:?}: {rule}", case.from, case.port, case.path);
            if case.rule == "default deny" {
                assert!(rule.contains("CiliumNetworkPolicy default/l"), "it says whose: {rule}");
            }
            assert_ne!(record["source"]["identity"], 0, "{record:#}");
            let labels = record["source"]["labels"].to_string();
            assert!(labels.contains(&format!("app={}", case.from)), "{labels}");
            // Both ends' answers are there.
            let egress = if case.from == "client" { "allow" } else { "none" };
            assert_eq!(record["egress"]["action"], egress, "{record:#}");
            if case.from == "client" {
                assert!(
                    record["egress"]["rule"].to_string().contains("default/out spec.egress[0]"),
                    "{record:#}"
                );
            }
        }
    }
    // Filters choose.
    let denied = records(&lab, &["--verdict", "denied"]);
    assert!(!denied.is_empty() && denied.iter().all(|r| r["http"]["path"] == "/c"), "{denied:#?}");
    let dropped = records(&lab, &["--verdict", "dropped", "--from-endpoint", "foe"]);
    assert!(!dropped.is_empty() && dropped.iter().all(|r| r["source"]["name"] == "foe"), "{dropped:#?}");
    assert!(records(&lab, &["--port", "9"]).is_empty());
}

#[test]
fn explain_names_the_same_and_why_the_others_do_not_decide() {
    let lab = Lab::new();
    for name in ["web", "client", "foe", "other"] {
        lab.workload(name);
    }
    lab.apply(&policies());
    for case in CASES {
        let port = format!("{}/TCP", case.port);
        let mut args = vec!["policy", "explain", "--from", case.from, "--to", "web", "--port", &port];
        if let Some(path) = case.path {
            args.extend(["--method", "GET", "--path", path]);
        }
        let said = lab.json(&args);
        assert_eq!(said["verdict"], case.explained, "{said:#}");
        assert!(said["rule"].to_string().contains(case.rule), "{said:#}");
        let others = said["ingress"]["others"].as_array().map_or(0, Vec::len);
        assert!(others > 0, "rules that do not decide are told: {said:#}");
    }
    let outside =
        lab.json(&["policy", "explain", "--from", "client", "--to", "192.0.2.1", "--port", "443/TCP"]);
    assert_eq!(outside["verdict"], "allow", "{outside:#}");
    assert!(outside["egress"]["rule"].to_string().contains("default/out spec.egress[1]"), "{outside:#}");
}

#[test]
fn the_proxys_counts_reach_the_shared_map() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&policies());
    let to = web.at(80)[0];
    for (path, status) in [("/a", 200), ("/b", 200), ("/c", 403)] {
        client.ns.expect_status(status, to, path, &[]);
    }
    let identity = |name: &str| lab.json(&["endpoint", "get", name])["identity"].clone();
    let (source, destination) = (identity("client"), identity("web"));
    let entry = eventually("the counts are written", || {
        let dump = lab.json(&["map", "get", "verdicts"]);
        let entries = dump["entries"].as_array()?.clone();
        entries.into_iter().find(|e| {
            e["source identity"] == source && e["destination identity"] == destination && e["denied"] == 1
        })
    });
    assert_eq!((&entry["allowed"], &entry["port"]), (&2.into(), &80.into()), "{entry}");
}
