//! Writes what was compared: one policy test file a line, with Cilium's verdicts as `expect`.

use std::{fs, path::PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::{differences::Difference, oracle::Answer};

pub(crate) struct Corpus {
    folder: PathBuf,
    files: Vec<String>,
    differences: Vec<String>,
}

impl Corpus {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, files: Vec::new(), differences: Vec::new() }
    }

    /// A test that differs gets no `expect`; it stands in the table of differences instead.
    pub(crate) fn add(&mut self, file: &Value, cilium: &[Answer], differences: &[(usize, Difference)]) {
        let mut file = file.clone();
        let line = self.files.len() + 1;
        for (index, answer) in cilium.iter().enumerate() {
            let test = &mut file["tests"][index];
            match differences.iter().find(|(differs, _)| *differs == index) {
                None => test["expect"] = json!(answer.verdict),
                Some((_, difference)) => self.differences.push(
                    json!({
                        "line": line,
                        "test": index,
                        "cilium": answer.verdict,
                        "reason": difference.wanted.unwrap_or("unwanted"),
                    })
                    .to_string(),
                ),
            }
        }
        self.files.push(file.to_string());
    }

    pub(crate) fn write(self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("files.jsonl"), self.files.join("\n") + "\n")?;
        let mut differences = self.differences.join("\n");
        if !differences.is_empty() {
            differences.push('\n');
        }
        fs::write(self.folder.join("differences.jsonl"), differences)?;
        Ok(())
    }
}
