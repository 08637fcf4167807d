//! A real Apache Kafka broker behind Tektin. One script runs against the broker's own ACLs and against
//! a policy that says the same, with SASL passing through, and must see the same; records tell each
//! request; a change of policy applies to the next one.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    netlab::{Lab, eventually, process::run, workload::Workload},
    policies::cnp,
};

const ADMIN: u16 = 9091;
/// Judged by Tektin; who logs in as `boss` may do everything as far as the broker is concerned.
const JUDGED: u16 = 9092;
const CONTROLLER: u16 = 9093;
/// Judged by the broker's ACLs.
const PLAIN: u16 = 9094;

/// What `bootstrap.sh test` installed.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_tektin")).ancestors().nth(2).expect("a build directory");
    let folder = target.join("kafka");
    assert!(folder.join("lib").is_dir(), "{} has no broker: ./bootstrap.sh test", folder.display());
    folder
}

fn start_broker(lab: &Lab, broker: &Workload) {
    let at = |port: u16| format!("{}:{port}", broker.v4);
    let config = lab.dir().join("server.properties");
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/kafka/server.properties");
    let text = [
        ("@admin@", at(ADMIN)),
        ("@direct@", at(PLAIN)),
        ("@via@", at(JUDGED)),
        ("@advertised@", at(JUDGED)),
        ("@controller@", CONTROLLER.to_string()),
        ("@data@", lab.dir().join("kafka-data").display().to_string()),
    ]
    .iter()
    .fold(std::fs::read_to_string(template).expect("a template"), |text, (place, what)| {
        text.replace(place, what)
    });
    std::fs::write(&config, text).expect("a file");
    // Java asks for the name of every address; without a resolver it would wait for one.
    let hosts = lab.dir().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("a file");
    let java = |mut command: Command, heap: &str, class: &[&str]| {
        command.arg(format!("-Xmx{heap}")).arg(format!("-Djdk.net.hosts.file={}", hosts.display()));
        command.args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
        command.arg(format!("{}/lib/*", installed().display())).args(class).arg(&config);
        command
    };
    let format = ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c"];
    run(java(Command::new("java"), "128m", &format), LONG).success();
    lab.background(java(broker.ns.command("java"), "512m", &["kafka.Kafka"]));
    for port in [ADMIN, JUDGED, PLAIN] {
        lab.listening(&broker.ns, port);
    }
}

/// Longer than anything here takes on any machine.
const LONG: Duration = Duration::from_secs(120);

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy/tests/kafka/clients").join(name)
}

/// A client program in a workload: what it told, line by line.
fn client(of: &Workload, name: &str, args: &[&str]) -> Vec<String> {
    let mut command = match name.ends_with(".py") {
        true => of.ns.command(&installed().join("venv/bin/python").to_string_lossy()),
        false => of.ns.command("node"),
    };
    command.env("NODE_PATH", installed().join("node_modules")).arg(script(name)).args(args);
    let finished = run(command, LONG);
    finished.success().stdout.lines().map(str::to_owned).collect()
}

/// The policy that says what the ACLs of `prepare.py` say.
fn policy(rules: &str) -> String {
    let allow = |port: u16| format!("{{ports: [{{port: \"{port}\", protocol: TCP}}]}}");
    let judged = format!("{{ports: [{{port: \"{JUDGED}\", protocol: TCP}}], rules: {{kafka: [{rules}]}}}}");
    let ports = [allow(ADMIN), allow(PLAIN), judged].join(", ");
    cnp(
        "broker",
        "broker",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: app}}}}], toPorts: [{ports}]}}]"),
    )
}

fn rules_like_the_acls() -> String {
    let mut rules = Vec::new();
    for topic in ["open-*", "wo-*"] {
        rules.push(format!("{{role: produce, topic: \"{topic}\", transactionalIds: [\"good-*\"]}}"));
    }
    for topic in ["open-*", "ro-*"] {
        rules.push(format!("{{role: consume, topic: \"{topic}\", groups: [\"good-*\"]}}"));
    }
    for key in ["createtopics", "deletetopics", "createpartitions", "deleterecords", "describeconfigs"] {
        rules.push(format!("{{apiKey: {key}, topic: \"open-*\"}}"));
    }
    rules.push("{apiKey: offsets, topic: \"wo-*\"}".to_owned());
    for key in ["describegroups", "consumergroupdescribe", "listgroups", "deletegroups"] {
        rules.push(format!("{{apiKey: {key}, groups: [\"good-*\"]}}"));
    }
    for topic in ["open-*", "ro-*", "wo-*"] {
        rules.push(format!("{{apiKey: consumergroupdescribe, topic: \"{topic}\"}}"));
    }
    rules.join(", ")
}

