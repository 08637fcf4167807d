//! Help, completion, and what wrong usage costs.

use super::{run, tektin};

/// Names under "Commands:" of a help text.
fn commands(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or_default();
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn walk(path: &[String], seen: &mut Vec<String>) {
    let args: Vec<_> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = run(&args).expect(0).stdout;
    assert!(help.contains("Usage: tektin"), "{path:?}: {help}");
    seen.push(path.join(" "));
    for name in commands(&help) {
        walk(&[path, &[name]].concat(), seen);
    }
}

#[test]
fn every_command_explains_itself() {
    let mut seen = Vec::new();
    walk(&[], &mut seen);
    for command in [
        "agent",
        "proxy",
        "endpoint add",
        "endpoint list",
        "endpoint get",
        "endpoint delete",
        "identity list",
        "identity get",
        "policy apply",
        "policy get",
        "policy delete",
        "policy validate",
        "policy test",
        "policy explain",
        "ipcache list",
        "map list",
        "map get",
        "status",
        "observe",
        "cleanup",
        "completion",
        "version",
    ] {
        assert!(seen.iter().any(|path| path == command), "{command} is missing in {seen:?}");
    }
}

#[test]
fn wrong_usage_is_2_and_says_why() {
    for (args, reason) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["endpoint", "add", "web", "--label", "app=web"], "--netns"),
        (&["endpoint", "add", "web", "--netns", "web"], "--label"),
        (&["endpoint", "add", "web", "--netns", "web", "--label", "app"], "KEY=VALUE"),
        (&["endpoint", "add", "w", "--netns", "w", "-l", "a=b", "--named-port", "http=0/TCP"], "80/TCP"),
        (
            &["endpoint", "add", "w", "--netns", "w", "-l", "a=b", "--ip", "10.0.0.1", "--ip", "10.0.0.2"],
            "--ip",
        ),
        (&["identity", "get", "many"], "many"),
        (&["policy", "apply"], "FILE"),
        (&["policy", "delete"], "--all"),
        (&["policy", "explain", "--from", "a"], "--to"),
        (&["observe", "--path", "("], "regular expression"),
        (&["observe", "--verdict", "perhaps"], "perhaps"),
        (&["observe", "--since", "yesterday"], "5m"),
        (&["observe", "--ip", "10.0.0"], "10.0.0"),
        (&["status", "--output", "xml"], "xml"),
        (&["proxy", "--threads", "33"], "33"),
        (&["agent", "--pool4", "10.0.0.0"], "--pool4"),
    ] {
        let finished = run(args).expect(2);
        assert!(finished.stderr.contains(reason), "{args:?}: {}", finished.stderr);
        assert_eq!(finished.stdout, "", "{args:?}");
    }
}

#[test]
fn nothing_at_all_shows_the_help() {
    let finished = run(&[]).expect(2);
    assert!(finished.stderr.contains("Commands:"), "{finished:?}");
}

#[test]
fn each_shell_has_its_completion() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completion", shell]).expect(0).stdout;
        for word in ["endpoint", "observe", "--follow"] {
            let word = if shell == "fish" { word.trim_start_matches("--") } else { word };
            assert!(script.contains(word), "{shell} completes no {word}");
        }
    }
}

#[test]
fn the_version_in_three_forms() {
    assert!(run(&["version"]).expect(0).stdout.contains(env!("CARGO_PKG_VERSION")));
    let json = run(&["version", "--output", "json"]).expect(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let compact = run(&["version", "-o", "compact"]).expect(0).stdout;
    assert_eq!(compact.lines().next(), Some(concat!("Version\t", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for args in [&["completion", "bash"][..], &["version"]] {
        let mut child = tektin(args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("tektin starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("tektin ends");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}
