//! Changes of the documents in force: through the API and from watched files.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use policy_engine::{
    identity::Identity,
    model::{Document, DocumentId, PortRule, Ports},
    policy_set::DocumentChange,
};

use super::{
    Agent,
    error::AgentError,
    policies::{self, Documents, File, Given, Policies, kind_name},
    policy_source::{self, Contents},
    state::{Change, State},
};
use crate::api;

/// How long a change with L7 rules waits for a proxy that is just being started.
const PROXY_WAIT: Duration = Duration::from_secs(5);
const NO_PROXY: &str =
    "no proxy is connected: until one is, connections that these L7 rules concern are dropped";

impl Agent {
    /// Puts the documents of a request in force, all or none.
    pub async fn apply(&self, request: api::ApplyRequest) -> Result<api::ApplyResult, AgentError> {
        let documents = parse_all(&request)?;
        let l7 = documents.values().any(|given| first_l7(&given.document).is_some());
        let has_proxy = !l7 || self.link.connected(PROXY_WAIT).await;
        let mut state = self.state.lock().await;
        refuse_conflicts(&state.policies, &documents)?;
        let wanted = documents.iter().map(|(id, given)| (id.clone(), Some(given.clone()))).collect();
        let (revision, before) = self.put(&mut state, wanted).await?;
        let applied = documents
            .values()
            .zip(before)
            .map(|(given, before)| {
                let change = match before {
                    None => api::Change::Created,
                    Some(old) if old.document == given.document => api::Change::Unchanged,
                    Some(_) => api::Change::Updated,
                };
                let mut applied = state.applied(given, change);
                if let Some(place) = first_l7(&given.document).filter(|_| !has_proxy) {
                    applied.warnings.push(format!("{place}: {NO_PROXY}"));
                }
                applied
            })
            .collect();
        Ok(api::ApplyResult { revision, documents: applied })
    }

    /// Takes documents of the API out of force.
    pub async fn delete(&self, selector: &api::PolicySelector) -> Result<api::ApplyResult, AgentError> {
        let mut state = self.state.lock().await;
        let policies = &state.policies;
        let gone: Vec<DocumentId> =
            policies.api().keys().filter(|id| selects(selector, id)).cloned().collect();
        if gone.is_empty() {
            let in_files = policies.iter().find(|(_, given)| selects(selector, &given.document.id));
            return Err(match in_files {
                Some((source, given)) => AgentError::conflict(format!(
                    "{} came from {source}; it is in force as long as it is there",
                    given.document.id
                )),
                None => AgentError::NotFound("no document matches".to_owned()),
            });
        }
        let given = gone.iter().filter_map(|id| policies.api().get(id));
        let deleted = given.map(|given| state.applied(given, api::Change::Deleted)).collect();
        let wanted = gone.into_iter().map(|id| (id, None)).collect();
        let (revision, _) = self.put(&mut state, wanted).await?;
        Ok(api::ApplyResult { revision, documents: deleted })
    }

    /// Puts documents of the API in force (`None`: out of force) and writes them down. Returns what was
    /// there before. On an error nothing has changed.
    async fn put(
        &self,
        state: &mut State,
        wanted: BTreeMap<DocumentId, Option<Given>>,
    ) -> Result<(u32, Vec<Option<Given>>), AgentError> {
        let ids: Vec<DocumentId> = wanted.keys().cloned().collect();
        let exchange = |state: &mut State, documents: Vec<Option<Given>>| -> Vec<Option<Given>> {
            let all = ids.iter().zip(documents);
            all.map(|(id, given)| state.policies.set_api(id.clone(), given)).collect()
        };
        let after: Vec<Option<Given>> = wanted.into_values().collect();
        let before = exchange(state, after.clone());
        let document = |given: &Option<Given>| given.as_ref().map(|given| given.document.clone());
        let changes: Vec<DocumentChange> = before
            .iter()
            .zip(&after)
            .filter_map(|(before, after)| DocumentChange::new(document(before), document(after)))
            .collect();
        if !changes.is_empty()
            && let Err(error) = state.change(Change::of_documents(changes.clone())).await
        {
            exchange(state, before);
            return Err(error);
        }
        let changed =
            || ids.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
        if let Err(error) = changed().try_for_each(|(id, _)| state.policies.save_api(id)) {
            exchange(state, before.clone());
            let back = changes.iter().map(DocumentChange::reversed).collect();
            state.change(Change::of_documents(back)).await?;
            // Some files may be written already; a start must not find them.
            if let Err(error) = changed().try_for_each(|(id, _)| state.policies.save_api(id)) {
                tracing::error!(%error, "policies on disk are not those in force");
            }
            return Err(error.into());
        }
        Ok((state.enforcement.revision(), before))
    }

