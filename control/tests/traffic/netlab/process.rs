//! Commands with a time limit.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// What a command that ended left behind.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub what: String,
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Fails the test unless the exit code was 0.
    #[track_caller]
    pub fn success(&self) -> &Self {
        self.exit(0)
    }

    /// Fails the test unless the exit code was `code`.
    #[track_caller]
    pub fn exit(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.what,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// The binary under test.
pub fn tektin() -> Command {
    Command::new(tektin_path())
}

pub fn tektin_path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tektin"))
}

/// Runs to the end, or kills after `limit` (exit code 124 or 137).
#[track_caller]
pub fn run(command: Command, limit: Duration) -> Finished {
    let what = format!("{command:?}");
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=2", &format!("{:.1}", limit.as_secs_f32())]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    let output = limited.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{what}: {e}"));
    Finished {
        what,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
