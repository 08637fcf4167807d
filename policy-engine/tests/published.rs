//! Every published example policy, with verdicts derived by hand from the semantics. The examples
//! lie beside the repository; where they do not, there is nothing to test here.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use policy_engine::{
    documents::{Parsed, parse},
    policy_set::Options,
    test_file::run_file,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/policies/published")
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/policies")
}

fn examples_are_here() -> bool {
    let here = examples().is_dir();
    if !here {
        let text = format!("the published examples are not at {}", examples().display());
        // Only a checkout without them beside it may go without; CI has them.
        assert!(std::env::var_os("CI").is_none(), "{text}");
        eprintln!("skipped: {text}");
    }
    here
}

fn yaml_files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.insert(path.canonicalize().unwrap());
        }
    }
    files
}

#[test]
fn verdicts() {
    if !examples_are_here() {
        return;
    }
    let mut rows = 0;
    let mut wrong = Vec::new();
    for file in yaml_files(&folder()) {
        let report = run_file(&file, Options::default()).unwrap_or_else(|error| panic!("{error}"));
        rows += report.rows.len();
        assert!(report.rows.iter().all(|row| row.ok.is_some()), "{}: a row expects nothing", file.display());
        wrong.extend(report.failures().map(|row| format!("{}: {row:?}", file.display())));
    }
    println!("{rows} rows");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 100, "{rows}");
}

#[test]
fn every_example_is_covered() {
    if !examples_are_here() {
        return;
    }
    let mut covered = BTreeSet::new();
    for file in yaml_files(&folder()) {
        let value: serde_json::Value = serde_norway::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for path in value["policies"].as_array().unwrap() {
            covered.insert(folder().join(path.as_str().unwrap()).canonicalize().unwrap());
        }
    }
    assert_eq!(yaml_files(&examples()), covered);
}

/// What no code enforces yet, by example; all others are enforced whole.
const NOT_ENFORCED: [(&str, &[&str]); 5] = [
    ("host/demo-host-policy.yaml", &["spec.nodeSelector: not enforced yet: policies for hosts"]),
    (
        "l3/fqdn/fqdn.yaml",
        &[
            "spec.egress[0].toPorts[0].rules.dns: not enforced yet: DNS rules",
            "spec.egress[1].toFQDNs[0]: not enforced yet: DNS names as peers",
        ],
    ),
    (
        "l3/service/service.yaml",
        &[
            "spec.egress[0].toServices[0]: not enforced yet: Kubernetes services as peers",
            "spec.egress[0].toServices[1]: not enforced yet: Kubernetes services as peers",
        ],
    ),
    ("l4/l4_sni.yaml", &["spec.egress[0].toPorts[0].serverNames: not enforced yet: TLS server names"]),
    (
        "l7/dns/dns.yaml",
        &[
            "spec.egress[0].toPorts[0].rules.dns: not enforced yet: DNS rules",
            "spec.egress[1].toFQDNs[0]: not enforced yet: DNS names as peers",
            "spec.egress[1].toFQDNs[1]: not enforced yet: DNS names as peers",
            "spec.egress[1].toFQDNs[2]: not enforced yet: DNS names as peers",
            "spec.egress[1].toFQDNs[3]: not enforced yet: DNS names as peers",
        ],
    ),
];

#[test]
fn what_is_not_enforced_is_said_precisely() {
    if !examples_are_here() {
        return;
    }
    let mut found = Vec::new();
    for file in yaml_files(&examples()) {
        let name = file.strip_prefix(examples().canonicalize().unwrap()).unwrap().display().to_string();
        let notes: Vec<String> = parse(&fs::read_to_string(&file).unwrap())
            .into_iter()
            .flat_map(|parsed| match parsed {
                Parsed::Policy(document) => document.not_enforced,
                Parsed::Skipped { .. } => Vec::new(),
                Parsed::Invalid(error) => panic!("{name}: {error}"),
            })
            .map(|note| format!("{}: {}", note.path, note.text))
            .collect();
        if !notes.is_empty() {
            found.push((name, notes));
        }
    }
    let expected: Vec<(String, Vec<String>)> = NOT_ENFORCED
        .iter()
        .map(|(file, notes)| ((*file).to_owned(), notes.iter().map(|note| (*note).to_owned()).collect()))
        .collect();
    assert_eq!(expected, found);
}
