//! Replays what Cilium's own engine answered (testdata/policies/README.md says how it was asked).

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use policy_engine::{policy_set::Options, test_file};
use serde::Deserialize;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/policies").join(name)
}

/// A verdict that differs from Cilium's on purpose.
#[derive(Deserialize)]
struct Difference {
    /// Of `files.jsonl`, counted from 1.
    line: usize,
    /// Counted from 0.
    test: usize,
    cilium: String,
    tektin: String,
    reason: String,
}

/// What a replay found: tests by verdict, and tests with a wanted difference by reason.
struct Replayed {
    files: usize,
    same: BTreeMap<&'static str, usize>,
    wanted: BTreeMap<String, usize>,
}

#[test]
fn cilium_agrees_on_what_was_generated() {
    let Replayed { files, same, wanted } = replay(&folder("cilium-corpus"));
    assert!(wanted.keys().all(|reason| reason == "two-parsers"), "{wanted:?}");
    assert!(files >= 300);
    assert!(same.values().all(|count| *count > 500), "{same:?}");
}

#[test]
fn cilium_agrees_on_what_was_written_by_hand() {
    let Replayed { files, same, wanted } = replay(&folder("cilium-features"));
    assert!(wanted.is_empty(), "{wanted:?}");
    assert!(files >= 20);
    assert!(same.values().all(|count| *count > 50), "{same:?}");
}

fn replay(folder: &Path) -> Replayed {
    let differences = fs::read_to_string(folder.join("differences.jsonl")).unwrap();
    let mut differences: HashMap<(usize, usize), Difference> = differences
        .lines()
        .map(|line| serde_json::from_str::<Difference>(line).unwrap())
        .map(|difference| ((difference.line, difference.test), difference))
        .collect();
    let files = fs::read_to_string(folder.join("files.jsonl")).unwrap();
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (number, text) in files.lines().enumerate() {
        let line = number + 1;
        let report = test_file::run(text, Path::new(""), Options::default())
            .unwrap_or_else(|error| panic!("line {line}: {error}"));
        for (test, row) in report.rows.iter().enumerate() {
            match row.ok {
                Some(true) => *counts.entry(row.verdict).or_default() += 1,
                Some(false) => wrong.push(format!("line {line} test {test}: {row:?}")),
                None => {
                    let difference = differences
                        .remove(&(line, test))
                        .unwrap_or_else(|| panic!("line {line} test {test}: nothing is expected"));
                    assert_eq!(difference.tektin, row.verdict, "line {line} test {test}");
                    assert_ne!(difference.cilium, row.verdict, "line {line} test {test}");
                    *wanted.entry(difference.reason).or_default() += 1;
                }
            }
        }
    }
    println!("{} files; same as Cilium: {counts:?}; wanted differences: {wanted:?}", files.lines().count());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(differences.is_empty(), "the table names tests that are not there");
    Replayed { files: files.lines().count(), same: counts, wanted }
}
