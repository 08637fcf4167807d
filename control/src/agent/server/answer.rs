//! Requests in, answers out: the parts that all handlers share.

use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;

use crate::{agent::error::AgentError, api::ApiError};

pub type Answer<T> = Result<T, AgentError>;

/// Larger than any request that makes sense.
const LONGEST_BODY: usize = 32 << 20;

/// The request's body.
pub async fn json<T: DeserializeOwned>(request: Request) -> Answer<T> {
    let bytes = to_bytes(request.into_body(), LONGEST_BODY)
        .await
        .map_err(|error| AgentError::Invalid(format!("cannot read the request: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| AgentError::Invalid(format!("the request: {error}")))
}

impl IntoResponse for AgentError {
    fn into_response(self) -> Response {
        let status = match &self {
            AgentError::Invalid(_) => StatusCode::BAD_REQUEST,
            AgentError::NotFound(_) => StatusCode::NOT_FOUND,
            AgentError::Conflict { .. } => StatusCode::CONFLICT,
            AgentError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            AgentError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            AgentError::System(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = self.to_string();
        let details = match self {
            AgentError::Conflict { details, .. } | AgentError::Refused { details, .. } => details,
            _ => Vec::new(),
        };
        (status, Json(ApiError { error, details })).into_response()
    }
}
