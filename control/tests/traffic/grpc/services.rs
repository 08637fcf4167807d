//! Reflection and health are services like any other: grpcurl, with a server that has both.

use super::{
    installed, script,
    stage::{Stage, start_python},
};
use crate::netlab::{LIMIT, process::run};

/// What a call is made of, the same for all who make it.
const CALLS: &[&[&str]] = &[
    &["list"],
    &["list", "grpc.testing.TestService"],
    &["describe", "grpc.testing.TestService"],
    &["describe", "grpc.testing.SimpleRequest"],
    &["grpc.health.v1.Health/Check"],
    &["grpc.testing.TestService/EmptyCall"],
    &["grpc.testing.TestService/UnaryCall", "{\"responseSize\": 12}"],
];

#[test]
fn reflection_and_health_are_filtered_like_any_other_service() {
    let (test, reflection) = ("{service: \"grpc.testing.*\"}", "{service: \"grpc.reflection.*\"}");
    let health = "{service: grpc.health.v1.Health, method: Check}";
    let rules = |calls: &[&str]| format!("grpc: [{}]", calls.join(", "));
    let clients = [
        ("direct", String::new()),
        ("allowed", rules(&[test, reflection, health])),
        ("no-reflection", rules(&[test, health])),
        ("no-health", rules(&[test, reflection])),
        ("only-health", rules(&[health])),
    ];
    let clients = clients.each_ref().map(|(name, rules)| (*name, rules.as_str()));
    let stage = Stage::new(&clients, start_python);
    let grpcurl = |from: &str, flags: &[&str], call: &[&str]| {
        let mut command = stage.client(from).ns.command(&installed("tools/grpcurl").to_string_lossy());
        command.args(["-plaintext", "-max-time", "60"]).args(flags);
        if let [symbol, data] = call
            && symbol.contains('/')
        {
            command.args(["-d", data, &stage.v4().to_string(), symbol]);
        } else {
            command.arg(stage.v4().to_string()).args(call);
        }
        let ended = run(command, LIMIT);
        println!("{from} {call:?}: {:?} {} {}", ended.code, ended.stdout.trim(), ended.stderr.trim());
        (ended.code, ended.stdout, ended.stderr)
    };
    for call in CALLS {
        let direct = grpcurl("direct", &[], call);
        assert_eq!(direct.0, Some(0), "{direct:?}");
        assert_eq!(direct, grpcurl("allowed", &[], call));
    }

    let denied = |ended: (Option<i32>, String, String)| {
        assert!(ended.0 != Some(0) && ended.2.contains("PermissionDenied"), "{ended:?}");
        assert!(ended.2.contains("Access denied"), "{ended:?}");
    };
    // Who may not ask for descriptions may still call what he has the description of.
    denied(grpcurl("no-reflection", &[], &["list"]));
    denied(grpcurl("only-health", &[], &["list"]));
    let script = script("interop.proto");
    let folder = script.parent().expect("a folder").to_string_lossy();
    let described: &[&str] = &["-import-path", &folder, "-proto", "interop.proto"];
    let empty = &["grpc.testing.TestService/EmptyCall"];
    assert_eq!(grpcurl("no-reflection", described, empty), grpcurl("direct", described, empty));
    denied(grpcurl("only-health", described, empty));
    // Health is known to nobody whom reflection does not tell.
    denied(grpcurl("no-health", &[], &["grpc.health.v1.Health/Check"]));
    assert_eq!(grpcurl("no-health", &[], &["list"]), grpcurl("direct", &[], &["list"]));
}
