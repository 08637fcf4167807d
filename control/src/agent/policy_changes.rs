//! Changes of the documents in force: through the API and from watched files.

use std::collections::{BTreeMap, BTreeSet};
use std::{path::PathBuf, time::Duration};

use policy_engine::{
    identity::Identity,
    model::{Document, DocumentId, PortRule, Ports},
};

use super::{
    Agent,
    error::AgentError,
    options,
    policies::{self, Documents, Given, Policies, kind_name},
    policy_source,
    state::State,
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
        let before = state.policies.clone();
        let mut next = before.clone();
        next.api.extend(documents.clone());
        let revision = self.put(&mut state, next).await?;
        let applied = documents
            .iter()
            .map(|(id, given)| {
                let change = match before.api.get(id) {
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
        let before = state.policies.clone();
        let mut next = before.clone();
        next.api.retain(|id, _| !selects(selector, id));
        let gone: Vec<&Given> =
            before.api.iter().filter(|(id, _)| !next.api.contains_key(id)).map(|(_, given)| given).collect();
        if gone.is_empty() {
            let in_files = before.iter().find(|(_, given)| selects(selector, &given.document.id));
            return Err(match in_files {
                Some((source, given)) => AgentError::conflict(format!(
                    "{} came from {source}; it is in force as long as it is there",
                    given.document.id
                )),
                None => AgentError::NotFound("no document matches".to_owned()),
            });
        }
        let deleted = gone.iter().map(|given| state.applied(given, api::Change::Deleted)).collect();
        let revision = self.put(&mut state, next).await?;
        Ok(api::ApplyResult { revision, documents: deleted })
    }

    /// Puts the watched files' contents in force.
    pub async fn apply_files(
        &self,
        contents: &BTreeMap<PathBuf, Result<String, String>>,
    ) -> Result<(), AgentError> {
        let mut state = self.state.lock().await;
        let next = policy_source::with_files(&state.policies, contents);
        for (path, file) in &next.files {
            let error_before = state.policies.files.get(path).and_then(|file| file.error.as_ref());
            if let Some(error) = file.error.as_ref().filter(|error| Some(*error) != error_before) {
                tracing::error!(file = %path.display(), %error, "policy file refused");
            }
        }
        if next == state.policies {
            return Ok(());
        }
        let changed = policies::changed(&state.policies, &next);
        let with_error = |mut policies: Policies, reason: &str| {
            for (path, file) in &mut policies.files {
                let differs = next.files.get(path).is_some_and(|next| next.documents != file.documents);
                if differs {
                    file.error = Some(reason.to_owned());
                }
            }
            policies
        };
        match self.put(&mut state, next.clone()).await {
            Ok(revision) if !changed.is_empty() => {
                let documents: Vec<String> = changed.iter().map(DocumentId::to_string).collect();
                tracing::info!(revision, documents = documents.join(", "), "policy files in force");
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => {
                state.policies = with_error(state.policies.clone(), &error.to_string());
                Err(error)
            }
        }
    }

    /// Puts `next` in force and writes it down. On an error both are as before.
    async fn put(&self, state: &mut State, next: Policies) -> Result<u32, AgentError> {
        let before = state.policies.clone();
        let revision = if policies::changed(&before, &next).is_empty() {
            state.enforcement.revision()
        } else {
            let mut desired = state.desired.clone();
            desired.documents = next.set(options(&self.config));
            state.change(desired).await?
        };
        if let Err(error) = next.save(&before) {
            let mut desired = state.desired.clone();
            desired.documents = before.set(options(&self.config));
            state.change(desired).await?;
            // Some files may be written already; a start must not find them.
            if let Err(error) = before.save(&next) {
                tracing::error!(%error, "policies on disk are not those in force");
            }
            return Err(error.into());
        }
        state.policies = next;
        Ok(revision)
    }
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
                number.and_then(|number| self.table.identity(*number)).is_some_and(|i| subject_of(i))
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
