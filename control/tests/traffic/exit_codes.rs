//! 0 done, 1 refused or failed with the reason, 2 usage: for scripts.

use std::path::Path;

use crate::{
    netlab::{
        LIMIT, Lab,
        process::{Finished, run, tektin},
    },
    policies::cnp,
};

fn offline(dir: &Path, args: &[&str]) -> Finished {
    let mut command = tektin();
    command.args(args).current_dir(dir).env("TEKTIN_SOCKET", dir.join("nobody.sock"));
    run(command, LIMIT)
}

#[test]
fn of_commands_without_an_agent() {
    let dir = tempfile::tempdir().expect("a directory");
    let ask = |args: &[&str]| offline(dir.path(), args);
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write("good.yaml", &cnp("web", "web", "ingress: [{fromEndpoints: [{}]}]"));
    write("bad.yaml", &cnp("web", "web", "ingres: [{}]"));
    let test = |expect: &str| {
        format!(
            "policies: [good.yaml]\nendpoints: [{{name: web, labels: {{app: web}}}}]\ntests: [{{name: t, from: world, to: web, port: 80/TCP, expect: {expect}}}]\n"
        )
    };
    write("right.yaml", &test("deny"));
    write("wrong.yaml", &test("allow"));

    for done in [
        &["--help"][..],
        &["--version"],
        &["endpoint", "add", "--help"],
        &["policy", "validate", "good.yaml"],
        &["policy", "test", "right.yaml"],
        &["completion", "bash"],
    ] {
        let finished = ask(done);
        assert!(!finished.exit(0).stdout.is_empty(), "{finished:?}");
    }
    for (failed, word) in [
        (&["policy", "validate", "bad.yaml"][..], "ingres"),
        (&["policy", "validate", "good.yaml", "bad.yaml"], "ingres"),
        (&["policy", "validate", "absent.yaml"], "absent.yaml"),
        (&["policy", "test", "wrong.yaml"], "allow"),
        (&["policy", "apply", "good.yaml"], "nobody.sock"),
        (&["status"], "nobody.sock"),
        (&["endpoint", "list"], "nobody.sock"),
        (&["observe"], "nobody.sock"),
    ] {
        let finished = ask(failed);
        finished.exit(1);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains(word), "{failed:?}: no {word:?} in {said}");
    }
    for usage in [
        &["nonsense"][..],
        &["endpoint", "add"],
        &["policy", "validate"],
        &["status", "--nonsense"],
        &["observe", "--verdict", "maybe"],
        &["agent", "--pool4", "many"],
    ] {
        let finished = ask(usage);
        assert!(!finished.exit(2).stderr.is_empty(), "{finished:?}");
    }
}

#[test]
fn of_commands_with_an_agent() {
    let lab = Lab::new();
    lab.workload("web");
    for (failed, word) in [
        (&["endpoint", "get", "nobody"][..], "nobody"),
        (&["endpoint", "delete", "nobody"], "nobody"),
        (&["endpoint", "add", "x", "--netns", "no-such-namespace", "--label", "a=b"], "no-such-namespace"),
        (&["endpoint", "add", "web", "--netns", "no-such-namespace", "--label", "a=b"], "web"),
        (&["identity", "get", "4711"], "4711"),
        (&["map", "get", "no-such-map"], "no-such-map"),
        (&["policy", "delete", "--name", "nobody"], "no document"),
        (&["policy", "apply", "absent.yaml"], "absent.yaml"),
    ] {
        let finished = lab.tektin(failed);
        finished.exit(1);
        assert!(finished.stderr.contains(word), "{failed:?}: no {word:?} in {}", finished.stderr);
    }
    for done in [
        &["status"][..],
        &["endpoint", "list"],
        &["endpoint", "get", "web"],
        &["identity", "list"],
        &["ipcache", "list"],
        &["map", "list"],
        &["policy", "get"],
        &["observe", "--last", "5"],
    ] {
        lab.tektin(done).success();
        if done[0] != "observe" {
            lab.json(done);
        }
    }
}
