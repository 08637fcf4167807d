//! `tektin policy test`.

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Cell;
use policy_engine::{
    policy_set::{self, Options},
    test_file::{self, Protocols, Report, Row},
};
use serde::Serialize;

use super::files;
use crate::{
    cli::{
        error::CliError,
        output::{Format, Out, Tone, cell, tell, toned},
    },
    config::AllowLocalhost,
    kafka_request,
};

/// Answer the tests of policy test files, offline
///
/// A policy test file holds policies (inline or by path), endpoints, and tests: who to whom, on
/// which port, with which request, and what to expect. Every test is answered by the engine that
/// agents use; parts that are not enforced yet are answered too, with a note on standard error.
/// Paths of requests are judged in their normal form, as a proxy does. Of a Kafka request each name
/// that is given is judged; a role stands for the request that a producer or consumer begins with.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes:
  0  every test with an `expect` has that verdict
  1  one has not, or a file is refused; the reasons are on standard error

A test file:
  policies: [web.yaml]
  endpoints:
    - {name: client, labels: {app: client}, ip: 10.0.0.1}
    - {name: web, namespace: prod, labels: {app: web}, ip: 10.0.0.2, namedPorts: {http: 80/TCP}}
  dns: {api.example.com: [203.0.113.7]}
  tests:
    - {name: reads, from: client, to: web, port: 80/TCP, http: {method: GET, path: /v1}, expect: allow}
    - {name: world, from: world, to: web, port: 80/TCP, expect: deny}
    - {from: app, to: broker, port: 9092/TCP, kafka: {role: consume, topic: t, group: g}, expect: allow}
    - {from: app, to: broker, port: 9092/TCP, kafka: {apiKey: deletetopics, topic: t}, expect: deny}

Examples:
  tektin policy test tests/web.yaml
  tektin policy test tests/ --output json | jq -r 'select(.verdict == \"deny\") | .rule'")]
pub struct Test {
    /// Files or directories
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Whether the host may always enter workloads, as the agent's flag of that name
    #[arg(long, value_name = "WHEN", default_value = "always")]
    allow_localhost: AllowLocalhost,
}

/// A line of JSON output.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    from: &'a str,
    to: &'a str,
    port: &'a str,
    egress: &'a str,
    ingress: &'a str,
    verdict: &'a str,
    rule: &'a str,
}

impl Test {
    pub fn run(self, out: &Out) -> Result<(), CliError> {
        let allow_localhost = match self.allow_localhost {
            AllowLocalhost::Always => policy_set::AllowLocalhost::Always,
            AllowLocalhost::Policy => policy_set::AllowLocalhost::Policy,
        };
        let mut failed = false;
        let mut rows = Vec::new();
        for path in files::expand(&self.files)? {
            match answer(&path, Options { allow_localhost }) {
                Ok(report) => {
                    failed |= show_notes(&path, &report);
                    if out.format == Format::Json {
                        report.rows.iter().try_for_each(|row| out.json_line(&line(row)))?;
                    }
                    rows.extend(report.rows);
                }
                Err(reason) => {
                    tell(&format!("error: {reason}"));
                    failed = true;
                }
            }
        }
        // After a refusal, that there are no tests would be news to nobody.
        if out.format != Format::Json && !(failed && rows.is_empty()) {
            let columns = ["NAME", "FROM", "TO", "PORT", "EGRESS", "INGRESS", "VERDICT", "EXPECT", "RULE"];
            out.rows(&columns, "No tests.", rows.iter().map(cells))?;
        }
        if failed { Err(CliError::Told) } else { Ok(()) }
    }
}

fn answer(path: &Path, options: Options) -> Result<Report, String> {
    let source = files::read(path).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let protocols = Protocols { path_form: files::path_as_judged, kafka: kafka_request::judge };
    test_file::run_with(&source.text, folder, options, protocols)
        .map_err(|error| format!("{}: {error}", source.name))
}

/// Notes and failures, on standard error; whether there is a failure.
fn show_notes(path: &Path, report: &Report) -> bool {
    for note in &report.notes {
        tell(&format!("note: {}: {note}", path.display()));
    }
    for row in report.failures() {
        let name = if row.name.is_empty() {
            format!("{} to {} {}", row.from, row.to, row.port)
        } else {
            row.name.clone()
        };
        let expected = row.expect.as_deref().unwrap_or_default();
        tell(&format!(
            "failed: {}: {name}: expected {expected}, is {} ({})",
            path.display(),
            row.verdict,
            row.rule
        ));
    }
    report.failures().next().is_some()
}

fn line(row: &Row) -> Line<'_> {
    Line {
        name: &row.name,
        from: &row.from,
        to: &row.to,
        port: &row.port,
        egress: row.egress,
        ingress: row.ingress,
        verdict: row.verdict,
        rule: &row.rule,
    }
}

fn cells(row: &Row) -> Vec<Cell> {
    let tone = |verdict: &str| match verdict {
        "deny" => Tone::Bad,
        "redirect" => Tone::Note,
        _ => Tone::Good,
    };
    let expect = match (row.expect.as_deref(), row.ok) {
        (Some(expect), Some(false)) => toned(format!("{expect} FAILED"), Tone::Bad),
        (Some(expect), _) => cell(expect),
        (None, _) => cell("-"),
    };
    vec![
        cell(&row.name),
        cell(&row.from),
        cell(&row.to),
        cell(&row.port),
        cell(row.egress),
        cell(row.ingress),
        toned(row.verdict, tone(row.verdict)),
        expect,
        cell(&row.rule),
    ]
}
