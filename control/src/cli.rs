//! The command line: one file a command.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{AGENT_SOCKET, DEFAULT_RUN_DIR};

mod agent;
mod cleanup;
mod client;
mod completion;
mod endpoint;
mod error;
mod identity;
mod ipcache;
mod logging;
mod map;
mod observe;
mod output;
mod policy;
mod proxy;
mod status;
pub mod style;
mod version;

use client::Client;
use error::CliError;
use output::{Format, Out};

/// Identity-based L3-L7 network policy and observability, without sidecars.
///
/// `tektin agent` guards the workloads of a node; every other command asks it, or works offline on
/// policy files.
#[derive(Debug, Parser)]
#[command(name = "tektin", version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused or failed; the reason is on standard error
  2  wrong usage

Environment:
  TEKTIN_SOCKET  the agent's socket, as --socket
  NO_COLOR       no colour, also on a terminal
  RUST_LOG       what agent and proxy log, e.g. info or tektin=debug";

const COMMON: &str = "Common options";

#[derive(Args, Clone, Debug)]
struct Shared {
    /// The agent's socket
    #[arg(long, global = true, env = "TEKTIN_SOCKET", help_heading = COMMON, value_name = "PATH", default_value_os_t = default_socket())]
    socket: PathBuf,
    /// How to show the answer
    #[arg(long, short, global = true, help_heading = COMMON, value_name = "FORM", default_value = "table")]
    output: Format,
}

fn default_socket() -> PathBuf {
    Path::new(DEFAULT_RUN_DIR).join(AGENT_SOCKET)
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(Box<agent::AgentCommand>),
    Proxy(proxy::ProxyCommand),
    Endpoint(endpoint::EndpointCommand),
    Identity(identity::IdentityCommand),
    Policy(policy::PolicyCommand),
    Ipcache(ipcache::IpcacheCommand),
    Map(map::MapCommand),
    Status(status::StatusCommand),
    Observe(Box<observe::ObserveCommand>),
    Cleanup(Box<cleanup::CleanupCommand>),
    Completion(completion::CompletionCommand),
    Version(version::VersionCommand),
}

/// Parses the command line, does what it says, and says how that went.
pub fn main() -> ExitCode {
    // clap prints usage errors itself, and ends with 2.
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let out = Out::new(cli.shared.output);
    let client = Client::new(cli.shared.socket);
    match cli.command {
        Command::Agent(command) => command.run(),
        Command::Proxy(command) => command.run(&client, &out),
        Command::Endpoint(command) => on_runtime(command.run(&client, &out)),
        Command::Identity(command) => on_runtime(command.run(&client, &out)),
        Command::Policy(command) => on_runtime(command.run(&client, &out)),
        Command::Ipcache(command) => on_runtime(command.run(&client, &out)),
        Command::Map(command) => on_runtime(command.run(&client, &out)),
        Command::Status(command) => on_runtime(command.run(&client, &out)),
        Command::Observe(command) => on_runtime(command.run(&client, &out)),
        Command::Cleanup(command) => command.run(&out),
        Command::Completion(command) => command.run(),
        Command::Version(command) => command.run(&out),
    }
}

/// One thread is enough for a client.
fn on_runtime<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
