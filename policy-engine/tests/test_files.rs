//! Policy test files: their syntax, their answers as JSON, what is refused.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::{fs, path::Path};

use policy_engine::{
    policy_set::{AllowLocalhost, Options},
    test_file::{PathForm, Protocols, Report, TestFileError, run, run_file, run_with},
};

const POLICY: &str = "
policies:
  - apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {name: web, namespace: default}
    spec:
      endpointSelector: {matchLabels: {app: web}}
      ingress:
        - fromEndpoints: [{matchLabels: {app: front}}]
          toPorts: [{ports: [{port: http, protocol: TCP}], rules: {http: [{method: GET, path: /v1}]}}]
        - fromEntities: [world]
          toPorts: [{ports: [{port: '443', protocol: TCP}]}]
      ingressDeny:
        - fromCIDR: [203.0.113.0/24]
  - apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {name: front, namespace: default}
    spec:
      endpointSelector: {matchLabels: {app: front}}
      egress:
        - toEndpoints: [{matchLabels: {app: web}}]
endpoints:
  - {name: web, labels: {app: web}, ip: 10.0.0.1, namedPorts: {HTTP: 8080}}
  - {name: front, namespace: default, labels: {app: front}, ip: 10.0.0.2}
";

fn answer(tests: &str) -> Result<Report, TestFileError> {
    run(&format!("{POLICY}tests: {tests}"), Path::new(""), Options::default())
}

fn rows(tests: &str) -> Vec<String> {
    let report = answer(tests).unwrap_or_else(|error| panic!("{error}"));
    report.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
}

#[test]
fn rows_as_json() {
    let web = "CiliumNetworkPolicy default/web spec";
    let front = "CiliumNetworkPolicy default/front spec.egress[0]";
    let tests = "
  - {name: l4, from: front, to: web, port: 8080/TCP}
  - {name: read, from: front, to: web, port: 8080, http: {method: GET, path: /v1}, expect: allow}
  - {name: write, from: front, to: web, port: '8080', http: {method: PUT, path: /v1}, expect: allow}
  - {name: denied, from: 203.0.113.9, to: 10.0.0.1, port: 443/tcp}
  - {name: default, from: web, to: web, port: 1/UDP}
  - {name: both, from: world, to: web, port: 443/TCP, expect: allow}
  - {name: nobody, from: world, to: 192.0.2.0/24, port: 8/ICMP}
";
    let expected = [
        format!(
            r#"{{"name":"l4","from":"front","to":"web","port":"8080/TCP","egress":"allow","ingress":"redirect","verdict":"redirect","rule":"egress: {front}; ingress: {web}.ingress[0].toPorts[0]"}}"#
        ),
        format!(
            r#"{{"name":"read","from":"front","to":"web","port":"8080","egress":"allow","ingress":"redirect","verdict":"allow","rule":"egress: {front}; ingress: {web}.ingress[0].toPorts[0].rules.http[0]","expect":"allow","ok":true}}"#
        ),
        format!(
            r#"{{"name":"write","from":"front","to":"web","port":"8080","egress":"allow","ingress":"redirect","verdict":"deny","rule":"{web}.ingress[0].toPorts[0] (no HTTP rule matches)","expect":"allow","ok":false}}"#
        ),
        format!(
            r#"{{"name":"denied","from":"203.0.113.9","to":"10.0.0.1","port":"443/tcp","egress":"none","ingress":"deny","verdict":"deny","rule":"{web}.ingressDeny[0]"}}"#
        ),
        format!(
            r#"{{"name":"default","from":"web","to":"web","port":"1/UDP","egress":"allow","ingress":"deny","verdict":"deny","rule":"default deny ({web})"}}"#
        ),
        format!(
            r#"{{"name":"both","from":"world","to":"web","port":"443/TCP","egress":"none","ingress":"allow","verdict":"allow","rule":"{web}.ingress[1].toPorts[0]","expect":"allow","ok":true}}"#
        ),
        r#"{"name":"nobody","from":"world","to":"192.0.2.0/24","port":"8/ICMP","egress":"none","ingress":"none","verdict":"allow","rule":"no policy"}"#
            .to_owned(),
    ];
    assert_eq!(rows(tests), expected);
    assert_eq!(answer(tests).unwrap().failures().count(), 1);
}

