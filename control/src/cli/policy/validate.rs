//! `tektin policy validate`.

use std::path::{Path, PathBuf};

use clap::Args;
use policy_engine::{
    documents::{self, Parsed},
    model::Note,
};
use serde::Serialize;

use super::files;
use crate::cli::{
    error::CliError,
    output::{Format, Out, tell},
    style::printable,
};

/// Check documents, offline
///
/// Prints one line a document: whether it is valid, refused and why, or valid but not enforced yet
/// in some part (which `policy apply` refuses). Documents of other kinds are skipped. Warnings about
/// what is legal and probably not meant go to standard error.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes:
  0  no document is refused
  1  one is, or a file cannot be read

Examples:
  tektin policy validate web.yaml
  tektin policy validate --strict policies/
  tektin policy validate policies/ --output json | jq 'select(.result == \"refused\")'")]
pub struct Validate {
    /// Files or directories; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Count as refused what is not enforced yet, as `policy apply` does
    #[arg(long)]
    strict: bool,
}

/// What is said of a document.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Line {
    file: String,
    /// Counted from 1; 0: the file itself.
    index: usize,
    /// `CiliumNetworkPolicy default/web`, or as much as is known.
    document: String,
    result: Outcome,
    problems: Vec<Reason>,
    warnings: Vec<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Valid,
    NotEnforced,
    Skipped,
    Refused,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reason {
    path: String,
    reason: String,
}

impl Reason {
    fn of(notes: Vec<Note>) -> Vec<Self> {
        notes.into_iter().map(|note| Self { path: note.path, reason: note.text }).collect()
    }

    fn text(&self) -> String {
        if self.path.is_empty() { self.reason.clone() } else { format!("{}: {}", self.path, self.reason) }
    }
}

impl Validate {
    pub fn run(self, out: &Out) -> Result<(), CliError> {
        let mut any_refused = false;
        for path in files::expand(&self.files)? {
            for line in check(&path) {
                any_refused |=
                    line.result == Outcome::Refused || (self.strict && line.result == Outcome::NotEnforced);
                show(&line, out)?;
            }
        }
        if any_refused { Err(CliError::Told) } else { Ok(()) }
    }
}

fn check(path: &Path) -> Vec<Line> {
    let source = match files::read(path) {
        Ok(source) => source,
        Err(error) => {
            let problems = vec![Reason { path: String::new(), reason: error.reason() }];
            return vec![Line {
                file: path.display().to_string(),
                index: 0,
                document: String::new(),
                result: Outcome::Refused,
                problems,
                warnings: Vec::new(),
            }];
        }
    };
    let parsed = documents::parse(&source.text);
    if parsed.is_empty() {
        tell(&format!("warning: {}: no documents", source.name));
    }
    parsed.into_iter().enumerate().map(|(number, parsed)| line(&source.name, number + 1, parsed)).collect()
}

fn line(file: &str, index: usize, parsed: Parsed) -> Line {
    let line = |index, document, result, problems, warnings| Line {
        file: file.to_owned(),
        index,
        document,
        result,
        problems,
        warnings,
    };
    match parsed {
        Parsed::Policy(document) => {
            let result = if document.not_enforced.is_empty() { Outcome::Valid } else { Outcome::NotEnforced };
            let (problems, warnings) = (Reason::of(document.not_enforced), Reason::of(document.warnings));
            line(index, document.id.to_string(), result, problems, warnings)
        }
        Parsed::Skipped { index, kind, name } => {
            let document = name.map_or_else(|| kind.clone(), |name| format!("{kind} {name}"));
            let problems = vec![Reason { path: String::new(), reason: "not a policy".to_owned() }];
            line(index, document, Outcome::Skipped, problems, Vec::new())
        }
        Parsed::Invalid(error) => {
            let document: Vec<_> = [error.kind, error.name].into_iter().flatten().collect();
            let problems = error
                .problems
                .into_iter()
                .map(|problem| Reason { path: problem.path, reason: problem.reason });
            line(error.index, document.join(" "), Outcome::Refused, problems.collect(), Vec::new())
        }
    }
}

fn show(line: &Line, out: &Out) -> Result<(), CliError> {
    if out.format == Format::Json {
        return out.json_line(line);
    }
    for warning in &line.warnings {
        tell(&format!("warning: {}: {}: {}", line.file, line.document, printable(&warning.text())));
    }
    // Padded before it is coloured, so that columns meet.
    let result = match line.result {
        Outcome::Valid => out.style.good("valid       "),
        Outcome::NotEnforced => out.style.note("not-enforced"),
        Outcome::Skipped => "skipped     ".to_owned(),
        Outcome::Refused => out.style.bad("refused     "),
    };
    let document = match (line.index, line.document.as_str()) {
        (0, _) => String::new(),
        (index, "") => format!(": document {index}"),
        (index, document) => format!(": document {index} {document}"),
    };
    let reasons: Vec<_> = line.problems.iter().map(Reason::text).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
    let reasons = reasons.replace('\n', "; ");
    out.line(&format!("{result} {}{}", printable(&line.file), printable(&format!("{document}{reasons}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(text: &str) -> Vec<(usize, Outcome)> {
        documents::parse(text)
            .into_iter()
            .enumerate()
            .map(|(n, parsed)| {
                let line = line("f", n + 1, parsed);
                (line.index, line.result)
            })
            .collect()
    }

    #[test]
    fn each_document_has_its_own_result() {
        let text = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: good}
spec: {endpointSelector: {}, ingress: [{}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: bad}
spec: {endpointSelector: {}, ingres: [{}]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: later}
spec: {endpointSelector: {}, egress: [{toFQDNs: [{matchName: a.example}]}]}
"#;
        let expected =
            [(1, Outcome::Valid), (2, Outcome::Skipped), (3, Outcome::Refused), (4, Outcome::NotEnforced)];
        assert_eq!(results(text), expected);
    }
}