    /// Puts the watched files' contents in force, which were noticed at `since`.
    pub async fn apply_files(&self, contents: &Contents, since: Instant) -> Result<(), AgentError> {
        let mut state = self.state.lock().await;
        let before = policy_source::take_in(&mut state.policies, contents);
        if before.is_empty() {
            return Ok(());
        }
        let mut changes: BTreeMap<DocumentId, DocumentChange> = BTreeMap::new();
        let nothing = Documents::new();
        for (path, before) in &before {
            let error_before = before.as_ref().and_then(|file| file.error.as_ref());
            let now = state.policies.files().get(path);
            let error = now.and_then(|file| file.error.as_ref());
            if let Some(error) = error.filter(|error| Some(*error) != error_before) {
                tracing::error!(file = %path.display(), %error, "policy file refused");
            }
            let documents = |file: Option<&File>| file.map_or(&nothing, |file| &file.documents).clone();
            for change in policies::changes(&documents(before.as_ref()), &documents(now)) {
                merge(&mut changes, change);
            }
        }
        let compared = since.elapsed();
        let changes: Vec<DocumentChange> = changes.into_values().collect();
        if changes.is_empty() {
            before.keys().for_each(|path| state.policies.copy_file(path));
            return Ok(());
        }
        match state.change(Change::of_documents(changes.clone())).await {
            Ok(revision) => {
                before.keys().for_each(|path| state.policies.copy_file(path));
                let names: Vec<String> =
                    changes.iter().take(NAMED).map(|change| change.id().to_string()).collect();
                let more = changes.len().saturating_sub(NAMED);
                tracing::info!(
                    revision,
                    documents = names.join(", "),
                    more,
                    read_us = compared.as_micros(),
                    total_us = since.elapsed().as_micros(),
                    "policy files in force"
                );
                Ok(())
            }
            Err(error) => {
                for (path, before) in before {
                    let now = state.policies.files().get(&path).cloned();
                    let differs = now.as_ref().map(|file| &file.documents)
                        != before.as_ref().map(|file| &file.documents);
                    let refused = match before {
                        Some(file) if differs => Some(File { error: Some(error.to_string()), ..file }),
                        None if differs => {
                            let error = Some(error.to_string());
                            now.map(|_| File { error, ..File::default() })
                        }
                        before => before,
                    };
                    state.policies.set_file(&path, refused);
                }
                Err(error)
            }
        }
    }
}

/// So many documents are named in the log.
const NAMED: usize = 4;

/// A document may leave one file and enter another.
fn merge(changes: &mut BTreeMap<DocumentId, DocumentChange>, change: DocumentChange) {
    let id = (**change.id()).clone();
    let change = match changes.remove(&id) {
        Some(other) => DocumentChange::new(change.before.or(other.before), change.after.or(other.after)),
        None => Some(change),
    };
    changes.extend(change.map(|change| (id, change)));
}

impl State {
    /// Names (`namespace/name`) of the endpoints that a document selects.
    pub fn selected_by(&self, document: &Document) -> Vec<String> {
        let subject_of =
            |identity: &Identity| document.specs.iter().any(|spec| spec.subject.matches(identity));
        self.endpoints
            .iter()
            .filter(|endpoint| {
                let number = self.identity_of.get(&endpoint.id);
                number
                    .and_then(|number| self.engine.identities().identity(*number))
                    .is_some_and(|i| subject_of(i))
            })
            .map(|endpoint| endpoint.full_name())
            .collect()
    }

    fn applied(&self, given: &Given, change: api::Change) -> api::AppliedDocument {
        api::AppliedDocument {
            document: given.document.id.to_string(),
            change,
            endpoints: self.selected_by(&given.document).len(),
            warnings: warnings(&given.document),
        }
    }
}

pub fn warnings(document: &Document) -> Vec<String> {
    document.warnings.iter().map(|note| format!("{}: {}", note.path, note.text)).collect()
}

pub fn selects(selector: &api::PolicySelector, id: &DocumentId) -> bool {
    let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
    is(&selector.kind, kind_name(id.kind))
        && is(&selector.namespace, &id.namespace)
        && is(&selector.name, &id.name)
}

/// The first place of a document that only a proxy can enforce.
fn first_l7(document: &Document) -> Option<&str> {
    let of_port = |port: &PortRule| port.l7.is_some();
    document.specs.iter().flat_map(|spec| spec.ingress.iter().chain(&spec.egress)).find_map(|rule| {
        let Ports::OneOf(ports) = &rule.ports else { return None };
        ports.iter().find(|port| of_port(port)).map(|port| port.origin.path.as_str())
    })
}

fn parse_all(request: &api::ApplyRequest) -> Result<Documents, AgentError> {
    let mut documents = Documents::new();
    let mut details = Vec::new();
    for source in &request.sources {
        match policies::parse(&source.name, &source.text) {
            Ok(parsed) => {
                let twice: BTreeSet<DocumentId> =
                    parsed.keys().filter(|id| documents.contains_key(id)).cloned().collect();
                details.extend(
                    twice.iter().map(|id| format!("{}: {id} stands in another file too", source.name)),
                );
                documents.extend(parsed);
            }
            Err(AgentError::Refused { details: more, .. }) => details.extend(more),
            Err(error) => details.push(error.to_string()),
        }
    }
    if !details.is_empty() {
        return Err(AgentError::Refused { reason: "nothing was applied".to_owned(), details });
    }
    if documents.is_empty() {
        let reason = "there is no policy document in it; nothing was applied".to_owned();
        return Err(AgentError::Refused { reason, details });
    }
    Ok(documents)
}

fn refuse_conflicts(policies: &Policies, documents: &Documents) -> Result<(), AgentError> {
    let details: Vec<String> = documents
        .keys()
        .filter_map(|id| {
            let other = policies.source_of(id, None)?;
            Some(format!("{id} is in force from {other}; change it there, or remove it there first"))
        })
        .collect();
    if details.is_empty() {
        return Ok(());
    }
    Err(AgentError::Conflict { reason: "nothing was applied".to_owned(), details })
}
