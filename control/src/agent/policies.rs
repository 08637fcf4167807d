//! The documents in force and where each came from: the API (kept in the state directory, one file
//! a document) or a watched file (with its last good content kept too, so that a file which is bad
//! at a restart does not open what it closed before).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use policy_engine::{
    documents::{self, Parsed},
    model::{Document, DocumentId, DocumentKind},
    policy_set::{Options, PolicySet},
};

use super::{
    error::AgentError,
    state_file::{self, StateFileError},
};

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

/// All sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    directory: PathBuf,
    pub api: Documents,
    pub files: BTreeMap<PathBuf, File>,
}

pub const API_DIRECTORY: &str = "policies";
pub const FILES: &str = "policy-files.json";

impl Policies {
    /// Reads what the state directory has. A file there that does not parse is an error: without it
    /// something would be open that was closed.
    pub fn load(state: &Path) -> Result<Self, AgentError> {
        let mut policies = Self { directory: state.to_owned(), ..Self::default() };
        let directory = policies.api_directory();
        std::fs::create_dir_all(&directory).map_err(|source| unreadable(&directory, &source))?;
        let entries = std::fs::read_dir(&directory).map_err(|source| unreadable(&directory, &source))?;
        for entry in entries {
            let path = entry.map_err(|source| unreadable(&directory, &source))?.path();
            if is_hidden(&path) {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|source| unreadable(&path, &source))?;
            policies.api.extend(parse(&path.display().to_string(), &text)?);
        }
        let files: Option<BTreeMap<PathBuf, String>> = state_file::read(&state.join(FILES))?;
        for (path, good) in files.unwrap_or_default() {
            let documents = parse(&path.display().to_string(), &good)?;
            policies.files.insert(path, File { documents, good, error: None });
        }
        Ok(policies)
    }

    /// Everything in force, together.
    pub fn set(&self, options: Options) -> PolicySet {
        let mut set = PolicySet::new(options);
        for given in self.iter().map(|(_, given)| given) {
            set.upsert(given.document.clone());
        }
        set
    }

    /// Each document with its source: `api` or the file's path.
    pub fn iter(&self) -> impl Iterator<Item = (String, &Given)> {
        let files = self.files.iter().flat_map(|(path, file)| {
            file.documents.values().map(|given| (path.display().to_string(), given))
        });
        self.api.values().map(|given| ("api".to_owned(), given)).chain(files)
    }

    /// Where a document is, other than `except`.
    pub fn source_of(&self, id: &DocumentId, except: Option<&Path>) -> Option<String> {
        if except.is_some() && self.api.contains_key(id) {
            return Some("the API".to_owned());
        }
        self.files
            .iter()
            .find(|(path, file)| Some(path.as_path()) != except && file.documents.contains_key(id))
            .map(|(path, _)| path.display().to_string())
    }

    /// Brings the state directory from `before` to these policies.
    pub fn save(&self, before: &Self) -> Result<(), StateFileError> {
        for (id, given) in &self.api {
            if before.api.get(id) != Some(given) {
                state_file::write_bytes(&self.path_of(id), given.text.as_bytes())?;
            }
        }
        for id in before.api.keys().filter(|id| !self.api.contains_key(id)) {
            state_file::remove(&self.path_of(id))?;
        }
        let good = |policies: &Self| -> BTreeMap<PathBuf, String> {
            policies.files.iter().map(|(path, file)| (path.clone(), file.good.clone())).collect()
        };
        if good(self) != good(before) {
            state_file::write(&self.directory.join(FILES), &good(self))?;
        }
        Ok(())
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

/// Ids that differ, or differ in content, between two states.
pub fn changed(before: &Policies, after: &Policies) -> BTreeSet<DocumentId> {
    let documents = |policies: &Policies| -> BTreeMap<DocumentId, Arc<Document>> {
        policies.iter().map(|(_, given)| ((*given.document.id).clone(), given.document.clone())).collect()
    };
    let (before, after) = (documents(before), documents(after));
    let ids: BTreeSet<&DocumentId> = before.keys().chain(after.keys()).collect();
    ids.into_iter().filter(|id| before.get(id) != after.get(id)).cloned().collect()
}

/// Editors' and tools' own files start with a dot.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn unreadable(path: &Path, source: &std::io::Error) -> AgentError {
    AgentError::System(format!("cannot read {}: {source}", path.display()))
}
