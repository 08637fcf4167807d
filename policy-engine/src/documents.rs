//! Policy documents: YAML or JSON text in, [`Document`]s out, or what is wrong and where.
//!
//! The judge of what is valid is the schema of Cilium 1.20's resources and what its agent checks,
//! for NetworkPolicy the Kubernetes API server; stricter where a document would surprise its author.

mod cidr;
mod cilium;
mod cursor;
mod entities;
mod fqdn;
mod http;
mod icmp;
mod kafka;
mod kubernetes;
mod l7;
mod metadata;
mod peers;
mod ports;
mod rule;
mod selector;
mod yaml;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use serde_json::Value;

use self::cursor::{At, Findings};
use crate::model::{Document, DocumentKind};

/// What one document of a text is.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    Policy(Document),
    /// Something else than a policy (Pod, Service, CiliumCIDRGroup, …).
    Skipped {
        /// Counted from 1.
        index: usize,
        kind: String,
        name: Option<String>,
    },
    Invalid(DocumentError),
}

/// A document that is refused, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Counted from 1, over the documents of the text that have content.
    pub index: usize,
    pub kind: Option<String>,
    /// `namespace/name`, or the name alone for a clusterwide policy.
    pub name: Option<String>,
    /// Of a syntax error its line, otherwise the document's first one, counted from 1; unknown for a
    /// document that was no text.
    pub line: Option<usize>,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `spec.ingress[0].toPorts[0].ports[0].port`; empty if it is about the whole document.
    pub path: String,
    /// What is wrong and, where that is clear, what to write instead.
    pub reason: String,
}

impl std::error::Error for DocumentError {}

impl fmt::Display for DocumentError {
    /// A line for each problem: `document 2 (CiliumNetworkPolicy default/web): spec.egress: …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "document {}", self.index)?;
            match (&self.kind, &self.name) {
                (Some(kind), Some(name)) => write!(f, " ({kind} {name})")?,
                (Some(kind), None) => write!(f, " ({kind})")?,
                _ => {}
            }
            f.write_str(": ")?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.reason)?;
        }
        Ok(())
    }
}

/// A document as a JSON value, before anybody asked what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct RawDocument {
    /// Counted from 1.
    pub index: usize,
    /// Its first line, counted from 1.
    pub line: usize,
    pub value: Value,
}

/// Reads the documents of a YAML (or JSON) text as values, in order. Empty ones are left out.
///
/// # Errors
/// Broken syntax, keys that stand twice, tags. A broken document does not spoil the next one.
#[must_use]
pub fn read_values(text: &str) -> Vec<Result<RawDocument, DocumentError>> {
    let chunks = yaml::read(text).into_iter().enumerate();
    chunks
        .map(|(number, chunk)| {
            let (index, line) = (number + 1, chunk.line);
            chunk.value.map(|value| RawDocument { index, line, value }).map_err(|error| {
                let place = match error.column {
                    Some(column) => format!("line {}, column {column}", error.line),
                    None => format!("line {}", error.line),
                };
                let reason = format!("{place}: {}", error.reason);
                let problems = vec![Problem { path: String::new(), reason }];
                DocumentError { index, kind: None, name: None, line: Some(error.line), problems }
            })
        })
        .collect()
}

/// Reads all documents of a text, in order; lists are taken apart.
#[must_use]
pub fn parse(text: &str) -> Vec<Parsed> {
    let mut parsed = Vec::new();
    for raw in read_values(text) {
        // A list counts as as many documents as it has items.
        let index = parsed.len() + 1;
        match raw {
            Ok(raw) => flatten(&raw.value, None, index, Some(raw.line), &mut parsed),
            Err(error) => parsed.push(Parsed::Invalid(DocumentError { index, ..error })),
        }
    }
    parsed
}

/// Reads one document (or a list of them) that stands inside another file. `index` is for messages.
#[must_use]
pub fn parse_value(value: &Value, index: usize) -> Vec<Parsed> {
    let mut parsed = Vec::new();
    flatten(value, None, index, None, &mut parsed);
    parsed
}

/// What the items of a typed list (`CiliumNetworkPolicyList`) leave out.
#[derive(Clone, Copy)]
struct ListType<'v> {
    kind: &'v str,
    api_version: &'v str,
}

/// How deep lists may lie in lists; nobody needs more, and hostile input must not exhaust the stack.
const DEEPEST: usize = 8;

fn flatten(
    value: &Value,
    list: Option<ListType<'_>>,
    index: usize,
    line: Option<usize>,
    parsed: &mut Vec<Parsed>,
) {
    let mut work = vec![(value, list, 0)];
    let mut index = index;
    while let Some((value, list, depth)) = work.pop() {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        let items = match value {
            Value::Array(items) => Some(items),
            _ if kind.ends_with("List") => value.get("items").and_then(Value::as_array),
            _ => None,
        };
        match items {
            Some(items) if depth < DEEPEST => {
                let of = kind.strip_suffix("List").filter(|kind| !kind.is_empty()).map(|kind| ListType {
                    kind,
                    api_version: value.get("apiVersion").and_then(Value::as_str).unwrap_or_default(),
                });
                work.extend(items.iter().rev().map(|item| (item, of, depth + 1)));
            }
            _ => {
                parsed.push(read_document(value, list, index, line));
                index += 1;
            }
        }
    }
}

fn read_document(value: &Value, list: Option<ListType<'_>>, index: usize, line: Option<usize>) -> Parsed {
    let document = At::new(value, "");
    let mut f = Findings::default();
    let head = match metadata::read(&document, list.map(|list| (list.kind, list.api_version)), &mut f) {
        metadata::Head::Policy(head) => head,
        metadata::Head::Other { kind, name } if f.problems.is_empty() => {
            return Parsed::Skipped { index, kind, name };
        }
        metadata::Head::Other { kind, name } => {
            let kind = Some(kind).filter(|kind| !kind.is_empty());
            return Parsed::Invalid(DocumentError { index, kind, name, line, problems: f.problems });
        }
    };
    let id = Arc::new(head);
    let specs = match id.kind {
        DocumentKind::CiliumNetworkPolicy | DocumentKind::CiliumClusterwideNetworkPolicy => {
            cilium::read(&document, &id, &mut f)
        }
        DocumentKind::NetworkPolicy => {
            f.null_is_missing = true;
            kubernetes::read(&document, &id, &mut f).into_iter().collect()
        }
    };
    if f.problems.is_empty() {
        let Findings { warnings, not_enforced, .. } = f;
        return Parsed::Policy(Document { id, specs, warnings, not_enforced });
    }
    let text = id.to_string();
    let (kind, name) = text.split_once(' ').unwrap_or((&text, ""));
    Parsed::Invalid(DocumentError {
        index,
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        line,
        problems: f.problems,
    })
}
