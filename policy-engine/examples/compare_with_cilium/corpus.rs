//! Writes what was compared: one policy test file a line, with Cilium's verdicts as `expect`.
//!
//! Where Cilium redirects, a request is added, expected to pass if one of the rules that Cilium
//! lists for that flow matches it (at both ends, where both redirect).

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use policy_engine::{
    http::{HttpRequest, HttpRuleSpec},
    naive::first_http_rule,
    test_file::Row,
};
use serde_json::{Value, json};

use super::{differences::Difference, oracle::Answer};

pub(crate) struct Corpus {
    folder: PathBuf,
    files: Vec<String>,
    differences: Vec<String>,
    requests: usize,
}

/// Method, path and host of the requests, taken in turn. They fit what the generator writes.
const REQUESTS: [(&str, &str, &str); 7] = [
    ("GET", "/", "example.com"),
    ("POST", "/public/a", "other"),
    ("PUT", "/api/v1", "example.com"),
    ("GET", "/api/v3", "example.com"),
    ("POST", "/", "example.com"),
    ("GET", "/public/", "other"),
    ("PUT", "/private", "other"),
];

impl Corpus {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, files: Vec::new(), differences: Vec::new(), requests: 0 }
    }

    /// A test that differs gets no `expect`; it stands in the table of differences instead.
    pub(crate) fn add(
        &mut self,
        file: &Value,
        cilium: &[Answer],
        tektin: &[Row],
        differences: &[(usize, Difference)],
    ) -> Result<()> {
        let mut file = file.clone();
        let tests = file["tests"].as_array_mut().context("tests is no list")?;
        let mut requests = Vec::new();
        for (index, (answer, row)) in cilium.iter().zip(tektin).enumerate() {
            let test = &mut tests[index];
            if let Some((_, difference)) = differences.iter().find(|(differs, _)| *differs == index) {
                let line = self.files.len() + 1;
                let reason = difference.wanted.unwrap_or("unwanted");
                let entry = json!({
                    "line": line, "test": index, "cilium": answer.verdict, "tektin": row.verdict, "reason": reason,
                });
                self.differences.push(entry.to_string());
                continue;
            }
            test["expect"] = json!(answer.verdict);
            requests.extend(self.request(test, answer));
        }
        tests.extend(requests);
        self.files.push(file.to_string());
        Ok(())
    }

    fn request(&mut self, test: &Value, answer: &Answer) -> Option<Value> {
        let rules = answer.http.as_ref().filter(|_| answer.verdict == "redirect")?;
        let mut all = rules.iter().chain(answer.http_egress.iter().flatten());
        if all.any(|rule| rule.get("headers").is_some() || rule.get("headerMatches").is_some()) {
            // The requests have no headers to tell such rules apart.
            return None;
        }
        let (method, path, host) = REQUESTS[self.requests % REQUESTS.len()];
        self.requests += 1;
        let nothing: Vec<(String, String)> = Vec::new();
        let request = HttpRequest { method, path, host, headers: &nothing };
        let mut lists = vec![rules];
        if (answer.egress.as_str(), answer.ingress.as_str()) == ("redirect", "redirect") {
            lists.push(answer.http_egress.as_ref()?);
        }
        let passes = lists.into_iter().all(|rules| {
            let specs: Vec<HttpRuleSpec> = rules.iter().map(spec).collect();
            first_http_rule(&specs, &request).is_some()
        });
        let mut test = test.clone();
        test["http"] = json!({"method": method, "path": path, "host": host});
        test["expect"] = json!(if passes { "allow" } else { "deny" });
        Some(test)
    }

    pub(crate) fn write(self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("files.jsonl"), lines(&self.files))?;
        fs::write(self.folder.join("differences.jsonl"), lines(&self.differences))?;
        Ok(())
    }
}

fn spec(rule: &Value) -> HttpRuleSpec {
    let text = |name: &str| rule[name].as_str().map(str::to_owned);
    HttpRuleSpec { method: text("method"), path: text("path"), host: text("host"), ..HttpRuleSpec::default() }
}

fn lines(items: &[String]) -> String {
    items.iter().flat_map(|item| [item.as_str(), "\n"]).collect()
}
