//! A policy test file: refused with a place, or a row for every test, the same each time.

use std::path::Path;

use policy_engine::{
    documents::read_values,
    policy_set::Options,
    test_file::{Protocols, run_with},
};
use serde_json::Value;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if reads_files(text) {
        return;
    }
    let path_form = |path: &str| match l7_parsers::path::normalize(path) {
        Ok(normal) => Ok(normal.into_owned()),
        Err(error) => Err(error.to_string()),
    };
    let protocols = Protocols { path_form, kafka: tektin::entrances::judge_kafka };
    let report = match run_with(text, Path::new("/nowhere"), Options::default(), protocols) {
        Ok(report) => report,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for row in &report.rows {
        assert!(["allow", "deny", "redirect"].contains(&row.verdict));
        let denied = [row.egress, row.ingress].contains(&"deny");
        assert_eq!(
            row.verdict == "deny",
            denied || row.verdict == "deny" && row.rule.contains("rule matches")
        );
        assert_eq!(row.expect.as_deref().map(|expect| expect == row.verdict), row.ok);
        assert!(!row.rule.is_empty());
    }
    assert_eq!(run_with(text, Path::new("/nowhere"), Options::default(), protocols).ok(), Some(report));
}

/// Policies by path are the file system's.
fn reads_files(text: &str) -> bool {
    read_values(text).into_iter().flatten().any(|raw| {
        let policies = raw.value.get("policies").and_then(Value::as_array);
        policies.is_some_and(|policies| policies.iter().any(|policy| !policy.is_object()))
    })
}
