//! `tektin identity`.

use clap::{Args, Subcommand};
use comfy_table::Cell;

use super::{
    client::{Client, filled},
    error::CliError,
    output::{Out, cell, or_dash},
};
use crate::api::{Identity, IdentityKind, route};

/// Security identities: numbers for sets of labels
#[derive(Args, Debug)]
pub struct IdentityCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Get(Get),
}

/// All identities that this node knows
#[derive(Args, Debug)]
struct List {}

/// One identity
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tektin identity get 256\n  tektin identity get 2 --output json")]
struct Get {
    /// Its number
    id: u32,
}

impl IdentityCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        match self.command {
            Command::List(_) => {
                let identities: Vec<Identity> = client.get(route::IDENTITIES).await?;
                out.list(&identities, &["ID", "KIND", "ENDPOINTS", "LABELS"], "No identities.", |identity| {
                    vec![
                        cell(identity.id),
                        cell(kind(identity.kind)),
                        cell(identity.endpoints.len()),
                        cell(identity.labels.join(" ")),
                    ]
                })
            }
            Command::Get(get) => {
                let identity: Identity = client.get(&filled(route::IDENTITY, &get.id.to_string())).await?;
                out.item(&identity, fields(&identity))
            }
        }
    }
}

fn fields(identity: &Identity) -> Vec<(&'static str, Cell)> {
    let ports: Vec<_> = identity.named_ports.iter().map(|(name, port)| format!("{name}={port}")).collect();
    let or_none = |lines: String| or_dash(Some(lines).filter(|lines| !lines.is_empty()));
    vec![
        ("ID", cell(identity.id)),
        ("Kind", cell(kind(identity.kind))),
        ("Labels", cell(or_none(identity.labels.join("\n")))),
        ("Named ports", cell(or_none(ports.join(", ")))),
        ("Endpoints", cell(or_none(identity.endpoints.join("\n")))),
    ]
}

fn kind(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Reserved => "reserved",
        IdentityKind::Workload => "workload",
        IdentityKind::Cidr => "cidr",
    }
}
