//! Talks to the program around Cilium's engine: a test file in, JSON lines out.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

pub(crate) struct Oracle {
    program: String,
}

/// Cilium's answer to one test.
#[derive(Deserialize)]
pub(crate) struct Answer {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) port: String,
    pub(crate) ingress: String,
    pub(crate) egress: String,
    pub(crate) verdict: String,
    pub(crate) http: Option<Vec<Value>>,
    #[serde(rename = "httpEgress")]
    pub(crate) http_egress: Option<Vec<Value>>,
    #[serde(default)]
    pub(crate) error: String,
}

#[derive(Deserialize)]
struct Refusal {
    policy: usize,
    stage: String,
    error: String,
}

impl Oracle {
    pub(crate) fn new(program: String) -> Self {
        Self { program }
    }

    /// Which documents Cilium refuses and why, by index in `policies`; the answers if it refuses none.
    pub(crate) fn ask(&self, file: &str) -> Result<(BTreeMap<usize, String>, Vec<Answer>)> {
        let (mut refused, mut answers) = (BTreeMap::new(), Vec::new());
        for line in self.lines(file)? {
            if line.get("stage").is_some() {
                let refusal = Refusal::deserialize(&line)?;
                refused.insert(refusal.policy, format!("{}: {}", refusal.stage, refusal.error));
            } else {
                answers.push(Answer::deserialize(&line).with_context(|| line.to_string())?);
            }
        }
        Ok((refused, answers))
    }

    fn lines(&self, file: &str) -> Result<Vec<Value>> {
        let mut child = Command::new(&self.program)
            // Cilium takes fromNodes and toNodes only with a flag.
            .args(["-node-labels", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| self.program.clone())?;
        child.stdin.take().context("no standard input")?.write_all(file.as_bytes())?;
        let output = child.wait_with_output()?;
        if output.status.code() == Some(2) {
            bail!("the oracle refuses the test file");
        }
        let lines = std::str::from_utf8(&output.stdout)?.lines();
        lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}