#[test]
fn json_is_read_too() {
    let report = run(
        r#"{"endpoints": [{"name": "a"}], "tests": [{"from": "a", "to": "host", "port": 22}]}"#,
        Path::new(""),
        Options::default(),
    );
    assert_eq!(report.unwrap().rows[0].verdict, "allow");
}

#[test]
fn localhost_by_policy() {
    let text = format!("{POLICY}tests: [{{from: host, to: web, port: 1}}]");
    let verdict =
        |allow_localhost| run(&text, Path::new(""), Options { allow_localhost }).unwrap().rows[0].verdict;
    assert_eq!(verdict(AllowLocalhost::Always), "allow");
    assert_eq!(verdict(AllowLocalhost::Policy), "deny");
}

#[test]
fn mistakes_are_named() {
    for (tests, message) in [
        ("[{from: front, to: nowhere, port: 1}]", "tests[0].to: \"nowhere\" is no endpoint"),
        ("[{from: front, to: web, port: 70000}]", "tests[0].port: \"70000\" is no port"),
        ("[{from: cluster, to: web, port: 1}]", "tests[0].from: cluster stands for several"),
        ("[{from: front, to: web, port: 256/ICMP}]", "is no ICMP type; they go from 0 to 255"),
        ("[front]", "tests[0]: invalid type: string \"front\", expected a mapping with from"),
        ("[]\nnamespaces: {prod: {team: 1}}", "namespaces.prod: invalid type"),
        ("[]\ndns: {a.example: [nowhere]}", "dns.a.example: invalid IP address"),
        ("[{from: front, to: web, port: 1/QUIC}]", "tests[0].port: QUIC is none of"),
        ("[{from: front, to: web, port: 1, expect: maybe}]", "tests[0]: unknown variant `maybe`"),
        ("[{from: front, to: web}]", "tests[0]: missing field `port`"),
        ("[{from: front, to: web, port: 1, dns: {}}]", "tests[0]: unknown field `dns`"),
        ("[{from: front, to: web, port: 1, grpc: {service: a.B}}]", "tests[0]: missing field `method`"),
        (
            "[{from: front, to: web, port: 1, grpc: {service: a.*, method: Get}}]",
            "tests[0].grpc.service: \"a.*\"",
        ),
        (
            "[{from: front, to: web, port: 1, grpc: {service: a.B, method: '*'}}]",
            "tests[0].grpc.method: \"*\"",
        ),
        (
            "[{from: front, to: web, port: 1, grpc: {service: a.B, method: a/b}}]",
            "tests[0].grpc.method: \"a/b\"",
        ),
        (
            "[{from: front, to: web, port: 1, http: {}, grpc: {service: a.B, method: Get}}]",
            "tests[0].grpc: does not go with http",
        ),
        ("[{from: front, to: web, port: 1, http: {verb: GET}}]", "tests[0]: unknown field `verb`"),
        ("[]\nverdicts: []", "test file: unknown field `verdicts`"),
        ("[]\ntests: []", "tests"),
        ("{", "test file"),
    ] {
        let error = answer(tests).expect_err(tests).to_string();
        assert!(error.contains(message), "{tests}: {error}");
    }
    let text = |endpoints: &str| format!("endpoints: {endpoints}\ntests: []");
    for (endpoints, message) in [
        ("[{name: a}, {name: a}]", "endpoints[1].name: the name a stands twice"),
        ("[{name: a, ip: 300.0.0.1}]", "endpoints[0]: invalid IP address"),
        ("[{name: a, namedPorts: {http: x/TCP}}]", "endpoints[0].namedPorts.http"),
    ] {
        let error =
            run(&text(endpoints), Path::new(""), Options::default()).expect_err(endpoints).to_string();
        assert!(error.contains(message), "{endpoints}: {error}");
    }
}

