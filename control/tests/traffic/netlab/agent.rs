//! The agent of a lab: start, crash, stop; and the proxy that it looks after.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Lab, POOL4, POOL6, eventually};

pub(super) struct AgentProcess(pub(super) Child);

impl Lab {
    /// Starts an agent in the node's namespace and waits until it answers.
    pub fn start_agent(&self) {
        self.spawn_agent();
        eventually("the agent answers and its proxy is up", || {
            if let Some(agent) = self.agent.lock().expect("no poisoning").as_mut()
                && let Ok(Some(status)) = agent.0.try_wait()
            {
                panic!("the agent ended at once ({status}):\n{}", self.agent_log_tail());
            }
            let up = self.tektin(&["status"]).code == Some(0) && !self.proxies().is_empty();
            (up && self.proxy_is_ready()).then_some(())
        });
    }

    /// Starts an agent and does not wait for anything.
    pub fn spawn_agent(&self) {
        let log = OpenOptions::new().create(true).append(true).open(self.agent_log()).expect("agent log");
        let dir = self.dir();
        let program = self.agent_program.lock().expect("no poisoning").clone();
        let mut command = self.node.command(&program.to_string_lossy());
        command.arg("agent");
        for (flag, path) in [
            ("--state-dir", dir.join("state")),
            ("--run-dir", dir.join("run")),
            ("--policy-dir", self.policy_dir()),
            ("--pin-dir", self.pin_dir()),
        ] {
            command.arg(flag).arg(path);
        }
        command.args(["--pool4", POOL4, "--pool6", POOL6]).args(&self.agent_args);
        command.env_remove("TEKTIN_SOCKET");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("agent log")).stderr(log);
        let child = command.spawn().expect("nsenter starts the agent");
        *self.agent.lock().expect("no poisoning") = Some(AgentProcess(child));
    }

    /// The binary of the agents that are started from now on.
    pub fn upgrade(&self, program: &Path) {
        *self.agent_program.lock().expect("no poisoning") = program.to_owned();
    }

    /// Whether the agent says that its proxy is connected and judges by the policy in force.
    pub fn proxy_is_ready(&self) -> bool {
        let finished = self.tektin(&["status", "--output", "json"]);
        let status: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap_or_default();
        status["proxy"]["connected"] == true
    }

    /// Ends the agent the hard way; its proxy lives on.
    pub fn kill_agent(&self) {
        self.end_agent(Signal::SIGKILL);
    }

    /// Whether the agent that was spawned last has ended by itself.
    pub fn agent_has_ended(&self) -> bool {
        let mut agent = self.agent.lock().expect("no poisoning");
        let agent = agent.as_mut().expect("an agent was spawned");
        agent.0.try_wait().expect("wait for the agent").is_some()
    }

    /// Asks the agent to end, as a service manager does.
    pub fn stop_agent(&self) {
        self.end_agent(Signal::SIGTERM);
    }

    fn end_agent(&self, signal: Signal) {
        let mut agent = self.agent.lock().expect("no poisoning").take().expect("an agent runs");
        kill(Pid::from_raw(agent.0.id().cast_signed()), signal).expect("signal the agent");
        eventually("the agent ends", || agent.0.try_wait().expect("wait for the agent"));
    }

    pub fn agent_pid(&self) -> i32 {
        let agent = self.agent.lock().expect("no poisoning");
        agent.as_ref().expect("an agent runs").0.id().cast_signed()
    }

    /// Process ids of this lab's proxies.
    pub fn proxies(&self) -> Vec<i32> {
        let is_proxy = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(b"proxy"))
        };
        self.node.pids().into_iter().filter(is_proxy).collect()
    }

    pub fn agent_log(&self) -> std::path::PathBuf {
        self.dir().join("agent.log")
    }

    pub(super) fn agent_log_tail(&self) -> String {
        tail(&self.agent_log(), 60)
    }
}

fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    // Lines of the log begin with their time; what the kernel's verifier says at length does not.
    let is_ours = |line: &&str| line.starts_with("20") || line.contains("rror") || line.contains("panicked");
    let all: Vec<_> = text.lines().filter(is_ours).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
