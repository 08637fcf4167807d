//! `policy validate` and `policy test`.

use std::{fs, path::Path};

use serde_json::Value;

use super::run;

const GOOD: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET, path: "/v1/.*"}]}
"#;
const BAD: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bad}
spec:
  endpointSelector: {}
  ingress: [{toPorts: [{ports: [{port: 80}]}]}]
"#;
const LATER: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: later}
spec:
  endpointSelector: {}
  egress: [{toFQDNs: [{matchName: api.example.com}]}]
"#;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(dir.path().join(name), text).expect("a file");
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn validate_says_one_line_a_document() {
    let two = format!("{GOOD}---\n{BAD}");
    let files = Files::new(&[("good.yaml", GOOD), ("two.yaml", &two), ("later.yaml", LATER)]);

    let good = run(&["policy", "validate", &files.path("good.yaml")]).expect(0);
    assert_eq!(good.stdout.lines().count(), 1);
    assert!(good.stdout.starts_with("valid "), "{good:?}");
    assert!(good.stdout.contains("CiliumNetworkPolicy default/web"), "{good:?}");

    let two = run(&["policy", "validate", &files.path("two.yaml")]).expect(1);
    let lines: Vec<_> = two.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[1].starts_with("refused ") && lines[1].contains("spec.ingress[0].toPorts[0].ports[0].port")
    );

    let later = run(&["policy", "validate", &files.path("later.yaml")]).expect(0);
    assert!(later.stdout.starts_with("not-enforced ") && later.stdout.contains("toFQDNs"), "{later:?}");
    run(&["policy", "validate", "--strict", &files.path("later.yaml")]).expect(1);

    let all = run(&["policy", "validate", "-o", "json", &files.dir().display().to_string()]).expect(1);
    let results: Vec<_> = json_lines(&all.stdout).iter().map(|line| line["result"].clone()).collect();
    assert_eq!(results, ["valid", "not-enforced", "valid", "refused"]);
}

#[test]
fn validate_refuses_what_it_cannot_read() {
    let files = Files::new(&[("broken.yaml", "a: [b\n")]);
    let broken = run(&["policy", "validate", &files.path("broken.yaml")]).expect(1);
    assert!(broken.stdout.starts_with("refused "), "{broken:?}");
    let missing = run(&["policy", "validate", &files.path("missing.yaml")]).expect(1);
    assert!(missing.stdout.contains("No such file"), "{missing:?}");
}

/// A test file about `good.yaml` whose second test expects `expect`.
fn test_file(expect: &str) -> String {
    format!(
        "policies: [good.yaml]
endpoints:
  - {{name: client, labels: {{app: client}}, ip: 10.0.0.1}}
  - {{name: web, labels: {{app: web}}, ip: 10.0.0.2}}
tests:
  - {{name: reads, from: client, to: web, port: 80/TCP, http: {{method: GET, path: /v1/x}}, expect: allow}}
  - {{name: writes, from: client, to: web, port: 80/TCP, http: {{method: POST, path: /v1/x}}, expect: {expect}}}
  - {{name: world, from: world, to: web, port: 80/TCP}}
"
    )
}

#[test]
fn test_answers_and_compares() {
    let (right, wrong) = (test_file("deny"), test_file("allow"));
    let files = Files::new(&[("good.yaml", GOOD), ("right.yaml", &right), ("wrong.yaml", &wrong)]);

    let right = run(&["policy", "test", &files.path("right.yaml")]).expect(0);
    assert!(right.stdout.contains("reads") && right.stdout.contains("spec.ingress[0]"), "{right:?}");

    let wrong = run(&["policy", "test", "-o", "json", &files.path("wrong.yaml")]).expect(1);
    assert!(wrong.stderr.contains("writes: expected allow, is deny"), "{wrong:?}");
    let rows = json_lines(&wrong.stdout);
    let fields = |row: &Value| row.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&rows[0]), ["egress", "from", "ingress", "name", "port", "rule", "to", "verdict"]);
    let verdicts: Vec<_> = rows.iter().map(|row| row["verdict"].as_str().expect("text")).collect();
    assert_eq!(verdicts, ["allow", "deny", "deny"]);
    assert_eq!((&rows[0]["egress"], &rows[0]["ingress"]), (&Value::from("allow"), &Value::from("redirect")));
}

#[test]
fn test_goes_on_after_a_file_that_is_none() {
    let right = test_file("deny");
    let files = Files::new(&[("good.yaml", GOOD), ("right.yaml", &right), ("odd.yaml", "tests: 3\n")]);
    let both =
        run(&["policy", "test", "-o", "json", &files.path("odd.yaml"), &files.path("right.yaml")]).expect(1);
    assert_eq!(json_lines(&both.stdout).len(), 3);
    assert!(both.stderr.contains("odd.yaml"), "{both:?}");
}

#[test]
fn test_notes_what_is_not_enforced() {
    let text = "policies: [later.yaml]
endpoints: [{name: a, ip: 10.0.0.1}]
dns: {api.example.com: [203.0.113.7]}
tests: [{name: out, from: a, to: 203.0.113.7, port: 443/TCP, expect: allow}]
";
    let files = Files::new(&[("later.yaml", LATER), ("t.yaml", text)]);
    let finished = run(&["policy", "test", &files.path("t.yaml")]).expect(0);
    assert!(finished.stderr.contains("note: ") && finished.stderr.contains("not enforced"), "{finished:?}");
}

