//! `tektin ipcache`.

use clap::{Args, Subcommand};

use super::{
    client::Client,
    endpoint::own_labels,
    error::CliError,
    output::{Out, cell, or_dash},
};
use crate::api::{IpcacheEntry, route};

/// Which address has which identity
#[derive(Args, Debug)]
pub struct IpcacheCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
}

/// All prefixes; the longest one that covers an address decides
#[derive(Args, Debug)]
struct List {}

impl IpcacheCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        let Command::List(List {}) = self.command;
        let entries: Vec<IpcacheEntry> = client.get(route::IPCACHE).await?;
        out.list(&entries, &["PREFIX", "IDENTITY", "ENDPOINT", "TUNNEL", "LABELS"], "No entries.", |entry| {
            vec![
                cell(entry.prefix),
                cell(entry.identity),
                cell(or_dash(entry.endpoint.as_ref())),
                cell(or_dash(entry.tunnel)),
                cell(own_labels(&entry.labels)),
            ]
        })
    }
}
