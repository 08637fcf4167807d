//! One stream: one request and its response.

use std::{convert::Infallible, rc::Rc};

use http::{Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Session;
use crate::{
    body::ResponseBody,
    record::Recording,
    request::{Outbound, Request, clean_response},
    response,
    upstream::{Http2Upstream, SendError, UpstreamError},
    verdict::{Judged, Permit, Verdict, judge},
};

pub(super) async fn serve(
    request: http::Request<Incoming>,
    session: Rc<Session>,
) -> Result<Response<ResponseBody>, Infallible> {
    let _open = Open::new(&session);
    let mut recording = Recording::start(&session.worker, &session.flow);
    let response = answer(request, &session, &mut recording).await;
    recording.status(response.status());
    Ok(response)
}

async fn answer(
    request: http::Request<Incoming>,
    session: &Session,
    recording: &mut Recording,
) -> Response<ResponseBody> {
    recording.protocol("HTTP/2");
    let request = match Request::from_http2(request, session.worker.limits.http1.fields) {
        Ok(request) => request,
        Err(error) => {
            recording.refused(error);
            return response::text(StatusCode::BAD_REQUEST, &error.to_string()).into();
        }
    };
    recording.request("HTTP/2", &request.facts());
    let permit = match session.worker.with_policy(|policy| judge(request, policy, &session.flow)) {
        Verdict::Allowed(permit, judgement) => {
            recording.judged(&judgement);
            permit.map(Outbound::from)
        }
        Verdict::Denied(request, judgement) => {
            recording.judged(&judgement);
            return response::denied(request.is_grpc()).into();
        }
    };
    match forward(permit, session).await {
        Ok(upstream) => {
            recording.answered(upstream.status().as_u16());
            let (mut parts, body) = upstream.into_parts();
            clean_response(&mut parts.headers);
            parts.version = http::Version::HTTP_2;
            Response::from_parts(parts, ResponseBody::forwarded(body, session.worker.limits.stream_idle_time))
        }
        Err(error) => {
            recording.upstream_failed(&error);
            response::text(error.status(), "Upstream failure").into()
        }
    }
}

/// Sends on the connection's upstream, or on a new one where there is none that works.
async fn forward(permit: Permit<Outbound>, session: &Session) -> Result<Response<Incoming>, UpstreamError> {
    let limits = &session.worker.limits;
    let mut upstream = upstream(&permit, session).await?;
    match upstream.send(permit, limits).await {
        Ok(response) => Ok(response),
        Err(SendError::Failed(error)) => Err(error),
        Err(SendError::NotBegun(permit, _)) => {
            let mut upstream = self::upstream(&permit, session).await?;
            match upstream.send(*permit, limits).await {
                Ok(response) => Ok(response),
                Err(SendError::NotBegun(_, error) | SendError::Failed(error)) => Err(error),
            }
        }
    }
}

async fn upstream(permit: &Permit<Outbound>, session: &Session) -> Result<Http2Upstream, UpstreamError> {
    let worker = &session.worker;
    let mut upstream = session.upstream.lock().await;
    if let Some(open) = upstream.as_ref().filter(|upstream| !upstream.is_closed()) {
        return Ok(open.clone());
    }
    let new = Http2Upstream::connect(permit, &session.flow, &worker.sockets, &worker.limits).await?;
    *upstream = Some(new.clone());
    Ok(new)
}

/// Counts a stream until its response head is there.
struct Open<'a>(&'a Session);

impl<'a> Open<'a> {
    fn new(session: &'a Session) -> Self {
        session.open.set(session.open.get() + 1);
        Self(session)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.last.set(Instant::now());
    }
}
