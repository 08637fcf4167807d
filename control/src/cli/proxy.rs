//! `tektin proxy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tektin_proxy::{ProxyOptions, Setting, settings};

use super::{
    client::Client,
    error::CliError,
    logging, on_runtime,
    output::{Out, cell},
};
use crate::{
    api::{ProxyReplaced, route},
    config::LogFormat,
};

/// Serve as the node's L7 proxy
///
/// The agent starts this itself and starts it again when it ends. It runs by hand or under a service
/// manager only where the agent is told not to (--no-proxy-supervision). It drops its privileges
/// before it reads the first octet of a workload, and outlives the agent.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = limits())]
pub struct ProxyCommand {
    #[command(subcommand)]
    action: Option<Action>,
    /// Pinned maps of the agent
    #[arg(long, env = "TEKTIN_PIN_DIR", value_name = "DIR", default_value = "/sys/fs/bpf/tektin")]
    pin_dir: PathBuf,
    /// Directory of the agent's sockets
    #[arg(long, env = "TEKTIN_RUN_DIR", value_name = "DIR", default_value = "/run/tektin")]
    run_dir: PathBuf,
    /// Worker threads, 1 to 32 [default: one a core]
    #[arg(long, env = "TEKTIN_PROXY_THREADS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    threads: Option<u8>,
    /// Another value for a limit of the list below; repeatable
    #[arg(long = "limit", env = "TEKTIN_PROXY_LIMIT", value_name = "NAME=VALUE", value_delimiter = ',')]
    limits: Vec<Setting>,
    /// Form of the log on standard error
    #[arg(long, env = "TEKTIN_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Subcommand, Debug)]
enum Action {
    Replace(ReplaceCommand),
}

/// Let a new proxy take over from the one that runs
///
/// Starts the binary that is installed now, waits until it judges by the policy and takes new
/// connections, and lets the old proxy finish what is open (see `tektin agent
/// --proxy-drain-seconds`). No connection is refused meanwhile. Where the new proxy does not come up,
/// the old one goes on. An agent that is started from another binary than its proxy does this by
/// itself.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes:
  0  the new proxy serves
  1  it does not, and the old one goes on; the reason is on standard error")]
struct ReplaceCommand {}

/// The limits by name, as a section of the help.
pub fn limits() -> String {
    format!("Limits, their defaults, and what they bound:\n{}", settings())
}

impl ProxyCommand {
    pub fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        if let Some(Action::Replace(ReplaceCommand {})) = self.action {
            return on_runtime(replace(client, out));
        }
        logging::start(self.log_format);
        let mut options = ProxyOptions::new(self.pin_dir, self.run_dir);
        options.threads = self.threads.map(usize::from);
        self.limits.iter().for_each(|limit| options.limits.set(limit));
        tektin_proxy::run(options).map_err(|error| CliError::Failed(error.to_string()))
    }
}

async fn replace(client: &Client, out: &Out) -> Result<(), CliError> {
    let replaced: ProxyReplaced = client.post(route::PROXY_REPLACE, &()).await?;
    out.item(&replaced, vec![("Serving", cell(replaced.new)), ("Draining", cell(replaced.old))])
}
