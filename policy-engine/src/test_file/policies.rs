//! The policies of a test file: inline ones, and files beside it.

use std::path::Path;

use serde_json::Value;

use super::{TestFileError, cidr_groups::CidrGroups, format};
use crate::{
    documents::{self, Parsed},
    model::Subject,
    policy_set::{Options, PolicySet},
};

pub(super) struct Loaded {
    pub(super) set: PolicySet,
    pub(super) notes: Vec<String>,
    /// Some policy is about the host itself, which makes it a policed end.
    pub(super) polices_host: bool,
    /// The texts of policies that came by path.
    pub(super) texts: Vec<String>,
}

/// A document, and what to call the place it came from.
struct Raw {
    source_name: String,
    index: usize,
    value: Value,
}

pub(super) fn load(entries: &[Value], folder: &Path, options: Options) -> Result<Loaded, TestFileError> {
    let mut loaded =
        Loaded { set: PolicySet::new(options), notes: Vec::new(), polices_host: false, texts: Vec::new() };
    let mut raws = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match entry {
            Value::String(path) => {
                for raw in read_path(&folder.join(path), path)? {
                    format::collect_texts(&raw.value, &mut loaded.texts);
                    raws.push(raw);
                }
            }
            Value::Object(_) => {
                raws.push(Raw { source_name: format!("policies[{index}]"), index: 1, value: entry.clone() });
            }
            _ => {
                let reason = "is neither a policy nor the path of a file with policies";
                return Err(TestFileError::format(format!("policies[{index}]"), reason));
            }
        }
    }
    let groups = CidrGroups::collect(raws.iter().map(|raw| (raw.source_name.as_str(), &raw.value)))?;
    for raw in raws {
        loaded.add(raw, &groups)?;
    }
    Ok(loaded)
}

fn read_path(path: &Path, name: &str) -> Result<Vec<Raw>, TestFileError> {
    documents::read_values(&super::read(path)?)
        .into_iter()
        .map(|document| match document {
            Ok(raw) => Ok(Raw { source_name: name.to_owned(), index: raw.index, value: raw.value }),
            Err(error) => Err(TestFileError::Refused { source_name: name.to_owned(), error }),
        })
        .collect()
}

impl Loaded {
    fn add(&mut self, mut raw: Raw, groups: &CidrGroups) -> Result<(), TestFileError> {
        groups.resolve(&mut raw.value, &mut self.notes);
        for parsed in documents::parse_value(&raw.value, raw.index) {
            match parsed {
                Parsed::Policy(document) => {
                    for note in &document.not_enforced {
                        self.notes.push(format!("{}: {}: {}", document.id, note.path, note.text));
                    }
                    self.polices_host |=
                        document.specs.iter().any(|spec| matches!(spec.subject, Subject::Nodes(_)));
                    if let Some(other) = self.set.upsert(document) {
                        let reason = format!("{} stands twice", other.id);
                        return Err(TestFileError::format(raw.source_name, reason));
                    }
                }
                Parsed::Skipped { kind, .. } if CidrGroups::is_group(&kind) => {}
                Parsed::Skipped { kind, name, .. } => {
                    let name = name.unwrap_or_default();
                    self.notes.push(format!("{}: {kind} {name} is no policy", raw.source_name));
                }
                Parsed::Invalid(error) => {
                    return Err(TestFileError::Refused { source_name: raw.source_name, error });
                }
            }
        }
        Ok(())
    }
}
