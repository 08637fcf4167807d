//! Every committed input through its target, on the ordinary compiler.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use tektin_fuzz::TARGETS;

/// What a bad input is called, and its octets.
type Input = (String, Vec<u8>);

fn here(place: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(place)
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(here(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Those written by hand, a file each, and those that the fuzzer found, a line each.
fn inputs(target: &str) -> Vec<Input> {
    let seeds = format!("seeds/{target}");
    let mut inputs: Vec<Input> = names(&seeds)
        .into_iter()
        .map(|name| {
            let place = format!("{seeds}/{name}");
            let octets = fs::read(here(&place)).expect("a seed that can be read");
            (place, octets)
        })
        .collect();
    let corpus = format!("corpus/{target}.txt");
    let lines = fs::read_to_string(here(&corpus)).unwrap_or_else(|error| panic!("{corpus}: {error}"));
    for (number, line) in lines.lines().enumerate() {
        inputs.push((format!("{corpus}:{}", number + 1), octets(line)));
    }
    inputs
}

/// A line of a corpus: ASCII as it is, `\n`, `\r`, `\t`, `\\`, all else as `\xNN`.
fn octets(line: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = line.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'\\' => match rest.next().expect("an escape") {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'\\' => b'\\',
                b'x' => {
                    let mut digit =
                        || char::from(rest.next().unwrap_or_default()).to_digit(16).expect("a digit") as u8;
                    digit() << 4 | digit()
                }
                other => panic!("unknown escape {other}"),
            },
            other => other,
        });
    }
    octets
}

#[test]
fn every_committed_input() {
    let mut bad = Vec::new();
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        assert!(inputs.len() >= 10, "{name} has only {} inputs", inputs.len());
        for (place, octets) in inputs {
            if catch_unwind(AssertUnwindSafe(|| target(&octets))).is_err() {
                bad.push(place);
            }
        }
    }
    assert!(bad.is_empty(), "inputs that a target does not stand: {bad:#?}");
}

/// A target that libFuzzer, `make fuzz` or the replay does not know would be one that nobody runs.
#[test]
fn every_target_is_known_everywhere() {
    let mut targets: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    let with = |end: &str| targets.iter().map(|name| format!("{name}{end}")).collect::<Vec<_>>();
    assert_eq!(with(".rs"), names("fuzz_targets"));
    assert_eq!(targets, names("seeds"));
    assert_eq!(with(".txt"), names("corpus"));
    let manifest =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("the manifest");
    for name in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no program");
    }
}
