//! The example policies that Cilium publishes, which lie beside the repository.

use std::{fs, path::Path, path::PathBuf};

use crate::documents::{Parsed, parse};

/// From this crate's folder, in which cargo runs its tests.
const EXAMPLES: &str = "../../shared/data/policies";

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("{}: {error}; `shared` must lie beside the repository", folder.display())
    });
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn all_published_examples_parse() {
    // Only a checkout without them beside it may go without; CI has them.
    if !Path::new(EXAMPLES).is_dir() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: the published examples are not at {EXAMPLES}");
        return;
    }
    let mut found = Vec::new();
    files(Path::new(EXAMPLES), &mut found);
    found.sort();
    let (mut policies, mut skipped, mut not_enforced) = (0, 0, Vec::new());
    for file in &found {
        let name = file.strip_prefix(EXAMPLES).unwrap().display();
        for parsed in parse(&fs::read_to_string(file).unwrap()) {
            match parsed {
                Parsed::Policy(document) => {
                    policies += 1;
                    assert!(document.warnings.is_empty(), "{name}: {:?}", document.warnings);
                    if !document.not_enforced.is_empty() {
                        not_enforced.push(name.to_string());
                    }
                }
                Parsed::Skipped { .. } => skipped += 1,
                Parsed::Invalid(error) => panic!("{name}: {error}"),
            }
        }
    }
    assert_eq!((found.len(), policies, skipped), (39, 38, 13));
    assert_eq!(
        not_enforced,
        [
            "host/demo-host-policy.yaml",
            "l3/fqdn/fqdn.yaml",
            "l3/service/service.yaml",
            "l4/l4_sni.yaml",
            "l7/dns/dns.yaml",
        ]
    );
}
