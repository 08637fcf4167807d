//! `tektin completion`.

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, error::CliError};

/// The completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin completion bash > /etc/bash_completion.d/tektin
  tektin completion zsh  > \"${fpath[1]}/_tektin\"
  tektin completion fish > ~/.config/fish/completions/tektin.fish")]
pub struct CompletionCommand {
    shell: Shell,
}

impl CompletionCommand {
    pub fn run(self) -> Result<(), CliError> {
        // Into memory first: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tektin", &mut script);
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&script)?;
        Ok(stdout.flush()?)
    }
}
