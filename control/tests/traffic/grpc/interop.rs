//! gRPC's interoperability cases: each client with each server, directly, allowed and denied.

use std::{collections::BTreeSet, time::Duration};

use super::{
    installed, script,
    stage::{PORT, Stage, python, start_go, start_python, start_python_with},
    tonic_client::{Client, Mode},
    tonic_server,
};
use crate::netlab::{
    Lab, eventually,
    process::{Finished, run},
    workload::Workload,
};

/// Longer than all cases of a client take on any machine.
const LONG: Duration = Duration::from_secs(240);

/// What grpc-go's client has.
const CASES: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "custom_metadata",
];
/// What the other two have, too.
const FURTHER: &[&str] = &[
    "mirrored_metadata",
    "client_compressed_unary",
    "server_compressed_unary",
    "client_compressed_streaming",
    "server_compressed_streaming",
];

/// What each client may call, as Cilium's users write it.
const BY_PATH: &[(&str, &str)] = &[
    ("direct", ""),
    ("allowed", "http: [{method: POST, path: \"/grpc[.]testing[.].*\"}]"),
    ("only-empty", "http: [{method: POST, path: \"/grpc[.]testing[.]TestService/EmptyCall\"}]"),
    ("only-unary", "http: [{method: POST, path: \"/grpc[.]testing[.]TestService/UnaryCall\"}]"),
];
/// The same by name.
const BY_NAME: &[(&str, &str)] = &[
    ("direct", ""),
    ("allowed", "grpc: [{service: \"grpc.testing.*\"}]"),
    ("only-empty", "grpc: [{service: grpc.testing.TestService, method: EmptyCall}]"),
    ("only-unary", "grpc: [{service: grpc.testing.TestService, method: UnaryCall}]"),
];

/// Whose policy denies a case's calls, but not the call that follows it.
fn denied(case: &str) -> &'static str {
    if case == "empty_unary" { "only-unary" } else { "only-empty" }
}

#[test]
fn cases_with_grpc_go_as_the_server() {
    // It knows no compression; of a stream of messages it says so at one time or another.
    compare(BY_NAME, start_go, &["client_compressed_streaming"]);
}

#[test]
fn cases_with_grpcio_as_the_server() {
    compare(BY_PATH, start_python, &[]);
}

#[test]
fn cases_with_tonic_as_the_server() {
    // It has no trailers but the status.
    compare(BY_NAME, |_, server| tonic_server::start(&server.ns, PORT), &["custom_metadata"]);
}

/// A client that retries nothing loses a call now and then with the server directly: the two may cross.
const CROSSED: usize = 3;
const CALLS: usize = 2000;
/// On a busy machine a reconnect that takes long costs dozens, of either: such a turn tells nothing.
const TURNS: usize = 3;

#[test]
fn calls_survive_a_server_that_takes_its_leave_of_old_connections() {
    let stage = Stage::new(BY_NAME, |lab, server| start_python_with(lab, server, &["200"]));
    let fine = |from| {
        let told = grpcio(&stage, from, "allowed", &["many_calls"]);
        println!("{from} {told:?}");
        let fine =
            told[0].strip_prefix("many_calls: OK ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        fine.unwrap_or(0_usize)
    };
    for turn in 1..=TURNS {
        let [direct, allowed] = ["direct", "allowed"].map(fine);
        if direct + CROSSED >= CALLS && allowed + CROSSED >= CALLS {
            return;
        }
        assert!(turn < TURNS, "{direct} and {allowed} of {CALLS} calls went well directly and through");
    }
}

#[test]
fn calls_of_a_server_that_is_gone_end_and_the_next_find_it_again() {
    let stage = Stage::new(BY_NAME, |lab, server| {
        let mut command = server.ns.command("sh");
        let program = installed("grpc/venv/bin/python");
        command.args(["-c", "while :; do \"$@\"; done", "sh"]);
        command.arg(program).arg(script("interop_server.py")).arg(PORT.to_string());
        lab.background(command);
    });
    let [direct, allowed] =
        ["direct", "allowed"].map(|from| grpcio(&stage, from, "allowed", &["server_gone"]));
    println!("{direct:?}, {allowed:?}");
    assert_eq!(direct, ["server_gone: UNAVAILABLE, its stream UNAVAILABLE, later OK"]);
    assert_eq!(direct, allowed);
}

/// All clients, with everything that they have but these cases.
fn compare(clients: &[(&str, &str)], start: impl FnOnce(&Lab, &Workload), without: &[&str]) {
    let stage = Stage::new(clients, start);
    let cases: Vec<_> = CASES.iter().chain(FURTHER).copied().filter(|case| !without.contains(case)).collect();
    let go_cases: Vec<_> = CASES.iter().filter(|case| !without.contains(case)).collect();
    let (stage, cases, empty) = (&stage, &cases[..], &cases[..1]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let [direct, allowed] = ["direct", "allowed"].map(|from| grpcio(stage, from, "allowed", cases));
            same("grpcio", &direct, &allowed);
            are_denied("grpcio", &grpcio(stage, denied(empty[0]), "denied", empty));
            are_denied("grpcio", &grpcio(stage, denied(cases[1]), "denied", &cases[1..]));
        });
        scope.spawn(|| {
            let [direct, allowed] =
                ["direct", "allowed"].map(|from| tonic(stage, from, Mode::Allowed, cases));
            same("tonic", &direct, &allowed);
            are_denied("tonic", &tonic(stage, denied(empty[0]), Mode::Denied, empty));
            are_denied("tonic", &tonic(stage, denied(cases[1]), Mode::Denied, &cases[1..]));
        });
        scope.spawn(|| {
            let [direct, allowed] = ["direct", "allowed"].map(|from| {
                go_cases
                    .iter()
                    .map(|case| grpc_go_told(case, &grpc_go(stage, from, case)))
                    .collect::<Vec<_>>()
            });
            same("grpc-go", &direct, &allowed);
            go_cases.iter().for_each(|case| grpc_go_is_denied(case, &grpc_go(stage, denied(case), case)));
        });
    });
    one_connection_had_all_denials(stage);
}

