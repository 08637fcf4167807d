//! What a lab must not leave behind.

use std::{collections::BTreeSet, fs, process::Command, time::Duration};

use super::{LIMIT, Lab, process::run};

/// What of Tektin there is in the namespace that the tests themselves run in. Tests never start an
/// agent there, so nothing of it may come or go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RootState(BTreeSet<String>);

impl RootState {
    pub(super) fn now() -> Self {
        let mut lines = BTreeSet::new();
        for args in [
            &["ip", "-o", "link", "show"][..],
            &["ip", "rule", "show"],
            &["ip", "-6", "rule", "show"],
            &["ip", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["nft", "list", "tables"],
        ] {
            let mut command = Command::new(args[0]);
            command.args(&args[1..]);
            let shown = run(command, LIMIT).stdout;
            lines.extend(shown.lines().filter(|l| is_ours(l)).map(str::to_owned));
        }
        Self(lines)
    }
}

/// The machine's own business (a container that comes or goes) is none of ours.
fn is_ours(line: &str) -> bool {
    ["tek", "uplink", "/0xf00", "table 2004", "table 2005"].iter().any(|word| line.contains(word))
}

/// Names of everything that is still there after a lab's end.
pub(super) fn of(lab: &Lab) -> Vec<String> {
    // A killed process may take a moment until it has left /proc, a namespace until it is gone.
    let mut left = Vec::new();
    for _ in 0..100 {
        left = remains(lab);
        if left.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    left
}

fn remains(lab: &Lab) -> Vec<String> {
    let mut left = by_name(&lab.tag);
    if lab.pin_dir().exists() {
        left.push(format!("pins in {}", lab.pin_dir().display()));
    }
    if lab.dir().exists() {
        left.push(format!("directory {}", lab.dir().display()));
    }
    let root = RootState::now();
    let new: Vec<_> = root.0.symmetric_difference(&lab.root_before.0).collect();
    if !new.is_empty() {
        left.push(format!("changed in the root namespace: {new:?}"));
    }
    left
}

/// Namespaces, pins and processes whose name or command line carries `tag`.
pub fn by_name(tag: &str) -> Vec<String> {
    let mut left = Vec::new();
    let belongs = |name: &str| name == tag || name.starts_with(&format!("{tag}-"));
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if belongs(&name) {
            left.push(format!("namespace {name}"));
        }
    }
    for entry in fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix("tektin-test-").is_some_and(belongs) {
            left.push(format!("pins {name}"));
        }
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // Directories and namespaces of a lab are called TAG-SOMETHING.
        if line.contains(&format!("{tag}-")) {
            left.push(format!("process {} ({line})", entry.file_name().to_string_lossy()));
        }
    }
    left
}
