//! CiliumCIDRGroup documents of a test file. Nothing enforces them yet; the file says what is in
//! them, so their rules can be answered: each reference is replaced by the group's prefixes.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::TestFileError;

#[derive(Default)]
pub(super) struct CidrGroups(BTreeMap<String, Vec<IpNet>>);

impl CidrGroups {
    pub(super) fn is_group(kind: &str) -> bool {
        kind == "CiliumCIDRGroup"
    }

    pub(super) fn collect<'a>(
        values: impl Iterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Self, TestFileError> {
        let mut groups = Self::default();
        for (source_name, value) in values {
            if value["kind"].as_str().is_some_and(Self::is_group) {
                let (name, prefixes) =
                    read(value).map_err(|reason| TestFileError::format(source_name, reason))?;
                groups.0.insert(name, prefixes);
            }
        }
        Ok(groups)
    }

    /// Puts prefixes where a policy names a group that is known.
    pub(super) fn resolve(&self, value: &mut Value, notes: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, field) in fields {
                    match field {
                        Value::Array(items) if key == "fromCIDRSet" || key == "toCIDRSet" => {
                            *items = items.drain(..).flat_map(|item| self.expand(item, notes)).collect();
                        }
                        _ => self.resolve(field, notes),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.resolve(item, notes)),
            _ => {}
        }
    }

    fn expand(&self, item: Value, notes: &mut Vec<String>) -> Vec<Value> {
        let group = item["cidrGroupRef"].as_str().and_then(|name| Some((name, self.0.get(name)?)));
        let Some((name, prefixes)) = group else {
            return vec![item];
        };
        notes.push(format!("cidrGroupRef {name}: CIDR groups are answered offline only, not enforced yet"));
        let except: Vec<IpNet> = item["except"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str()?.parse().ok())
            .collect();
        prefixes
            .iter()
            .filter(|prefix| !except.iter().any(|hole| hole.contains(*prefix)))
            .map(|prefix| {
                let inside: Vec<&IpNet> = except.iter().filter(|hole| prefix.contains(*hole)).collect();
                json!({"cidr": prefix, "except": inside})
            })
            .collect()
    }
}

fn read(value: &Value) -> Result<(String, Vec<IpNet>), String> {
    let name = value["metadata"]["name"].as_str().ok_or("a CiliumCIDRGroup without metadata.name")?;
    let prefixes = value["spec"]["externalCIDRs"].as_array().ok_or("spec.externalCIDRs is no list")?;
    let prefix = |item: &Value| {
        let text = item.as_str().unwrap_or_default();
        text.parse::<IpNet>()
            .map(|net| net.trunc())
            .map_err(|_| format!("spec.externalCIDRs: {item} is no CIDR"))
    };
    Ok((name.to_owned(), prefixes.iter().map(prefix).collect::<Result<_, _>>()?))
}
