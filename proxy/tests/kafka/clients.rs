//! The client programs, by name of what they do.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread,
    time::Instant,
};

use crate::broker::{Broker, installed, java};

/// Longer than any of them takes, on any machine.
const SECONDS: &str = "90";

pub(crate) struct Clients {
    bootstrap: String,
    admin: String,
    user: &'static str,
    properties: PathBuf,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/clients").join(name)
}

/// Runs it to its end, with this on its standard input.
fn run(command: &mut Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that ends before it has read all has its reasons, and tells them.
    let writing = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

fn bounded(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", SECONDS]).arg(program);
    command
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

impl Clients {
    pub(crate) fn new(broker: &Broker, port: u16, user: &'static str) -> Self {
        let properties = broker.folder.path().join(format!("{user}.properties"));
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let content = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.jaas.config={login} username=\"{user}\" password=\"{user}\";\n"
        );
        fs::write(&properties, content).unwrap();
        let at = |port: u16| format!("127.0.0.1:{port}");
        Self { bootstrap: at(port), admin: at(broker.ports.admin), user, properties }
    }

    /// Topics and ACLs.
    pub(crate) fn prepare(&self, runs: &[&str]) {
        let python = installed().join("venv/bin/python");
        let mut command = bounded(python);
        let done = run(command.arg(script("prepare.py")).arg(&self.admin).args(runs), "");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// What a script tells.
    pub(crate) fn outcomes(&self, client: &str, run_name: &str) -> Outcomes {
        let began = Instant::now();
        let mut command = match client {
            "kafkajs" => {
                let mut command = bounded("node");
                command.env("NODE_PATH", installed().join("node_modules")).arg(script("outcomes.js"));
                command
            }
            _ => {
                let mut command = bounded(installed().join("venv/bin/python"));
                command.arg(script("outcomes.py"));
                command
            }
        };
        let done = run(command.args([&self.bootstrap, self.user, self.user, run_name]), "");
        assert!(done.status.success(), "{client}: {}{}", text(&done.stdout), text(&done.stderr));
        let seconds = text(&done.stderr);
        let seconds = seconds.lines().filter_map(|line| line.split_once(' '));
        Outcomes {
            lines: text(&done.stdout).lines().map(str::to_owned).collect(),
            seconds: seconds.filter_map(|(took, what)| Some((what.to_owned(), took.parse().ok()?))).collect(),
            whole: began.elapsed().as_secs_f64(),
        }
    }

    /// Checksums of what was committed in transactions and of what a reader of that got, and how many.
    pub(crate) fn transactions(&self, topic: &str, messages: usize) -> [String; 3] {
        let mut command = bounded(installed().join("venv/bin/python"));
        command.arg(script("transfer.py")).args([&self.bootstrap, self.user, self.user, topic]);
        let done = run(command.arg(messages.to_string()), "");
        assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
        let told = text(&done.stdout);
        let mut words = told.split_whitespace().map(str::to_owned);
        std::array::from_fn(|_| words.next().unwrap())
    }

    fn kcat(&self, topic: &str) -> Command {
        let mut command = bounded("kcat");
        command.args(["-b", &self.bootstrap, "-t", topic, "-X", "security.protocol=SASL_PLAINTEXT"]);
        command.args(["-X", "sasl.mechanism=PLAIN"]);
        command.args(["-X", &format!("sasl.username={}", self.user)]);
        command.args(["-X", &format!("sasl.password={}", self.user)]);
        command
    }

    pub(crate) fn kcat_produce(&self, topic: &str, codec: &str, lines: &str) {
        let done = run(self.kcat(topic).args(["-P", "-p", "0", "-z", codec]), lines);
        assert!(done.status.success(), "{codec}: {}", text(&done.stderr));
    }

    pub(crate) fn kcat_consume(&self, topic: &str, messages: usize) -> String {
        let done = run(self.kcat(topic).args(["-C", "-p", "0", "-c", &messages.to_string()]), "");
        assert!(done.status.success(), "{topic}: {}", text(&done.stderr));
        text(&done.stdout)
    }

    /// What it said where it may not write, or not read.
    pub(crate) fn kcat_denied(&self, topic: &str, mode: &str) -> String {
        let done = run(self.kcat(topic).args([mode, "-p", "0", "-e"]), "denied\n");
        text(&done.stderr)
    }

    /// A consumer that goes on until something ends it.
    pub(crate) fn kcat_follow(&self, topic: &str) -> Following {
        let mut command = self.kcat(topic);
        command.args(["-C", "-p", "0", "-u"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        Following { child, out }
    }

    /// What it said of errors.
    pub(crate) fn console_producer(&self, topic: &str, lines: &str) -> String {
        let mut command = self.console("org.apache.kafka.tools.ConsoleProducer");
        let done = run(command.args(["--topic", topic]), lines);
        text(&done.stdout) + &text(&done.stderr)
    }

    /// The messages, and what it said of errors.
    pub(crate) fn console_consumer(
        &self,
        tool: &str,
        topic: &str,
        group: &str,
        most: usize,
    ) -> (String, String) {
        let mut command = self.console(&format!("org.apache.kafka.tools.consumer.{tool}"));
        command.args(["--topic", topic, "--group", group, "--max-messages", &most.to_string()]);
        command.args(["--timeout-ms", "30000"]);
        if tool == "ConsoleConsumer" {
            command.arg("--from-beginning");
        }
        let done = run(&mut command, "");
        (text(&done.stdout), text(&done.stderr))
    }

    fn console(&self, class: &str) -> Command {
        let java = java("128m");
        let mut command = bounded(java.get_program());
        command.args(java.get_args()).arg(class).args(["--bootstrap-server", &self.bootstrap]);
        command.arg("--command-config").arg(&self.properties);
        command
    }

    /// Share groups begin at the end unless they are told otherwise.
    pub(crate) fn share_from_the_beginning(&self, group: &str) {
        let mut java = java("128m");
        java.args(["kafka.admin.ConfigCommand", "--bootstrap-server", &self.admin, "--alter"]);
        java.args(["--entity-type", "groups", "--entity-name", group]);
        let done = run(java.args(["--add-config", "share.auto.offset.reset=earliest"]), "");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
}

/// What a script told.
pub(crate) struct Outcomes {
    pub(crate) lines: Vec<String>,
    /// How long each took.
    pub(crate) seconds: HashMap<String, f64>,
    pub(crate) whole: f64,
}

pub(crate) struct Following {
    child: Child,
    out: ChildStdout,
}

impl Following {
    /// Reads until this has come.
    pub(crate) fn wait_for(&mut self, end: &str) {
        let (mut seen, mut piece) = (String::new(), [0; 4096]);
        while !seen.ends_with(end) {
            let read = self.out.read(&mut piece).unwrap();
            assert!(read > 0, "it ended after {} octets", seen.len());
            seen.push_str(&text(&piece[..read]));
        }
    }

    pub(crate) fn said_at_its_end(self) -> String {
        let done = self.child.wait_with_output().unwrap();
        text(&done.stderr)
    }
}
