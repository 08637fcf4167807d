//! Why a command did not do what it was asked, and the exit code that says so.

use std::{io, path::PathBuf, process::ExitCode};

use super::output::tell;
use crate::api::ApiError;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{0}")]
    Refused(ApiError),
    #[error(
        "no agent answers at {}: {source}\n  \
         start one with `tektin agent` (as root), or name its socket with --socket or TEKTIN_SOCKET",
        socket.display()
    )]
    NoAgent { socket: PathBuf, source: io::Error },
    #[error(
        "not allowed to talk to the agent at {}: {source}\n  \
         be root or in the socket's group, and in the agent's network namespace or the machine's own",
        socket.display()
    )]
    NotAllowed { socket: PathBuf, source: io::Error },
    #[error("the agent at {} broke off: {reason}", socket.display())]
    BrokeOff { socket: PathBuf, reason: String },
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{0}")]
    Failed(String),
    /// The reasons have been printed already.
    #[error("refused")]
    Told,
    #[error("{0}")]
    Usage(String),
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// Whoever read the output has seen enough.
    #[error("standard output is closed")]
    Closed,
}

impl CliError {
    /// What is wrong, where the file has been named already.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            CliError::Read { source, .. } => format!("cannot be read: {source}"),
            error => error.to_string(),
        }
    }

    /// Says it on standard error; the process's exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            CliError::Closed => ExitCode::SUCCESS,
            CliError::Told => ExitCode::FAILURE,
            CliError::Usage(reason) => {
                tell(&format!("error: {reason}"));
                ExitCode::from(2)
            }
            error => {
                tell(&format!("error: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

impl From<io::Error> for CliError {
    /// Of writing to standard output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::Closed,
            _ => CliError::Write(error),
        }
    }
}
