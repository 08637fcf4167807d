//! Policy documents: YAML or JSON text in, [`Document`]s out, or what is wrong and where.
//!
//! The judge of what is valid is the schema of Cilium 1.20's resources and what its agent checks,
//! for NetworkPolicy the Kubernetes API server; stricter where a document would surprise its author.

mod cidr;
mod cilium;
mod cursor;
mod entities;
mod fqdn;
mod grpc;
mod http;
mod icmp;
mod kafka;
mod kubernetes;
mod l7;
mod locate;
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

use self::{
    cursor::{At, Findings},
    locate::{Source, Step},
    yaml::SyntaxError,
};
use crate::model::{Document, DocumentKind, Selector};

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
    /// Line of the first problem, counted from 1; unknown for a document that was no text.
    pub line: Option<usize>,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `spec.ingress[0].toPorts[0].ports[0].port`; empty if it is about the whole document.
    pub path: String,
    /// Counted from 1, over the whole text.
    pub line: Option<usize>,
    /// What is wrong and, where that is clear, what to write instead.
    pub reason: String,
}

impl std::error::Error for DocumentError {}

impl fmt::Display for DocumentError {
    /// A line for each problem:
    /// `document 2 (CiliumNetworkPolicy default/web): spec.egress: is a string; … (line 14)`.
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
            // About a whole text that is none, the reason itself names the line.
            if let Some(line) = problem.line.filter(|_| !problem.path.is_empty()) {
                write!(f, " (line {line})")?;
            }
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
            let (index, line) = (number + 1, chunk.source.first_line);
            chunk.value.map(|value| RawDocument { index, line, value }).map_err(|e| syntax_error(e, index))
        })
        .collect()
}

fn syntax_error(error: SyntaxError, index: usize) -> DocumentError {
    let column = error.column.map(|column| format!(", column {column}")).unwrap_or_default();
    let reason = format!("line {}{column}: {}", error.line, error.reason);
    let line = Some(error.line);
    let problems = vec![Problem { path: String::new(), line, reason }];
    DocumentError { index, kind: None, name: None, line, problems }
}

/// Reads all documents of a text, in order; lists are taken apart.
#[must_use]
pub fn parse(text: &str) -> Vec<Parsed> {
    parse_with_values(text).into_iter().map(|(parsed, _)| parsed).collect()
}

/// As [`parse`], each with its own value, to be kept or shown again: `None` where the syntax is broken.
#[must_use]
pub fn parse_with_values(text: &str) -> Vec<(Parsed, Option<Value>)> {
    let mut parsed = Vec::new();
    for chunk in yaml::read(text) {
        // A list counts as as many documents as it has items.
        let index = parsed.len() + 1;
        match chunk.value {
            Ok(value) => {
                flatten(&value, index, Some(&chunk.source), |document, value| {
                    parsed.push((document, Some(value.clone())));
                });
            }
            Err(error) => parsed.push((Parsed::Invalid(syntax_error(error, index)), None)),
        }
    }
    parsed
}

/// Reads one document (or a list of them) that stands inside another file. `index` is for messages.
#[must_use]
pub fn parse_value(value: &Value, index: usize) -> Vec<Parsed> {
    let mut parsed = Vec::new();
    flatten(value, index, None, |document, _| parsed.push(document));
    parsed
}

/// A label selector that stands outside a policy; `None` where it is none.
pub(crate) fn read_selector(value: &Value) -> Option<Selector> {
    let mut f = Findings::default();
    let selector = selector::read(&At::new(value, ""), selector::Dialect::Cilium, &mut f);
    f.problems.is_empty().then_some(selector)
}

/// What the items of a typed list (`CiliumNetworkPolicyList`) leave out.
#[derive(Clone, Copy)]
struct ListType<'v> {
    kind: &'v str,
    api_version: &'v str,
}

/// How deep lists may lie in lists; nobody needs more, and hostile input must not exhaust the stack.
const DEEPEST: usize = 8;

/// Problems whose line is looked up; each look-up reads the text again.
const MOST_LINES: usize = 20;

fn flatten(value: &Value, index: usize, source: Option<&Source<'_>>, mut found: impl FnMut(Parsed, &Value)) {
    let mut index = index;
    let mut work = vec![(value, None, Vec::new())];
    while let Some((value, list, trail)) = work.pop() {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        let (items, field) = match value {
            Value::Array(items) => (Some(items), None),
            _ if kind.ends_with("List") => (value.get("items").and_then(Value::as_array), Some("items")),
            _ => (None, None),
        };
        if let Some(items) = items
            && trail.len() < 2 * DEEPEST
        {
            let of = kind.strip_suffix("List").filter(|kind| !kind.is_empty()).map(|kind| ListType {
                kind,
                api_version: value.get("apiVersion").and_then(Value::as_str).unwrap_or_default(),
            });
            for (number, item) in items.iter().enumerate().rev() {
                let mut trail: Vec<Step> = trail.clone();
                trail.extend(field.map(|field| Step::Key(field.to_owned())));
                trail.push(Step::Index(number));
                work.push((item, of, trail));
            }
            continue;
        }
        let mut document = read_document(value, list, index);
        if let (Parsed::Invalid(error), Some(source)) = (&mut document, source) {
            let source = Source { trail, ..source.clone() };
            for problem in error.problems.iter_mut().take(MOST_LINES) {
                problem.line = source.line_of(&problem.path);
            }
            error.line = error.problems.iter().filter_map(|problem| problem.line).next();
        }
        found(document, value);
        index += 1;
    }
}

fn read_document(value: &Value, list: Option<ListType<'_>>, index: usize) -> Parsed {
    let document = At::new(value, "");
    let mut f = Findings::default();
    let head = match metadata::read(&document, list.map(|list| (list.kind, list.api_version)), &mut f) {
        metadata::Head::Policy(head) => head,
        metadata::Head::Other { kind, name } if f.problems.is_empty() => {
            return Parsed::Skipped { index, kind, name };
        }
        metadata::Head::Other { kind, name } => {
            let kind = Some(kind).filter(|kind| !kind.is_empty());
            return Parsed::Invalid(DocumentError { index, kind, name, line: None, problems: f.problems });
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
        line: None,
        problems: f.problems,
    })
}