/// By IPv6, and so its records can be told from the others'.
fn grpcio(stage: &Stage, from: &str, mode: &str, cases: &[&str]) -> Vec<String> {
    let mut command = python(stage.client(from));
    command.arg(script("interop_client.py")).args([mode, &stage.v6().to_string()]).args(cases);
    run(command, LONG).success().stdout.lines().map(str::to_owned).collect()
}

fn tonic(stage: &Stage, from: &str, mode: Mode, cases: &[&str]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = Client::connect(&stage.client(from).ns, stage.v4(), mode).await;
        let mut outcomes = Vec::new();
        for case in cases {
            outcomes.push(client.case(case).await);
        }
        outcomes
    })
}

/// One process a case: it judges the outcome itself.
fn grpc_go(stage: &Stage, from: &str, case: &str) -> Finished {
    let mut command =
        stage.client(from).ns.command(&installed("tools/grpc-interop-client").to_string_lossy());
    command.args(["-server_host", &stage.server.v4.to_string(), "-server_port", &PORT.to_string()]);
    command.args(["-test_case", case]);
    run(command, LONG)
}

fn grpc_go_told(case: &str, ended: &Finished) -> String {
    format!("{case}: exit code {:?} {}", ended.code, ended.stderr.trim())
}

fn grpc_go_is_denied(case: &str, ended: &Finished) {
    println!("grpc-go denied {}", grpc_go_told(case, ended));
    // Its deadline is 1 ms, and to cancel is all it does: the denial may come too late for it.
    let gave_up = ["cancel_after_begin", "timeout_on_sleeping_server"].contains(&case);
    // Who is sending learns that the stream has ended, and this client does not ask why.
    let sending = ended.stderr.contains("EOF while sending");
    let denied = ended.code == Some(1) && (sending || ended.stderr.contains("PermissionDenied"));
    assert!(denied || gave_up && ended.code == Some(0), "{ended:?}");
}

/// Prints the outcomes side by side, and fails where they differ.
fn same(client: &str, direct: &[String], allowed: &[String]) {
    println!("\n{client}: with the server directly, and through Tektin where it differs");
    for (direct, allowed) in direct.iter().zip(allowed) {
        let differs = if direct == allowed { String::new() } else { format!("   BUT   {allowed}") };
        println!("{}{differs}", direct.chars().take(240).collect::<String>());
    }
    assert_eq!(direct, allowed, "{client}");
    let fine = |line: &&String| line.to_lowercase().contains(": ok ") || line.contains("exit code Some(0)");
    assert!(direct.iter().filter(fine).count() >= 8, "{client}: {direct:#?}");
}

/// Each call of a case with the status that a denial has, and the one after it with an answer.
fn are_denied(client: &str, outcomes: &[String]) {
    let denial =
        ["PERMISSION_DENIED 'Access denied' 0 messages", "PermissionDenied \"Access denied\" 0 messages"];
    for outcome in outcomes {
        println!("{client} denied {outcome}");
        let (case, told) = outcome.split_once(": ").expect("a case");
        let (calls, then) = told.rsplit_once(", and then ").expect("a call after it");
        assert_eq!(then.to_uppercase(), "OK", "{client}: the connection goes on: {outcome}");
        for call in calls.split("; ") {
            // Whoever cancels may do so before the denial comes.
            let denied = denial.iter().any(|denial| call.starts_with(denial));
            let cancelled = ["CANCELLED", "PERMISSION_DENIED"].contains(&call);
            assert!(denied || case == "cancel_after_begin" && cancelled, "{client}: {outcome}");
        }
    }
}

/// grpcio makes a new connection where the old one ends: all its calls had one source port.
fn one_connection_had_all_denials(stage: &Stage) {
    let client = stage.client("only-empty");
    let seen = |verdict| {
        let mut records = stage.records(client, verdict);
        records.retain(|one| one["source"]["ip"] == client.v6.to_string());
        records
    };
    let denied = eventually("records of denied calls", || {
        let denied = seen("denied");
        (denied.len() >= CASES.len() - 2).then_some(denied)
    });
    let all = denied.iter().chain(&seen("forwarded")).map(|one| one["source"]["port"].to_string()).collect();
    let all: BTreeSet<String> = all;
    assert_eq!(all.len(), 1, "{all:?}: {denied:?}");
}
