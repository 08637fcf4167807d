//! Asks Cilium's own engine and Tektin the same questions and counts where they differ.
//!
//! `compare_with_cilium ORACLE FILE...` compares policy test files verdict by verdict.
//! With `--corpus FOLDER` it also writes the files, with Cilium's verdicts as `expect`, for the test
//! that replays them. ORACLE is the program described in `testdata/policies/README.md`.
//! Exit status 1: there are differences that nobody wanted.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use policy_engine::{policy_set::Options, test_file};

mod corpus;
mod differences;
mod oracle;

use corpus::Corpus;
use differences::{Difference, compare, refused_by_tektin};
use oracle::Oracle;

fn main() -> Result<ExitCode> {
    let mut arguments = env::args().skip(1).peekable();
    let corpus = if arguments.peek().is_some_and(|a| a == "--corpus") {
        arguments.next();
        Some(PathBuf::from(arguments.next().context("--corpus needs a folder")?))
    } else {
        None
    };
    let oracle =
        Oracle::new(arguments.next().context("usage: compare_with_cilium [--corpus FOLDER] ORACLE FILE...")?);
    let mut tally = Tally::default();
    let mut corpus = corpus.map(Corpus::new);
    for file in arguments {
        tally.compare_file(&oracle, Path::new(&file), corpus.as_mut()).with_context(|| file.clone())?;
    }
    if let Some(corpus) = corpus {
        corpus.write()?;
    }
    tally.print();
    Ok(if tally.unwanted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Tally {
    files: usize,
    documents: usize,
    refused_by_both: usize,
    verdicts: BTreeMap<String, usize>,
    request_rules: usize,
    wanted: BTreeMap<&'static str, usize>,
    unwanted: usize,
}

impl Tally {
    fn compare_file(&mut self, oracle: &Oracle, path: &Path, corpus: Option<&mut Corpus>) -> Result<()> {
        let mut file: Value = serde_norway::from_str(&fs::read_to_string(path)?)?;
        self.files += 1;
        let (refused, mut cilium) = oracle.ask(&serde_json::to_string(&file)?)?;
        if self.drop_refused(path, &mut file, &refused) {
            (_, cilium) = oracle.ask(&serde_json::to_string(&file)?)?;
        }
        let tektin = test_file::run(&serde_json::to_string(&file)?, Path::new(""), Options::default())?;
        if cilium.len() != tektin.rows.len() {
            bail!("{} answers from Cilium, {} from Tektin", cilium.len(), tektin.rows.len());
        }
        let mut differences = Vec::new();
        for (index, (cilium, tektin)) in cilium.iter().zip(&tektin.rows).enumerate() {
            *self.verdicts.entry(cilium.verdict.clone()).or_default() += 1;
            self.request_rules += usize::from(cilium.http.is_some());
            differences.extend(compare(&file, cilium, tektin).map(|difference| (index, difference)));
        }
        for (_, difference) in &differences {
            self.count(path, difference);
        }
        if let Some(corpus) = corpus {
            corpus.add(&file, &cilium, &tektin.rows, &differences)?;
        }
        Ok(())
    }

    /// Takes out of the file the documents that a side refuses, so that the rest can be compared.
    /// Says whether there were any.
    fn drop_refused(&mut self, path: &Path, file: &mut Value, by_cilium: &BTreeMap<usize, String>) -> bool {
        let Some(documents) = file["policies"].as_array_mut() else {
            return false;
        };
        let all = documents.len();
        self.documents += all;
        let mut kept = Vec::new();
        for (index, document) in documents.drain(..).enumerate() {
            match (by_cilium.get(&index), refused_by_tektin(&document)) {
                (None, None) => kept.push(document),
                (Some(_), Some(_)) => self.refused_by_both += 1,
                (cilium, tektin) => {
                    self.count(path, &Difference::refusal(cilium.map(String::as_str), tektin.as_deref()));
                }
            }
        }
        *documents = kept;
        documents.len() < all
    }

    fn count(&mut self, path: &Path, difference: &Difference) {
        match difference.wanted {
            Some(reason) => *self.wanted.entry(reason).or_default() += 1,
            None => {
                self.unwanted += 1;
                println!("{}: {}", path.display(), difference.text);
            }
        }
    }

    fn print(&self) {
        println!(
            "files {}, documents {}, refused by both {}",
            self.files, self.documents, self.refused_by_both
        );
        for (verdict, count) in &self.verdicts {
            println!("Cilium says {verdict}: {count}");
        }
        println!("sets of HTTP rules compared: {}", self.request_rules);
        for (reason, count) in &self.wanted {
            println!("wanted difference {reason}: {count}");
        }
        println!("other differences: {}", self.unwanted);
    }
}
