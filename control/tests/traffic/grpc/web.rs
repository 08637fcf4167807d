//! gRPC-Web, as browsers speak it: Connect for Node on both sides, over HTTP/1.1 and HTTP/2.

use super::{
    installed, script,
    stage::{Stage, python},
};
use crate::netlab::{LIMIT, process::run, workload::Workload};

const CLIENTS: &[(&str, &str)] = &[
    ("direct", ""),
    ("allowed", "grpc: [{service: grpc.testing.TestService}]"),
    ("only-empty", "grpc: [{service: grpc.testing.TestService, method: EmptyCall}]"),
];

#[test]
fn grpc_web_passes_and_is_denied_in_its_own_words() {
    let node = |of: &Workload| {
        let mut command = of.ns.command("node");
        command.env("NODE_PATH", installed("grpc/node_modules")).arg(script("web.js"));
        command
    };
    let stage = Stage::new(CLIENTS, |lab, server| {
        let mut command = python(server);
        let proto = script("interop.proto");
        command.args(["-m", "grpc_tools.protoc", "-I"]).arg(proto.parent().expect("a folder")).arg(&proto);
        command.arg(format!("--descriptor_set_out={}", lab.dir().join("interop.bin").display()));
        run(command, LIMIT).success();
        let mut command = node(server);
        command.arg(lab.dir().join("interop.bin")).arg("serve");
        lab.background(command);
    });
    stage.lab.listening(&stage.server.ns, 7001);
    let outcomes = |from: &str| {
        let mut command = node(stage.client(from));
        command.arg(stage.lab.dir().join("interop.bin")).args(["call", &stage.server.v4.to_string()]);
        let told = run(command, LIMIT).success().stdout.clone();
        println!("{from}\n{told}");
        told
    };
    let direct = outcomes("direct");
    assert_eq!(direct.matches(", OK\n").count(), 8, "{direct}");
    assert_eq!(direct, outcomes("allowed"));

    let denied = outcomes("only-empty");
    for (line, direct) in denied.lines().zip(direct.lines()) {
        match line.contains(" emptyCall") {
            true => assert_eq!(line, direct),
            false => assert!(line.contains(": PermissionDenied "), "{line}"),
        }
    }
    assert_eq!(denied.lines().count(), direct.lines().count());
}