#[test]
fn clients_see_what_a_brokers_own_acls_would_show_them() {
    let lab = Lab::new();
    let (broker, app, foe) = (lab.workload("broker"), lab.workload("app"), lab.workload("foe"));
    lab.apply(&policy(&rules_like_the_acls()));
    start_broker(&lab, &broker);
    let (app, at) = (&app, |port: u16| format!("{}:{port}", broker.v4));
    client(app, "prepare.py", &[&at(ADMIN), "py1", "py2", "js1", "js2"]);

    let runs = std::thread::scope(|scope| {
        let runs: Vec<_> = [("outcomes.py", "py1", "py2"), ("outcomes.js", "js1", "js2")]
            .into_iter()
            .flat_map(|(name, direct, judged)| [(name, PLAIN, "app", direct), (name, JUDGED, "boss", judged)])
            .map(|(name, port, user, run)| {
                scope.spawn(move || client(app, name, &[&at(port), user, user, run]))
            })
            .collect();
        runs.into_iter().map(|run| run.join().expect("a run")).collect::<Vec<_>>()
    });
    for (name, runs) in ["outcomes.py", "outcomes.js"].iter().zip(runs.chunks(2)) {
        let [acls, policy] = runs else { panic!("two runs") };
        println!("\n{name}: ACLs, and the policy where it differs");
        for (acls, policy) in acls.iter().zip(policy) {
            println!("{acls}{}", if acls == policy { String::new() } else { format!("   BUT   {policy}") });
        }
        assert_eq!(acls, policy, "{name}");
        assert!(acls.len() >= 25 && acls.join("\n").contains("TOPIC_AUTHORIZATION_FAILED"), "{acls:?}");
    }

    // Requests and their reasons are in the records.
    let record = |api: &str, verdict: &str| {
        let filter = ["observe", "--protocol", "kafka", "--verdict", verdict, "--last", "5000"];
        eventually("a record", || {
            let seen = lab.tektin(&[&filter[..], &["--output", "json"]].concat());
            let records = seen.success().stdout.lines();
            let mut records =
                records.map(|line| -> serde_json::Value { serde_json::from_str(line).expect("JSON") });
            records.find(|one| one["kafka"]["api"] == api && one["kafka"]["topics"][0].is_string())
        })
    };
    let denied = record("Produce", "denied");
    assert_eq!(denied["kafka"]["error_code"], 29, "{denied}");
    assert_eq!(denied["destination"]["name"], "broker", "{denied}");
    assert!(
        denied["rule"].as_str().is_some_and(|rule| rule.contains("default/broker spec.ingress[0]")),
        "{denied}"
    );
    let allowed = record("Fetch", "forwarded");
    assert!(allowed["rule"].as_str().is_some_and(|rule| rule.contains("rules.kafka[")), "{allowed}");

    // A consumer that is reading when its topic is taken away learns it with the fetch that follows.
    let kcat = |args: &[&str]| {
        let mut command = app.ns.command("kcat");
        command.args(["-q", "-b", &at(JUDGED), "-t", "open-live", "-X", "security.protocol=SASL_PLAINTEXT"]);
        command.args(["-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=boss", "-X", "sasl.password=boss"]);
        command.args(args);
        run(command, LONG)
    };
    let hosts = lab.dir().join("hosts").display().to_string();
    kcat(&["-P", "-p", "0", "-l", &hosts]).success();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| kcat(&["-C", "-p", "0", "-u"]));
        eventually("it reads", || {
            let seen = lab.tektin(&["observe", "--protocol", "kafka", "--last", "200", "--output", "json"]);
            let mut lines = seen.stdout.lines();
            lines.any(|line| line.contains("\"Fetch\"") && line.contains("open-live")).then_some(())
        });
        lab.apply(&policy("{role: produce, topic: \"*\"}"));
        let told = reading.join().expect("kcat");
        assert!(told.stderr.contains("Topic authorization failed"), "{told:?}");
    });

    lab.apply(&policy(&rules_like_the_acls()));
    let about = ["policy", "explain", "--from", "app", "--to", "broker", "--port", "9092/TCP", "--kafka"];
    for (asked, verdict, rule) in [
        (&["produce", "--topic", "open-x"][..], "allow", "rules.kafka[0]"),
        (&["produce", "--topic", "ro-x"], "deny", "(no Kafka rule matches)"),
        (&["consume", "--topic", "ro-x", "--group", "good-x"], "allow", "rules.kafka[3]"),
        (&["deletetopics", "--topic", "shut-x"], "deny", "(no Kafka rule matches)"),
    ] {
        let said = lab.json(&[&about[..], asked].concat());
        assert!(said["verdict"] == verdict && said["rule"].to_string().contains(rule), "{asked:?}: {said}");
    }
    let wrong = lab.tektin(&[&about[..], &["fetch"]].concat());
    assert!(wrong.stderr.contains("kafka: each name in it is judged by itself"), "{wrong:?}");

    // Another workload has no rule at all.
    foe.ns.expect_silence(broker.at(JUDGED)[0]);
}
