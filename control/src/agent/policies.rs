//! The documents in force and where each came from: the API (kept in the state directory, one file
//! a document) or a watched file (with its last good content kept too, so that a file which is bad
//! at a restart does not open what it closed before).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use policy_engine::{
    documents::{self, Parsed},
    model::{Document, DocumentId, DocumentKind},
    policy_set::DocumentChange,
};

use super::{
    error::AgentError,
    state_file::{self, StateFileError},
};

mod copies;

use copies::Copies;

/// A document with its own text.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub document: Arc<Document>,
    /// YAML of this document alone.
    pub text: String,
}

/// Documents by id.
pub type Documents = BTreeMap<DocumentId, Given>;

/// A watched file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct File {
    /// In force: what it holds, or held when it was last good.
    pub documents: Documents,
    /// The text of `documents`.
    pub good: String,
    /// Why its content now is not in force.
    pub error: Option<String>,
}

/// All sources. A document is in one of them only.
#[derive(Debug)]
pub struct Policies {
    directory: PathBuf,
    api: Documents,
    files: BTreeMap<PathBuf, File>,
    source: HashMap<DocumentId, Source>,
    refused: BTreeSet<PathBuf>,
    copies: Copies,
    /// Watched files whose copies are of no use, and why.
    damaged: BTreeMap<PathBuf, String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    Api,
    File(PathBuf),
}

pub const API_DIRECTORY: &str = "policies";
/// Of the last good content of each watched file, under the file's name.
pub const COPIES: &str = "policy-files";

impl Policies {
    /// Reads what the state directory has; `watched` is the directory of the policy files. A document of
    /// the API that does not parse is an error: without it something would be open that was closed. A
    /// damaged copy of a watched file is one of [`Policies::damaged`]: the file itself may be good.
    pub fn load(state: &Path, watched: &Path) -> Result<Self, AgentError> {
        let directory = state.to_owned();
        let copies = Copies::open(&state.join(COPIES))?;
        let (api, files, source, refused) = Default::default();
        let damaged = BTreeMap::new();
        let mut policies = Self { directory, api, files, source, refused, copies, damaged };
        for path in list(&policies.api_directory())? {
            for (id, given) in parse(&path.display().to_string(), &read(&path)?)? {
                policies.set_api(id, Some(given));
            }
        }
        for copy in list(&state.join(COPIES))? {
            let path = watched.join(copy.file_name().unwrap_or_default());
            let name = copy.display().to_string();
            let parsed = read(&copy).and_then(|good| Ok((parse(&name, &good)?, good)));
            match parsed {
                Ok((documents, good)) => {
                    policies.set_file(&path, Some(File { documents, good, error: None }));
                }
                Err(error) => {
                    policies.damaged.insert(path, error.with_details());
                }
            }
        }
        Ok(policies)
    }

    /// Each document with its source: `api` or the file's path.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Given)> {
        let files = self.files.iter().flat_map(|(path, file)| {
            file.documents.values().map(|given| (path.display().to_string(), given))
        });
        self.api.values().map(|given| ("api".to_owned(), given)).chain(files)
    }

    pub fn api(&self) -> &Documents {
        &self.api
    }

    pub fn files(&self) -> &BTreeMap<PathBuf, File> {
        &self.files
    }

    /// Files whose content now is not in force.
    pub fn refused_files(&self) -> Vec<PathBuf> {
        self.refused.iter().cloned().collect()
    }

    /// Watched files of whose last good content nothing was known at the start, with the reasons.
    pub fn damaged(&self) -> &BTreeMap<PathBuf, String> {
        &self.damaged
    }

    /// Where a document is, other than `except`. For the API: where it is in a file.
    pub fn source_of(&self, id: &DocumentId, except: Option<&Path>) -> Option<String> {
        match (self.source.get(id)?, except) {
            (Source::Api, None) => None,
            (Source::Api, Some(_)) => Some("the API".to_owned()),
            (Source::File(path), except) => {
                (Some(path.as_path()) != except).then(|| path.display().to_string())
            }
        }
    }

    /// Exchanges a document of the API; returns what was there.
    pub fn set_api(&mut self, id: DocumentId, given: Option<Given>) -> Option<Given> {
        match given {
            Some(given) => {
                self.source.insert(id.clone(), Source::Api);
                self.api.insert(id, given)
            }
            None => {
                self.source.remove(&id);
                self.api.remove(&id)
            }
        }
    }

    /// Exchanges a file; returns what was there.
    pub fn set_file(&mut self, path: &Path, file: Option<File>) -> Option<File> {
        match file.as_ref().and_then(|file| file.error.as_ref()) {
            Some(_) => self.refused.insert(path.to_owned()),
            None => self.refused.remove(path),
        };
        let before = match file {
            Some(file) => self.files.insert(path.to_owned(), file),
            None => self.files.remove(path),
        };
        let here = Source::File(path.to_owned());
        for id in before.iter().flat_map(|before| before.documents.keys()) {
            if self.source.get(id) == Some(&here) {
                self.source.remove(id);
            }
        }
        for id in self.files.get(path).iter().flat_map(|file| file.documents.keys()) {
            self.source.insert(id.clone(), here.clone());
        }
        before
    }

    /// Writes a document of the API down as it is now, or that it is gone.
    pub fn save_api(&self, id: &DocumentId) -> Result<(), StateFileError> {
        match self.api.get(id) {
            Some(given) => state_file::write_bytes(&self.path_of(id), given.text.as_bytes()),
            None => state_file::remove(&self.path_of(id)),
        }
    }

    /// Keeps a file's last good content, soon.
    pub fn copy_file(&self, path: &Path) {
        let Some(name) = path.file_name() else { return };
        self.copies.keep(name, self.files.get(path).map(|file| file.good.clone()));
    }

    fn api_directory(&self) -> PathBuf {
        self.directory.join(API_DIRECTORY)
    }

    /// No name of a Kubernetes object has an underscore, so the file name is unique.
    fn path_of(&self, id: &DocumentId) -> PathBuf {
        let name = format!("{}_{}_{}.yaml", kind_name(id.kind), id.namespace, id.name);
        self.api_directory().join(name)
    }
}

