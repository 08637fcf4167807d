//! One request and its response.

use std::{convert::Infallible, rc::Rc};

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::Session;
use crate::{
    body::ResponseBody,
    guard::Arrival,
    record::Recording,
    request::{Closing, Request, RequestError, Switch, clean_response},
    response,
    tunnel::{Facts, Tunnel, is_asked_for},
    upstream::{Http1Upstream, SendError, UpstreamError},
    verdict::{Permit, Verdict},
    worker::Stage,
};

/// Answers a request. Its record is written when this ends, however it ends.
pub(super) async fn serve(
    request: http::Request<Incoming>,
    session: Rc<Session>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut recording = Recording::start(&session.worker, &session.flow);
    let mut response = answer(request, &session, &mut recording).await;
    recording.status(response.status());
    // A proxy that ends says so with an answer: a client that is told sends its next request elsewhere.
    if session.worker.stage() != Stage::Serving && session.tunnel.borrow().is_none() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn answer(
    request: http::Request<Incoming>,
    session: &Session,
    recording: &mut Recording,
) -> Response<ResponseBody> {
    let protocol = if request.version() == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
    recording.protocol(protocol);
    let head = match session.shared.next_arrival() {
        Some(Arrival::Head(head)) => head,
        Some(Arrival::Refused(refused)) => {
            recording.refused(refused);
            return response::text(refused.status(), &refused.to_string(), Closing::Yes);
        }
        None => return refuse(RequestError::TwoReadings, recording),
    };
    // Whatever happens below, the guard is told how to read on.
    let settling = head.may_switch.then(|| Settling(Some(session)));
    let request = match Request::from_http1(request, head) {
        Ok(request) => request,
        Err(error) => return refuse(error, recording),
    };
    recording.request(protocol, &request);
    let facts = (request.switch != Switch::No).then(|| Facts::of(&request));
    let head_request = request.method == Method::HEAD;

    let permit = match session.worker.with_policy(|policy| request.judge(policy, &session.flow)) {
        Verdict::Allowed(permit, judgement) => {
            recording.judged(&judgement);
            permit
        }
        Verdict::Denied(request, judgement) => {
            recording.judged(&judgement);
            let grpc = request.is_grpc();
            discard(request, session);
            return response::denied(grpc);
        }
    };
    match (forward(permit, session).await, session.shared.broken()) {
        (Ok(upstream), _) => deliver(upstream, facts, head_request, settling, session, recording),
        // The upstream failed because the client's body did.
        (Err(_), Some(refused)) => {
            recording.refused(refused);
            response::text(refused.status(), &refused.to_string(), Closing::Yes)
        }
        (Err(error), None) => {
            recording.upstream_failed(&error);
            response::text(error.status(), "Upstream failure", Closing::No)
        }
    }
}

/// Sends on the session's upstream, or on a new one where there is none that works.
async fn forward(mut permit: Permit, session: &Session) -> Result<Response<Incoming>, UpstreamError> {
    let worker = &session.worker;
    let kept = session.upstream.take();
    // One that still has octets of an earlier body to send may never get rid of them.
    if let Some(mut upstream) = kept
        && tokio::time::timeout(worker.limits.connect_time, upstream.is_usable()).await == Ok(true)
    {
        match upstream.send(permit, &worker.limits).await {
            Ok(response) => {
                session.upstream.replace(Some(upstream));
                return Ok(response);
            }
            Err(SendError::Failed(error)) => return Err(error),
            Err(SendError::NotBegun(unsent, _)) => permit = *unsent,
        }
    }
    let mut upstream =
        Http1Upstream::connect(&permit, &session.flow, &worker.sockets, &worker.limits).await?;
    match upstream.send(permit, &worker.limits).await {
        Ok(response) => {
            session.upstream.replace(Some(upstream));
            Ok(response)
        }
        Err(SendError::NotBegun(_, error) | SendError::Failed(error)) => Err(error),
    }
}

/// Makes the client's response out of the upstream's.
fn deliver(
    mut upstream: Response<Incoming>,
    facts: Option<Facts>,
    head_request: bool,
    settling: Option<Settling<'_>>,
    session: &Session,
    recording: &mut Recording,
) -> Response<ResponseBody> {
    let status = upstream.status();
    recording.answered(status);
    let connected = facts.as_ref().is_some_and(Facts::is_connect) && status.is_success();
    let switched = status == StatusCode::SWITCHING_PROTOCOLS || connected;
    if switched {
        match facts {
            Some(facts) if connected || is_asked_for(&upstream, &facts) => {
                let tunnel = Tunnel { upgrade: hyper::upgrade::on(&mut upstream), facts };
                session.tunnel.replace(Some(tunnel));
                // The guard keeps what it holds: it belongs to the tunnel.
                if let Some(settling) = settling {
                    settling.leave();
                }
            }
            _ => {
                let error = UpstreamError::UnaskedSwitch;
                recording.upstream_failed(&error);
                return response::text(error.status(), "Upstream failure", Closing::Yes);
            }
        }
    } else {
        drop(settling);
    }
    let (mut parts, body) = upstream.into_parts();
    let closing = clean_response(&mut parts.headers, switched);
    if closing == Closing::Yes {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // The upstream's chunked body goes on chunked, whatever length stood beside it.
    if body.size_hint().exact().is_none() && !head_request {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    parts.version = http::Version::HTTP_11;
    Response::from_parts(parts, ResponseBody::forwarded(body, session.worker.limits.stream_idle_time))
}

fn refuse(error: RequestError, recording: &mut Recording) -> Response<ResponseBody> {
    recording.refused(error);
    response::text(StatusCode::BAD_REQUEST, &error.to_string(), Closing::Yes)
}

/// Reads a denied request's body, up to a bound, so that the next request can be read. Over the
/// bound the library closes the connection after the response.
fn discard(request: Request, session: &Session) {
    // Who waits for 100 Continue sends nothing after a 403.
    if request.expects_continue() || request.body.is_end_stream() {
        return;
    }
    let limits = session.worker.limits;
    let mut body = request.body;
    tokio::task::spawn_local(tokio::time::timeout(limits.stall_time, async move {
        let mut octets = 0;
        while let Some(Ok(frame)) = body.frame().await {
            octets += frame.data_ref().map_or(0, bytes::Bytes::len);
            if octets > limits.drain_octets {
                return;
            }
        }
    }));
}

/// Tells the guard, at the latest when dropped, that the stream goes on as HTTP.
struct Settling<'a>(Option<&'a Session>);

impl Settling<'_> {
    /// The stream does not go on as HTTP.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.shared.go_on();
        }
    }
}
