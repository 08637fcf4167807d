//! `tektin cleanup`.

use clap::Args;

use super::{
    error::CliError,
    logging, on_runtime,
    output::{Out, cell},
};
use crate::config::AgentArgs;

/// Remove everything that an agent left behind
///
/// Ends the proxy and removes kernel programs, pinned maps, devices, routes, rules, sockets and the
/// remembered state. The agent must not be running. Takes the directories' flags as `tektin agent`
/// does, and must run in the same network namespace.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin cleanup
  nsenter --net=/run/netns/node2 tektin cleanup --state-dir /var/lib/tektin2 \\
      --run-dir /run/tektin2 --pin-dir /sys/fs/bpf/tektin2")]
pub struct CleanupCommand {
    #[command(flatten)]
    args: AgentArgs,
}

impl CleanupCommand {
    pub fn run(self, out: &Out) -> Result<(), CliError> {
        let config = self.args.resolve().map_err(|error| CliError::Failed(error.to_string()))?;
        logging::start(config.log_format);
        let removed = on_runtime(async {
            crate::agent::cleanup(&config).await.map_err(|error| CliError::Failed(format!("{error:#}")))
        })?;
        out.list(&removed, &["REMOVED"], "Nothing to remove.", |what| vec![cell(what)])
    }
}