/// What `app` may ask of `broker`, and tests of it.
fn kafka_file(tests: &str) -> String {
    format!(
        "policies:
  - apiVersion: cilium.io/v2
    kind: CiliumNetworkPolicy
    metadata: {{name: broker, namespace: default}}
    spec:
      endpointSelector: {{matchLabels: {{app: broker}}}}
      ingress:
        - fromEndpoints: [{{matchLabels: {{app: app}}}}]
          toPorts:
            - ports: [{{port: '9092', protocol: TCP}}]
              rules:
                kafka:
                  - {{role: produce, topic: orders-*, transactionalIds: [tx-*]}}
                  - {{role: consume, topic: orders-*, groups: [g-*]}}
                  - {{apiKey: createtopics, apiVersion: '7', clientID: admin, topic: orders-*}}
            - ports: [{{port: '80', protocol: TCP}}]
              rules: {{http: [{{method: GET}}]}}
endpoints:
  - {{name: app, labels: {{app: app}}, ip: 10.0.0.1}}
  - {{name: broker, labels: {{app: broker}}, ip: 10.0.0.2}}
tests:
{tests}
"
    )
}

#[test]
fn test_answers_kafka_requests_name_by_name() {
    let cases = [
        ("role: produce, topic: orders-eu", "allow", "rules.kafka[0]"),
        ("role: produce, topic: billing", "deny", "no Kafka rule matches"),
        ("role: produce, topic: orders-eu, transactionalId: other", "deny", "no Kafka rule matches"),
        ("role: consume, topic: orders-eu, group: g-1", "allow", "rules.kafka[1]"),
        ("role: consume, topic: orders-eu, group: h", "deny", "no Kafka rule matches"),
        ("apiKey: CreateTopics, apiVersion: 7, clientID: admin, topic: orders-eu", "allow", "rules.kafka[2]"),
        ("apiKey: CreateTopics, apiVersion: '6', clientID: admin, topic: orders-eu", "deny", "no Kafka rule"),
        ("apiKey: deletetopics, topic: orders-eu", "deny", "no Kafka rule matches"),
        ("apiKey: apiversions", "allow", "toPorts[0]"),
    ];
    let port = |port: u16, asked: &str, expect: &str| {
        format!("  - {{from: app, to: broker, port: {port}/TCP, kafka: {{{asked}}}, expect: {expect}}}\n")
    };
    let mut tests: String = cases.iter().map(|(asked, expect, _)| port(9092, asked, expect)).collect();
    // Where only HTTP is let in, no Kafka is.
    tests.push_str(&port(80, cases[0].0, "deny"));
    let files = Files::new(&[("t.yaml", &kafka_file(&tests))]);
    let answered = run(&["policy", "test", "-o", "json", &files.path("t.yaml")]).expect(0);
    let rows = json_lines(&answered.stdout);
    assert_eq!(rows.len(), cases.len() + 1);
    for (row, (asked, _, rule)) in rows.iter().zip(cases) {
        assert!(row["rule"].as_str().is_some_and(|text| text.contains(rule)), "{asked}: {row}");
    }
}

#[test]
fn a_kafka_request_that_does_not_exist_is_told_by_its_place() {
    for (asked, told) in [
        ("apiKey: fetchh, topic: a", "tests[0].kafka.apiKey: \"fetchh\" is no Kafka request"),
        ("apiKey: fetch, apiVersion: 99, topic: a", "tests[0].kafka.apiVersion: Fetch has the versions"),
        ("apiKey: fetch, apiVersion: new, topic: a", "tests[0]: apiVersion: \"new\" is no version"),
        ("apiKey: heartbeat, topic: a", "tests[0].kafka.topic: Heartbeat has no topic"),
        ("role: produce, group: g", "tests[0].kafka.group: a producer has no group"),
        ("role: produce", "tests[0].kafka: each name in it is judged by itself"),
        ("role: admin, topic: a", "tests[0].kafka.role: \"admin\" is neither"),
        ("role: produce, apiKey: fetch, topic: a", "tests[0].kafka.role: does not go with apiKey"),
        ("topic: a", "tests[0].kafka: which request?"),
        ("role: produce, topics: [a]", "tests[0]: unknown field `topics`"),
    ] {
        // Also where no rule would be asked.
        for from in ["app", "world"] {
            let test = format!("  - {{from: {from}, to: broker, port: 9092/TCP, kafka: {{{asked}}}}}\n");
            let files = Files::new(&[("t.yaml", &kafka_file(&test))]);
            let refused = run(&["policy", "test", &files.path("t.yaml")]).expect(1);
            assert!(refused.stderr.contains(told), "{asked}: {}", refused.stderr);
        }
    }
    let test = "  - {from: app, to: broker, port: 80/TCP, http: {}, kafka: {role: produce, topic: a}}\n";
    let files = Files::new(&[("t.yaml", &kafka_file(test))]);
    let refused = run(&["policy", "test", &files.path("t.yaml")]).expect(1);
    assert!(refused.stderr.contains("tests[0].kafka: does not go with http"), "{}", refused.stderr);
}
