//! Policy test files as real traffic. Each file of `testdata/traffic` is answered twice: offline by
//! `tektin policy test`, and by packets in a lab made of the file's own endpoints and policies.
//! Both must say what the file expects.

mod file;
mod probe;

use std::{collections::BTreeSet, path::PathBuf};

use crate::netlab::{
    LIMIT, Lab,
    process::{run, tektin},
};
use file::TestFile;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/traffic")
}

/// What `policy test` says to each row, in order.
fn offline(path: &std::path::Path) -> Vec<String> {
    let mut command = tektin();
    command.args(["policy", "test", "--output", "json"]).arg(path);
    let finished = run(command, LIMIT);
    finished.success();
    let verdict = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        row["verdict"].as_str().unwrap_or_else(|| panic!("no verdict: {line}")).to_owned()
    };
    finished.stdout.lines().map(verdict).collect()
}

/// Runs every row of a file both ways and prints the table.
fn run_file(name: &str) {
    let path = directory().join(name);
    let Some(file) = TestFile::read(&path) else {
        let text = format!("{name}: the published documents are not beside this work tree; not run");
        // Only a checkout without them may go without; CI has them.
        assert!(std::env::var_os("CI").is_none(), "{text}");
        println!("{text}");
        return;
    };
    let offline = offline(&path);
    assert_eq!(offline.len(), file.tests.len(), "one answer a row");
    let lab = Lab::new();
    let stage = probe::Stage::set_up(&lab, &file);
    lab.apply(&file.policies());
    let mut wrong = Vec::new();
    println!(
        "{name}\n{:44} {:12} {:16} {:10} {:9} {:9} real",
        "", "from", "to", "port", "expected", "offline"
    );
    for (row, offline) in file.tests.iter().zip(&offline) {
        let real = stage.verdict(row);
        let line = format!(
            "{:44} {:12} {:16} {:10} {:9} {:9} {real}",
            row.name, row.from, row.to, row.port, row.expect, offline
        );
        println!("{line}");
        if *offline != row.expect || real != row.expect {
            wrong.push(line);
        }
    }
    assert!(wrong.is_empty(), "{name}: expected, offline and real differ:\n{}", wrong.join("\n"));
}

macro_rules! files {
    ($($test:ident = $file:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            run_file($file);
        })*

        /// A file that nobody runs would be worth nothing.
        #[test]
        fn every_file_is_run() {
            let here: BTreeSet<String> = std::fs::read_dir(directory())
                .expect("testdata/traffic")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.ends_with(".yaml"))
                .collect();
            assert_eq!(here, BTreeSet::from([$($file.to_owned()),*]));
        }
    };
}

files! {
    by_label = "by-label.yaml",
    by_namespace = "by-namespace.yaml",
    expressions = "expressions.yaml",
    leaving = "leaving.yaml",
    lockdown = "lockdown.yaml",
    own_documents = "own-documents.yaml",
    requests = "requests.yaml",
    requests_from_anybody = "requests-from-anybody.yaml",
}
