//! Documents in force.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
};

use super::{
    answer::{Answer, json},
    unbroken,
};
use crate::{
    agent::{
        Agent,
        error::AgentError,
        policies::kind_name,
        policy_changes::{selects, warnings},
    },
    api,
};

type Selector = Result<Query<api::PolicySelector>, QueryRejection>;

pub async fn list(
    State(agent): State<Arc<Agent>>,
    selector: Selector,
) -> Answer<Json<Vec<api::PolicyDocument>>> {
    let selector = checked(selector)?;
    let state = agent.state.lock().await;
    let mut documents: Vec<api::PolicyDocument> = state
        .policies
        .iter()
        .filter(|(_, given)| selects(&selector, &given.document.id))
        .map(|(source, given)| api::PolicyDocument {
            kind: kind_name(given.document.id.kind).to_owned(),
            namespace: given.document.id.namespace.clone(),
            name: given.document.id.name.clone(),
            source,
            endpoints: state.selected_by(&given.document),
            warnings: warnings(&given.document),
            text: given.text.clone(),
        })
        .collect();
    documents.sort_by(|a, b| (&a.kind, &a.namespace, &a.name).cmp(&(&b.kind, &b.namespace, &b.name)));
    Ok(Json(documents))
}

pub async fn apply(State(agent): State<Arc<Agent>>, request: Request) -> Answer<Json<api::ApplyResult>> {
    let request: api::ApplyRequest = json(request).await?;
    unbroken(async move { agent.apply(request).await.map(Json) }).await
}

pub async fn delete(State(agent): State<Arc<Agent>>, selector: Selector) -> Answer<Json<api::ApplyResult>> {
    let selector = checked(selector)?;
    unbroken(async move { agent.delete(&selector).await.map(Json) }).await
}

/// A field that is not known must not be taken for "all".
fn checked(selector: Selector) -> Answer<api::PolicySelector> {
    match selector {
        Ok(Query(selector)) => Ok(selector),
        Err(rejection) => Err(AgentError::Invalid(rejection.body_text())),
    }
}
