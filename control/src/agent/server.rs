//! The API, version 1, over a unix socket.

use std::{io, os::unix::net::UnixListener as StdListener, path::Path, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::net::{UnixListener, UnixStream};

use super::{Agent, error::AgentError, netns};
use crate::api::{ApiError, ProxyReplaced, route};

mod answer;
mod endpoints;
mod explain;
mod maps;
mod policies;
mod status;

use answer::{Answer, json};

/// Makes the socket, 0660 from its first moment.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o117));
    let bound = StdListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves until the listener fails.
pub async fn serve(listener: UnixListener, agent: Arc<Agent>) -> io::Result<()> {
    let router = Router::new()
        .route(route::STATUS, get(status::status))
        .route(route::ENDPOINTS, get(endpoints::list).post(endpoints::add))
        .route(route::ENDPOINT, get(endpoints::one).delete(endpoints::delete))
        // `namespace/name`, however the client has written the slash.
        .route("/v1/endpoints/{namespace}/{name}", get(endpoints::one_of).delete(endpoints::delete_of))
        .route(route::IDENTITIES, get(endpoints::identities))
        .route(route::IDENTITY, get(endpoints::identity))
        .route(route::POLICIES, get(policies::list).post(policies::apply).delete(policies::delete))
        .route(route::EXPLAIN, post(explain::explain))
        .route(route::IPCACHE, get(endpoints::ipcache))
        .route(route::MAPS, get(maps::list))
        .route(route::MAP, get(maps::dump))
        .route(route::FLOWS, post(flows))
        .route(route::PROXY_REPLACE, post(replace_proxy))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(agent.clone());
    axum::serve(Peers { listener, agent }, router).await
}

async fn flows(State(agent): State<Arc<Agent>>, request: Request) -> Result<Response, AgentError> {
    let query = json(request).await?;
    let reader = agent.flows.read(&query).map_err(|error| AgentError::Invalid(error.to_string()))?;
    let body = axum::body::Body::from_stream(reader.into_json_lines());
    Ok(([(axum::http::header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn replace_proxy(State(agent): State<Arc<Agent>>) -> Answer<axum::Json<ProxyReplaced>> {
    let replacing = agent.supervisor.lock().await.as_ref().map(|supervisor| supervisor.replacing());
    let Some(replacing) = replacing else {
        return Err(AgentError::conflict(
            "this agent does not start proxies (--no-proxy-supervision): start the new one beside the old \
             one, which then drains",
        ));
    };
    let kept =
        |error| AgentError::conflict(format!("the proxy is not replaced, the old one goes on: {error}"));
    unbroken(async move {
        let replaced = replacing.replace().await.map_err(kept)?;
        Ok(axum::Json(ProxyReplaced { old: replaced.old, new: replaced.new }))
    })
    .await
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    let version = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let error = if version == "v1" {
        format!("there is no {path} in version 1 of the API")
    } else {
        format!("this agent speaks version 1 of the API (/v1/…), not {path}")
    };
    (StatusCode::NOT_FOUND, axum::Json(ApiError { error, details: vec![] })).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let error = format!("{} does not answer {}", request.uri().path(), request.method());
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(ApiError { error, details: vec![] })).into_response()
}

/// Runs a change to its end even if the client goes away meanwhile.
async fn unbroken<T: Send + 'static>(work: impl Future<Output = Answer<T>> + Send + 'static) -> Answer<T> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(AgentError::System(format!("the change ended early: {error}"))))
}

/// Connections from everywhere but workloads' network namespaces.
struct Peers {
    listener: UnixListener,
    agent: Arc<Agent>,
}

impl axum::serve::Listener for Peers {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match self.refusal(&stream).await {
                    None => return (stream, ()),
                    Some(reason) => {
                        tracing::warn!(reason, "API: peer turned away");
                        tell(&stream, reason);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "API: accept failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Peers {
    /// A workload may have the socket's directory mounted; it still must not change policy. Who
    /// cannot be placed is refused.
    async fn refusal(&self, stream: &UnixStream) -> Option<&'static str> {
        let Some(pid) = stream.peer_cred().ok().and_then(|peer| peer.pid()) else {
            return Some("it cannot be told who asks");
        };
        let Ok(namespace) = netns::of_process(pid) else {
            return Some("the network namespace of who asks cannot be told");
        };
        let workloads = self.agent.workload_namespaces.read().unwrap_or_else(|error| error.into_inner());
        workloads.contains(&namespace).then_some("workloads may not use the agent's API")
    }
}

/// Best effort: a client that speaks HTTP reads the reason.
fn tell(stream: &UnixStream, reason: &str) {
    let body = serde_json::json!({ "error": reason }).to_string();
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.try_write(format!("{head}{body}").as_bytes());
}
