//! `tektin agent`.

use clap::Args;

use super::{error::CliError, logging, on_runtime};
use crate::config::AgentArgs;

/// Guard the workloads of this node
///
/// Loads the kernel programs, starts the proxy, puts the remembered policies in force, watches the
/// policy directory and serves the API, in the network namespace that it is started in. Several may
/// run on a machine, each in its own namespace with its own directories.
///
/// It ends on SIGTERM or SIGINT. Kernel programs and proxy go on with the policy in force, and the
/// next agent takes them over; `tektin cleanup` removes them.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin agent
  tektin agent --pool4 10.1.0.0/24 --pool6 fd00:1::/112 --log-format json
  nsenter --net=/run/netns/node2 tektin agent --state-dir /var/lib/tektin2 \\
      --run-dir /run/tektin2 --pin-dir /sys/fs/bpf/tektin2 --policy-dir /etc/tektin2")]
pub struct AgentCommand {
    #[command(flatten)]
    args: AgentArgs,
}

impl AgentCommand {
    pub fn run(self) -> Result<(), CliError> {
        let config = self.args.clone().resolve().map_err(|error| CliError::Failed(error.to_string()))?;
        logging::start(config.log_format);
        on_runtime(async {
            crate::agent::run(self.args).await.map_err(|error| CliError::Failed(format!("{error:#}")))
        })
    }
}
