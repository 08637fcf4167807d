//! `tektin proxy`.

use std::path::PathBuf;

use clap::Args;
use tektin_proxy::ProxyOptions;

use super::{error::CliError, logging};
use crate::config::LogFormat;

/// Serve as the node's L7 proxy
///
/// The agent starts this itself and starts it again when it ends. It runs by hand or under a service
/// manager only where the agent is told not to (--no-proxy-supervision). It drops its privileges
/// before it reads the first octet of a workload, and outlives the agent.
#[derive(Args, Debug)]
pub struct ProxyCommand {
    /// Pinned maps of the agent
    #[arg(long, env = "TEKTIN_PIN_DIR", value_name = "DIR", default_value = "/sys/fs/bpf/tektin")]
    pin_dir: PathBuf,
    /// Directory of the agent's sockets
    #[arg(long, env = "TEKTIN_RUN_DIR", value_name = "DIR", default_value = "/run/tektin")]
    run_dir: PathBuf,
    /// Worker threads, 1 to 32 [default: one a core]
    #[arg(long, env = "TEKTIN_PROXY_THREADS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    threads: Option<u8>,
    /// Form of the log on standard error
    #[arg(long, env = "TEKTIN_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

impl ProxyCommand {
    pub fn run(self) -> Result<(), CliError> {
        logging::start(self.log_format);
        let mut options = ProxyOptions::new(self.pin_dir, self.run_dir);
        options.threads = self.threads.map(usize::from);
        tektin_proxy::run(options).map_err(|error| CliError::Failed(error.to_string()))
    }
}
