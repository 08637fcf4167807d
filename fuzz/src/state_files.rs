//! What a starting agent reads of an earlier run (endpoints, identities, rules, parted by NUL): whole
//! or damaged, in words that name the file.

pub fn run(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let parts: Vec<&[u8]> = data.splitn(3, |octet| *octet == 0).collect();
    let [endpoints, identities, rules] =
        ["endpoints", "identities", "rules"].map(|name| folder.path().join(name));
    for (path, part) in [&endpoints, &identities, &rules].into_iter().zip(&parts) {
        std::fs::write(path, part).expect("room for it");
    }
    if let Err(words) = tektin::entrances::read_state(endpoints, identities, rules) {
        assert!(words.contains("is damaged"), "{words}");
    }
}