/// Whether a name in the state directory's `policies` is one of [`Policies::path_of`].
pub fn is_api_file(name: &str) -> bool {
    use DocumentKind::{CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy, NetworkPolicy};
    let kinds = [CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, NetworkPolicy];
    let has_kind = kinds.iter().any(|kind| name.starts_with(&format!("{}_", kind_name(*kind))));
    has_kind && name.ends_with(".yaml")
}

pub fn kind_name(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::CiliumNetworkPolicy => "CiliumNetworkPolicy",
        DocumentKind::CiliumClusterwideNetworkPolicy => "CiliumClusterwideNetworkPolicy",
        DocumentKind::NetworkPolicy => "NetworkPolicy",
    }
}

/// Reads a text of one or more documents. All its problems are told at once; documents that are no
/// policies are left out.
pub fn parse(name: &str, text: &str) -> Result<Documents, AgentError> {
    let mut found = Documents::new();
    let mut problems = Vec::new();
    for (parsed, value) in documents::parse_with_values(text) {
        match parsed {
            Parsed::Policy(document) => {
                problems.extend(
                    document
                        .not_enforced
                        .iter()
                        .map(|note| format!("{name}: {} {}: {}", document.id, note.path, note.text)),
                );
                let id = (*document.id).clone();
                let value = value.unwrap_or_default();
                let text = serde_norway::to_string(&value).unwrap_or_else(|_| value.to_string());
                if found.insert(id.clone(), Given { document: Arc::new(document), text }).is_some() {
                    problems.push(format!("{name}: {id} stands there twice"));
                }
            }
            Parsed::Skipped { .. } => {}
            Parsed::Invalid(error) => {
                problems.extend(error.to_string().lines().map(|line| format!("{name}: {line}")));
            }
        }
    }
    if problems.is_empty() {
        return Ok(found);
    }
    Err(AgentError::Refused { reason: format!("{name} is refused"), details: problems })
}

/// What becomes of the documents of one source.
pub fn changes(before: &Documents, after: &Documents) -> Vec<DocumentChange> {
    let ids: BTreeSet<&DocumentId> = before.keys().chain(after.keys()).collect();
    let document = |of: &Documents, id| of.get(id).map(|given| given.document.clone());
    ids.into_iter().filter_map(|id| DocumentChange::new(document(before, id), document(after, id))).collect()
}

/// The files of a directory of ours, which need not exist yet.
fn list(directory: &Path) -> Result<BTreeSet<PathBuf>, AgentError> {
    let failed = |source| unreadable(directory, &source);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed));
    paths.filter(|path| path.as_ref().map_or(true, |path| !is_hidden(path))).collect()
}

fn read(path: &Path) -> Result<String, AgentError> {
    std::fs::read_to_string(path).map_err(|source| unreadable(path, &source))
}

/// Editors' and tools' own files start with a dot.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn unreadable(path: &Path, source: &std::io::Error) -> AgentError {
    AgentError::System(format!("cannot read {}: {source}", path.display()))
}