#[test]
fn policies_beside_the_file_and_refused_ones() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let broker = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: broker}
spec:
  endpointSelector: {}
  ingress: [{toPorts: [{ports: [{port: '9092', protocol: TCP}], rules: {l7proto: r2d2}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: broker}
";
    write("broker.yaml", broker);
    write("broken.yaml", &broker.replace("endpointSelector", "endpointSelectr"));
    let tests =
        "endpoints: [{name: broker}]\ntests: [{from: world, to: broker, port: 9092, expect: redirect}]";
    let report =
        run_file(&write("good.yaml", &format!("policies: [broker.yaml]\n{tests}")), Options::default());
    let report = report.unwrap();
    assert_eq!(report.rows[0].ok, Some(true));
    assert_eq!(
        report.notes,
        [
            "CiliumNetworkPolicy default/broker: spec.ingress[0].toPorts[0].rules.l7proto: not enforced yet: L7 protocols of Envoy's own",
            "broker.yaml: Service broker is no policy",
        ]
    );
    let refused =
        run_file(&write("bad.yaml", &format!("policies: [broken.yaml]\n{tests}")), Options::default());
    let message = refused.unwrap_err().to_string();
    for part in ["broken.yaml", "document 1", "CiliumNetworkPolicy", "broker", "spec", "endpointSelectr"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let missing =
        run_file(&write("lost.yaml", &format!("policies: [lost-policy.yaml]\n{tests}")), Options::default());
    assert!(missing.unwrap_err().to_string().contains("lost-policy.yaml"));
    let twice = run_file(
        &write("twice.yaml", &format!("policies: [broker.yaml, broker.yaml]\n{tests}")),
        Options::default(),
    );
    assert!(twice.unwrap_err().to_string().contains("stands twice"));
}

#[test]
fn cidr_groups_of_the_file() {
    let text = "
policies:
  - {apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {name: office}, spec: {externalCIDRs: [10.0.0.0/8, 192.0.2.0/24]}}
  - apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {name: a}
    spec:
      endpointSelector: {}
      egress: [{toCIDRSet: [{cidrGroupRef: office, except: [10.96.0.0/12]}, {cidrGroupRef: unknown}]}]
endpoints: [{name: a}]
tests:
  - {from: a, to: 10.1.1.1, port: 1, expect: allow}
  - {from: a, to: 10.97.1.1, port: 1, expect: deny}
  - {from: a, to: 192.0.2.1, port: 1, expect: allow}
  - {from: a, to: 192.0.3.1, port: 1, expect: deny}
";
    let report = run(text, Path::new(""), Options::default()).unwrap();
    assert_eq!(report.failures().count(), 0, "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains("CIDR group office")), "{:?}", report.notes);

    let by_label = text
        .replace("{name: office}", "{name: office, labels: {site: hq}}")
        .replace("{cidrGroupRef: office,", "{cidrGroupSelector: {matchLabels: {site: hq}},");
    assert_eq!(run(&by_label, Path::new(""), Options::default()).unwrap().failures().count(), 0);
    let of_another = by_label.replace("matchLabels: {site: hq}", "matchLabels: {site: lab}");
    assert_eq!(run(&of_another, Path::new(""), Options::default()).unwrap().failures().count(), 2);
}

#[test]
fn both_ends_that_deny_are_named() {
    let text = "
policies:
  - apiVersion: cilium.io/v2
    kind: CiliumClusterwideNetworkPolicy
    metadata: {name: closed}
    spec: {endpointSelector: {}, ingress: [{}], egress: [{}]}
endpoints: [{name: a}, {name: b, labels: {app: b}}]
tests: [{from: a, to: b, port: 1}]
";
    let report = run(text, Path::new(""), Options::default()).unwrap();
    let closed = "default deny (CiliumClusterwideNetworkPolicy closed spec)";
    assert_eq!(report.rows[0].rule, format!("egress: {closed}; ingress: {closed}"));
}

#[test]
fn paths_get_the_form_that_a_proxy_judges() {
    let tests = "[{from: front, to: web, port: 8080, http: {path: /a/../v1}}]";
    let text = format!("{POLICY}tests: {tests}");
    let verdict = |path_form: PathForm| {
        let protocols = Protocols { path_form, ..Protocols::default() };
        run_with(&text, Path::new(""), Options::default(), protocols)
    };
    assert_eq!(verdict(|path| Ok(path.to_owned())).unwrap().rows[0].verdict, "deny");
    assert_eq!(verdict(|path| Ok(path.replace("/a/..", ""))).unwrap().rows[0].verdict, "allow");
    let refused = verdict(|_| Err("never".to_owned())).unwrap_err();
    assert_eq!(refused.to_string(), "tests[0].http.path: never");
}

#[test]
fn calls_by_either_kind_of_rule() {
    let text = "
policies:
  - apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {name: shop}
    spec:
      endpointSelector: {matchLabels: {app: shop}}
      ingress:
        - toPorts:
            - ports: [{port: '50051', protocol: TCP}]
              rules:
                grpc: [{service: shop.Orders, method: Get}, {service: grpc.*}]
                http: [{method: GET, path: /healthz}, {method: POST, path: '/shop\\.Stock/.*'}]
endpoints: [{name: shop, labels: {app: shop}}]
tests:
  - {from: world, to: shop, port: 50051, grpc: {service: shop.Orders, method: Get}, expect: allow}
  - {from: world, to: shop, port: 50051, grpc: {service: grpc.reflection.v1.ServerReflection, method: ServerReflectionInfo}, expect: allow}
  - {from: world, to: shop, port: 50051, grpc: {service: shop.Stock, method: Take}, expect: allow}
  - {from: world, to: shop, port: 50051, http: {path: /healthz}, expect: allow}
  - {from: world, to: shop, port: 50051, grpc: {service: shop.Orders, method: Put}, expect: deny}
  - {from: world, to: shop, port: 50051, grpc: {service: grpcx.A, method: B}, expect: deny}
  - {from: world, to: shop, port: 50051, grpc: {service: shop.Orders, method: Get, headers: {content-type: text/plain}}, expect: deny}
  - {from: world, to: shop, port: 50051, grpc: {service: shop.Orders, method: Get, headers: {content-type: application/grpc-web+proto}}, expect: allow}
  - {from: world, to: shop, port: 50051, http: {method: POST, path: /shop.Orders/Get}, expect: deny}
";
    let report = run(text, Path::new(""), Options::default()).unwrap();
    assert_eq!(report.failures().collect::<Vec<_>>(), Vec::<&policy_engine::test_file::Row>::new());
    assert_eq!(report.notes, Vec::<String>::new());
    let place = "CiliumNetworkPolicy default/shop spec.ingress[0].toPorts[0]";
    for (row, rule) in [
        (0, format!("{place}.rules.grpc[0]")),
        (2, format!("{place}.rules.http[1]")),
        (4, format!("{place} (no gRPC or HTTP rule matches)")),
        (8, format!("{place} (no HTTP rule matches)")),
    ] {
        assert_eq!(report.rows[row].rule, rule);
    }
}

#[test]
fn one_world_without_ipv6() {
    let text = |peer: &str| {
        format!(
            "
policies:
  - apiVersion: cilium.io/v2
    kind: CiliumClusterwideNetworkPolicy
    metadata: {{name: a}}
    spec:
      endpointSelector: {{}}
      egress: [{{toEndpoints: [{{matchLabels: {{'reserved:world': ''}}}}]}}]
endpoints: [{{name: a}}]
tests:
  - {{from: a, to: 192.0.2.1, port: 1}}
  - {{from: a, to: {peer}, port: 1}}
"
        )
    };
    let verdict = |peer| run(&text(peer), Path::new(""), Options::default()).unwrap().rows[0].verdict;
    assert_eq!(verdict("192.0.2.2"), "allow");
    assert_eq!(verdict("'2001:db8::1'"), "deny");
}
