//! Endpoints, identities, and whose an address is.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
};
use policy_engine::{direction::Direction, identity::Identity};

use super::{
    answer::{Answer, json},
    unbroken,
};
use crate::{
    agent::{Agent, endpoints::Endpoint, error::AgentError, identities::label_texts, state::State as Known},
    api,
};

pub async fn list(State(agent): State<Arc<Agent>>) -> Json<Vec<api::Endpoint>> {
    let state = agent.state.lock().await;
    Json(state.endpoints.iter().map(|endpoint| state.show(endpoint)).collect())
}

pub async fn one(State(agent): State<Arc<Agent>>, Path(name): Path<String>) -> Answer<Json<api::Endpoint>> {
    let state = agent.state.lock().await;
    Ok(Json(state.show(state.endpoints.find(&name)?)))
}

pub async fn one_of(
    state: State<Arc<Agent>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<Json<api::Endpoint>> {
    one(state, Path(format!("{namespace}/{name}"))).await
}

pub async fn add(
    State(agent): State<Arc<Agent>>,
    request: Request,
) -> Answer<(StatusCode, Json<api::Endpoint>)> {
    let request: api::EndpointAdd = json(request).await?;
    unbroken(async move {
        let mut state = agent.state.lock().await;
        let added = state.add_endpoint(request).await;
        agent.after_endpoints(&mut state).await;
        let id = added?;
        let endpoint = state
            .endpoints
            .by_id(id)
            .ok_or_else(|| AgentError::System("the endpoint was gone as soon as it was there".to_owned()))?;
        Ok((StatusCode::CREATED, Json(state.show(endpoint))))
    })
    .await
}

pub async fn delete(State(agent): State<Arc<Agent>>, Path(name): Path<String>) -> Answer<StatusCode> {
    unbroken(async move {
        let mut state = agent.state.lock().await;
        state.delete_endpoint(&name).await?;
        agent.after_endpoints(&mut state).await;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

pub async fn delete_of(
    state: State<Arc<Agent>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    delete(state, Path(format!("{namespace}/{name}"))).await
}

pub async fn identities(State(agent): State<Arc<Agent>>) -> Json<Vec<api::Identity>> {
    let state = agent.state.lock().await;
    Json(state.engine.identities().iter().map(|identity| state.show_identity(identity)).collect())
}

pub async fn identity(
    State(agent): State<Arc<Agent>>,
    Path(id): Path<String>,
) -> Answer<Json<api::Identity>> {
    let state = agent.state.lock().await;
    let number: u32 = id.parse().map_err(|_| AgentError::Invalid(format!("{id:?} is no identity number")))?;
    match state.engine.identities().identity(number) {
        Some(identity) => Ok(Json(state.show_identity(identity))),
        None => Err(AgentError::NotFound(format!("there is no identity {number}"))),
    }
}

pub async fn ipcache(State(agent): State<Arc<Agent>>) -> Json<Vec<api::IpcacheEntry>> {
    let state = agent.state.lock().await;
    let entries = state.ipcache.written().iter().map(|(prefix, owner)| api::IpcacheEntry {
        prefix: *prefix,
        identity: owner.identity,
        labels: state.labels_of(owner.identity),
        endpoint: state.endpoints.by_id(owner.endpoint).map(Endpoint::full_name),
        tunnel: None,
    });
    Json(entries.collect())
}

impl Known {
    pub fn labels_of(&self, identity: u32) -> Vec<String> {
        self.engine
            .identities()
            .identity(identity)
            .map(|identity| label_texts(&identity.labels))
            .unwrap_or_default()
    }

    pub fn show(&self, endpoint: &Endpoint) -> api::Endpoint {
        let identity = self.identity_of.get(&endpoint.id).copied().unwrap_or_default();
        let enforcement = |direction| {
            if self.enforcement.is_enforced(identity, direction) {
                api::Enforcement::Enforced
            } else {
                api::Enforcement::Open
            }
        };
        let subject = self.engine.identities().identity(identity);
        let documents = subject.into_iter().flat_map(|subject| {
            let selects = |spec: &policy_engine::model::Spec| spec.subject.matches(subject);
            self.engine.policies().selecting(subject).filter(move |d| d.specs.iter().any(selects))
        });
        let policy = api::EndpointPolicy {
            documents: documents.map(|document| document.id.to_string()).collect(),
            ingress: enforcement(Direction::Ingress),
            egress: enforcement(Direction::Egress),
            revision: self.enforcement.changed_at(endpoint.id),
        };
        endpoint.shown(identity, self.labels_of(identity), policy)
    }

    fn show_identity(&self, identity: &Identity) -> api::Identity {
        let endpoints = self
            .endpoints
            .iter()
            .filter(|endpoint| self.identity_of.get(&endpoint.id) == Some(&identity.id))
            .map(Endpoint::full_name);
        api::Identity {
            id: identity.id,
            kind: match identity.id {
                0..256 => api::IdentityKind::Reserved,
                256..65_536 => api::IdentityKind::Workload,
                _ => api::IdentityKind::Cidr,
            },
            labels: label_texts(&identity.labels),
            named_ports: self
                .identities
                .workload_key(identity.id)
                .map(|key| key.named_ports.clone())
                .unwrap_or_default(),
            endpoints: endpoints.collect(),
        }
    }
}
