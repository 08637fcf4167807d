//! Policy test files: policies, endpoints and flows in one file, answered offline.
//!
//! World addresses carry `reserved:world-ipv4` and `reserved:world-ipv6`, as on a node. In a file
//! without any IPv6 address IPv4's carry `reserved:world` too, as Cilium's do where IPv6 is off.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use thiserror::Error;

use crate::{compiled::L7Rules, documents::DocumentError, kafka, policy_set::Options};

mod cidr_groups;
mod format;
mod judge;
mod policies;
mod world;

/// The answer to one test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    pub from: String,
    pub to: String,
    pub port: String,
    /// What the source's policies say: `allow`, `deny`, `redirect` or `none`.
    pub egress: &'static str,
    /// What the destination's policies say.
    pub ingress: &'static str,
    /// `allow`, `deny` or `redirect`; with a request never `redirect`.
    pub verdict: &'static str,
    /// What decided, in words that name document and place; `no policy` where none has a say.
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Whether `expect` is the verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// The L7 rules that hold at the source's and at the destination's end, where they redirect.
    #[serde(skip)]
    pub egress_l7: Option<Arc<L7Rules>>,
    #[serde(skip)]
    pub ingress_l7: Option<Arc<L7Rules>>,
}

/// All answers of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub rows: Vec<Row>,
    /// For standard error: parts of policies that nobody enforces yet.
    pub notes: Vec<String>,
}

impl Report {
    /// The rows whose verdict is not the expected one.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.ok == Some(false))
    }
}

#[derive(Debug, Error)]
pub enum TestFileError {
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    /// The test file itself is not what it should be.
    #[error("{place}: {reason}")]
    Format { place: String, reason: String },
    /// A document is refused; nothing was judged.
    #[error("{source_name}: {}", error.to_string().replace('\n', "\n  "))]
    Refused { source_name: String, error: DocumentError },
}

impl TestFileError {
    fn format(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Format { place: place.into(), reason: reason.into() }
    }
}

/// Answers the tests of a file. Policies given by path are relative to it.
///
/// # Errors
/// The file cannot be read, is no test file, or has a policy that is refused.
pub fn run_file(path: &Path, options: Options) -> Result<Report, TestFileError> {
    let text = read(path)?;
    run(&text, path.parent().unwrap_or(Path::new("")), options)
}

/// Gives a request's path the form in which a proxy judges it, or the reason why it is refused.
pub type PathForm = fn(&str) -> Result<String, String>;

/// What only parsers of the protocols know of requests.
#[derive(Clone, Copy)]
pub struct Protocols {
    pub path_form: PathForm,
    pub kafka: kafka::Judge,
}

/// Paths as they are; nobody here knows Kafka.
impl Default for Protocols {
    fn default() -> Self {
        Self {
            path_form: |path| Ok(path.to_owned()),
            kafka: |_, _| {
                let reason = "judged only where Kafka's protocol is known".to_owned();
                Err(kafka::Fault { field: None, reason })
            },
        }
    }
}

/// Answers the tests of a text. Policies given by path are relative to `folder`.
///
/// # Errors
/// As [`run_file`].
pub fn run(text: &str, folder: &Path, options: Options) -> Result<Report, TestFileError> {
    run_with(text, folder, options, Protocols::default())
}

/// As [`run`], with what parsers know: the form in which paths are judged, and Kafka's requests.
///
/// # Errors
/// As [`run_file`], and where one of `protocols` refuses a request.
pub fn run_with(
    text: &str,
    folder: &Path,
    options: Options,
    protocols: Protocols,
) -> Result<Report, TestFileError> {
    Prepared::new(text, folder, options)?.report(protocols)
}

/// A test file whose policies are parsed and whose identities are known.
pub(crate) struct Prepared {
    file: format::TestFile,
    policies: crate::policy_set::PolicySet,
    world: world::World,
    notes: Vec<String>,
}

impl Prepared {
    pub(crate) fn new(text: &str, folder: &Path, options: Options) -> Result<Self, TestFileError> {
        let file = format::read(text)?;
        let loaded = policies::load(&file.policies, folder, options)?;
        let world = world::World::new(&file, &loaded)?;
        Ok(Self { file, policies: loaded.set, world, notes: loaded.notes })
    }

    fn report(self, protocols: Protocols) -> Result<Report, TestFileError> {
        let mut judge = judge::Judge::new(&self.policies, &self.world, protocols);
        let tests = self.file.tests.iter().enumerate();
        let rows = tests.map(|(index, test)| judge.row(index, test)).collect::<Result<Vec<Row>, _>>()?;
        Ok(Report { rows, notes: self.notes })
    }
}

fn read(path: &Path) -> Result<String, TestFileError> {
    fs::read_to_string(path).map_err(|error| TestFileError::Read { path: path.to_owned(), error })
}
