//! Nothing is left behind. That a lab cleans up after success is asserted at the end of every test;
//! here is the rest.

use std::process::Command;

use crate::netlab::{
    LIMIT, Lab, leaks,
    process::{run, tektin},
};

/// Names the file through which the failing test below tells which lab was its own.
const SWITCH: &str = "TEKTIN_TEST_FAIL_ON_PURPOSE";

/// Fails, in the middle of everything, when [`cleans_up_after_a_failed_test`] runs it.
#[test]
#[ignore = "fails on purpose; run by cleans_up_after_a_failed_test"]
fn fails_on_purpose() {
    let Some(file) = std::env::var_os(SWITCH) else { return };
    let lab = Lab::new();
    std::fs::write(file, lab.tag()).expect("the tag's file");
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let _open = client.ns.connect(web.at(80)[0], LIMIT).expect("a connection");
    lab.kill_agent();
    panic!("as it should");
}

#[test]
fn cleans_up_after_a_failed_test() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tag");
    let mut command = Command::new(std::env::current_exe().expect("this test's binary"));
    command.args(["--exact", "clean::fails_on_purpose", "--ignored"]).env(SWITCH, &file);
    let failed = run(command, LIMIT * 2);
    failed.exit(101);
    assert!(failed.stdout.contains("as it should"), "{failed:?}");
    let tag = std::fs::read_to_string(file).expect("the lab was made");
    assert_eq!(leaks::by_name(&tag), Vec::<String>::new());
}

/// What there is of Tektin in the node's namespace.
fn traces(lab: &Lab) -> Vec<String> {
    let mut lines = Vec::new();
    for args in [
        &["-o", "link", "show"][..],
        &["rule", "show"],
        &["-6", "rule", "show"],
        &["route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
    ] {
        lines.extend(lab.node.ip(args).lines().map(|l| format!("{args:?}: {l}")));
    }
    lines.extend(lab.node.run("nft", &["list", "ruleset"]).stdout.lines().map(str::to_owned));
    let filters = lab.node.run("tc", &["filter", "show", "dev", "uplink", "ingress"]).stdout;
    lines.extend(filters.lines().map(str::to_owned));
    lines.retain(|line| {
        ["tek", "fwmark", "2004", "2005", "from_outside"].iter().any(|word| line.contains(word))
    });
    lines
}

#[test]
fn cleanup_undoes_what_an_agent_did() {
    let lab = Lab::new();
    let web = lab.workload("web");
    lab.serve(&web.ns, &["echo:80"]);
    assert!(!traces(&lab).is_empty(), "an agent leaves traces while it works");
    assert!(lab.pin_dir().exists());
    lab.kill_agent();
    let mut command = lab.node.command(&tektin().get_program().to_string_lossy());
    command.arg("cleanup");
    for (flag, path) in [
        ("--state-dir", lab.dir().join("state")),
        ("--run-dir", lab.dir().join("run")),
        ("--pin-dir", lab.pin_dir()),
    ] {
        command.arg(flag).arg(path);
    }
    run(command, LIMIT).success();
    assert_eq!(traces(&lab), Vec::<String>::new());
    assert!(!lab.pin_dir().exists(), "{:?}", std::fs::read_dir(lab.pin_dir()));
    assert_eq!(lab.proxies(), Vec::<i32>::new());
    // The node talks to the world as if nothing had been.
    lab.serve(&lab.world, &["echo:80"]);
    lab.node.expect_open((crate::netlab::WORLD_V4.parse::<std::net::IpAddr>().expect("IP"), 80).into());
}
