//! `tektin policy get`.

use clap::Args;

use super::delete::SelectorArgs;
use crate::{
    api::{PolicyDocument, route},
    cli::{
        client::Client,
        error::CliError,
        output::{Format, Out, cell, or_dash},
    },
};

/// The documents in force
///
/// A table of them, or with --text (and in JSON) their texts too.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin policy get
  tektin policy get default/web --text
  tektin policy get --kind NetworkPolicy --output json")]
pub struct Get {
    #[command(flatten)]
    selector: SelectorArgs,
    /// Print the documents themselves, as YAML or JSON as they were given
    #[arg(long)]
    text: bool,
}

impl Get {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        let named = self.selector.name.is_some() || self.selector.named.is_some();
        let documents: Vec<PolicyDocument> = client.get(&self.selector.path(route::POLICIES)?).await?;
        if named && documents.is_empty() {
            return Err(CliError::Failed("no such document is in force".to_owned()));
        }
        if self.text && out.format != Format::Json {
            return documents.iter().try_for_each(|document| {
                out.line("---")?;
                out.line(document.text.trim_start_matches("---\n").trim_end())
            });
        }
        let columns = ["KIND", "NAMESPACE", "NAME", "ENDPOINTS", "SOURCE"];
        out.list(&documents, &columns, "No policy is in force: everything may pass.", |document| {
            vec![
                cell(&document.kind),
                cell(or_dash(Some(&document.namespace).filter(|namespace| !namespace.is_empty()))),
                cell(&document.name),
                cell(document.endpoints.len()),
                cell(&document.source),
            ]
        })
    }
}
