//! CiliumCIDRGroup documents of a test file. Nothing enforces them yet; the file says what is in
//! them, so their rules can be answered: each reference is replaced by the group's prefixes.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::TestFileError;
use crate::{
    documents,
    identity::{Identity, NamedPorts},
    labels::{LabelKey, Labels},
};

#[derive(Default)]
pub(super) struct CidrGroups(BTreeMap<String, Group>);

struct Group {
    /// An identity of the group's own labels alone, for selectors.
    labels: Identity,
    prefixes: Vec<IpNet>,
}

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
                let (name, group) =
                    read(value).map_err(|reason| TestFileError::format(source_name, reason))?;
                if groups.0.insert(name.clone(), group).is_some() {
                    let reason = format!("CiliumCIDRGroup {name} stands twice");
                    return Err(TestFileError::format(source_name, reason));
                }
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
        let named = item["cidrGroupRef"].as_str().and_then(|name| self.0.get_key_value(name));
        let selector = documents::read_selector(&item["cidrGroupSelector"]);
        let selected = self.0.iter().filter(|(_, g)| selector.as_ref().is_some_and(|s| s.matches(&g.labels)));
        let groups: Vec<(&String, &Group)> = named.into_iter().chain(selected).collect();
        // What is wrong with the item, or that nobody knows the group, is told when it is read.
        if groups.is_empty() || (named.is_some() && selector.is_some()) {
            return vec![item];
        }
        for (name, _) in &groups {
            notes.push(format!("CIDR group {name}: answered offline only, not enforced yet"));
        }
        let except: Vec<IpNet> = item["except"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str()?.parse().ok())
            .collect();
        groups
            .iter()
            .flat_map(|(_, group)| &group.prefixes)
            .filter(|prefix| !except.iter().any(|hole| hole.contains(*prefix)))
            .map(|prefix| {
                let inside: Vec<&IpNet> = except.iter().filter(|hole| prefix.contains(*hole)).collect();
                json!({"cidr": prefix, "except": inside})
            })
            .collect()
    }
}

fn read(value: &Value) -> Result<(String, Group), String> {
    let name = value["metadata"]["name"].as_str().ok_or("a CiliumCIDRGroup without metadata.name")?;
    let prefixes = value["spec"]["externalCIDRs"].as_array().ok_or("spec.externalCIDRs is no list")?;
    let prefix = |item: &Value| {
        let text = item.as_str().unwrap_or_default();
        text.parse::<IpNet>()
            .map(|net| net.trunc())
            .map_err(|_| format!("spec.externalCIDRs: {item} is no CIDR"))
    };
    let mut labels = Labels::default();
    for (key, text) in value["metadata"]["labels"].as_object().into_iter().flatten() {
        labels.insert(LabelKey::k8s(key), text.as_str().unwrap_or_default());
    }
    let prefixes = prefixes.iter().map(prefix).collect::<Result<_, _>>()?;
    Ok((name.to_owned(), Group { labels: Identity::workload(0, labels, NamedPorts::default()), prefixes }))
}
