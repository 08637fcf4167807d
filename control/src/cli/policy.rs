//! `tektin policy`.

use clap::{Args, Subcommand};

use super::{client::Client, error::CliError, output::Out};

mod apply;
mod delete;
mod explain;
mod files;
mod get;
mod test;
mod validate;

/// Policy documents: CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy
///
/// `validate` and `test` work offline, without an agent and without privileges.
#[derive(Args, Debug)]
pub struct PolicyCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Apply(apply::Apply),
    Get(get::Get),
    Delete(delete::Delete),
    Validate(validate::Validate),
    Test(test::Test),
    Explain(Box<explain::Explain>),
}

impl PolicyCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        match self.command {
            Command::Apply(command) => command.run(client, out).await,
            Command::Get(command) => command.run(client, out).await,
            Command::Delete(command) => command.run(client, out).await,
            Command::Validate(command) => command.run(out),
            Command::Test(command) => command.run(out),
            Command::Explain(command) => command.run(client, out).await,
        }
    }
}
