//! The command line as scripts see it: real processes, their output and exit codes. No agent runs;
//! where one is asked, a stand-in answers.

// One crate, its modules for each other.
#![allow(unreachable_pub)]

mod agent;
mod offline;
mod online;
mod usage;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// The built binary, without what the caller's environment would tell it.
fn tektin(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tektin"));
    command.args(args).stdin(Stdio::null());
    for name in ["TEKTIN_SOCKET", "NO_COLOR", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

fn run(args: &[&str]) -> Finished {
    Finished::from(tektin(args).output().expect("tektin starts"))
}

/// [`run`] against a socket.
fn ask(socket: &Path, args: &[&str]) -> Finished {
    Finished::from(tektin(args).env("TEKTIN_SOCKET", socket).output().expect("tektin starts"))
}

#[derive(Debug)]
struct Finished {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

impl Finished {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }
}
