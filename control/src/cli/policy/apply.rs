//! `tektin policy apply`.

use std::path::PathBuf;

use clap::Args;

use super::files;
use crate::{
    api::{ApplyRequest, ApplyResult, Change, PolicySource, route},
    cli::{
        client::Client,
        error::CliError,
        output::{Format, Out, Tone, cell, tell, toned},
    },
};

/// Put documents in force
///
/// All documents of all files, or none: where one is refused, the policy in force stays as it is.
/// When the command returns, kernel and proxy judge by the new policy.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin policy apply web.yaml db.yaml
  tektin policy apply policies/
  kubectl get cnp web -o yaml | tektin policy apply -")]
pub struct Apply {
    /// Files or directories; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Apply {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        let mut sources = Vec::new();
        for path in files::expand(&self.files)? {
            let source = files::read(&path)?;
            sources.push(PolicySource { name: source.name, text: source.text });
        }
        let result: ApplyResult = client.post(route::POLICIES, &ApplyRequest { sources }).await?;
        show(&result, out)
    }
}

/// What changed; warnings go to standard error.
pub fn show(result: &ApplyResult, out: &Out) -> Result<(), CliError> {
    if out.format == Format::Json {
        return out.json(result);
    }
    for document in &result.documents {
        for warning in &document.warnings {
            tell(&format!("warning: {}: {warning}", document.document));
        }
    }
    out.list(&result.documents, &["DOCUMENT", "CHANGE", "ENDPOINTS"], "No documents.", |document| {
        let change = match document.change {
            Change::Created => toned("created", Tone::Good),
            Change::Updated => toned("updated", Tone::Good),
            Change::Unchanged => cell("unchanged"),
            Change::Deleted => toned("deleted", Tone::Note),
        };
        vec![cell(&document.document), change, cell(document.endpoints)]
    })
}
