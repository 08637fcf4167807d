//! What a starting agent reads of an earlier run (endpoints, identities, rules, parted by NUL): whole
//! or damaged, in words that name the file.

use std::{cell::RefCell, fs};

use tempfile::TempDir;

thread_local! {
    static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

pub fn run(data: &[u8]) {
    let folder = FOLDER.take().unwrap_or_else(|| tempfile::tempdir().expect("a folder"));
    let mut parts = data.splitn(3, |octet| *octet == 0);
    let paths = ["endpoints", "identities", "rules"].map(|name| folder.path().join(name));
    for path in &paths {
        match parts.next() {
            Some(part) => fs::write(path, part).expect("room for it"),
            // Of the input before.
            None => drop(fs::remove_file(path)),
        }
    }
    let [endpoints, identities, rules] = paths;
    if let Err(words) = tektin::entrances::read_state(endpoints, identities, rules) {
        assert!(words.contains("is damaged"), "{words}");
    }
    FOLDER.set(Some(folder));
}
