//! One stream: one request and its response.

use std::{cell::RefCell, convert::Infallible, future::poll_fn, rc::Rc};

use http::{Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    Received, Session,
    bodies::{Outgoing, Upload},
    call::Call,
};
use crate::{
    body::ResponseBody,
    record::Recording,
    request::{FieldsOf, Outbound, Request, clean_response},
    response::{self, Tongue},
    upstream::{Http2Upstream, SendError, UpstreamError},
    verdict::{Judged, Permit, Verdict, judge},
};

pub(super) async fn serve(
    request: http::Request<Incoming>,
    session: Rc<Session>,
) -> Result<Response<Outgoing>, Infallible> {
    let mut open = Open::new(Rc::clone(&session));
    let recording = Recording::start(&session.worker, &session.flow);
    let tongue = Tongue::of_fields(&FieldsOf(request.headers()));
    let log = match &tongue {
        Tongue::Http => Log::Request(RefCell::new(recording)),
        Tongue::Grpc(_) => Log::Call(Call::new(&session.worker, recording, request.headers())),
    };
    let response = answer(request, &session, &log, tongue).await;
    log.note(|recording| recording.status(response.status()));
    open.answered();
    let call = log.into_call();
    if let Some(call) = &call {
        call.says(response.headers());
    }
    Ok(response.map(|body| Outgoing::new(body, &session.account, open, call)))
}

/// Where the record of a stream is: that of a call outlives the head of its answer.
#[allow(clippy::large_enum_variant)] // the large one is the usual one, and lives as long as its stream
enum Log {
    Request(RefCell<Recording>),
    Call(Rc<Call>),
}

impl Log {
    fn note(&self, note: impl FnOnce(&mut Recording)) {
        match self {
            Self::Request(recording) => note(&mut recording.borrow_mut()),
            Self::Call(call) => call.note(note),
        }
    }

    fn call(&self) -> Option<&Rc<Call>> {
        match self {
            Self::Request(_) => None,
            Self::Call(call) => Some(call),
        }
    }

    fn into_call(self) -> Option<Rc<Call>> {
        match self {
            Self::Request(_) => None,
            Self::Call(call) => Some(call),
        }
    }
}

async fn answer(
    request: http::Request<Incoming>,
    session: &Session,
    log: &Log,
    tongue: Tongue,
) -> Response<ResponseBody> {
    log.note(|recording| recording.protocol("HTTP/2"));
    let head_octets = head_octets(&request);
    if log.call().is_some() {
        // What its head takes is kept for as long as it is open.
        poll_fn(|cx| session.account.poll_room(cx)).await;
    }
    if head_octets > session.worker.limits.http1.head_octets {
        log.note(|recording| recording.refused("request head too large"));
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return response::text(tongue, status, "request head too large").into();
    }
    let request = match Request::from_http2(request, session.worker.limits.http1.fields) {
        Ok(request) => request,
        Err(error) => {
            log.note(|recording| recording.refused(error));
            return response::text(tongue, StatusCode::BAD_REQUEST, &error.to_string()).into();
        }
    };
    log.note(|recording| recording.request("HTTP/2", &request.facts()));
    if let Some(call) = log.call() {
        call.asks(request.head(), session.account.hold(head_octets));
    }
    let permit = match session.worker.with_policy(|policy| judge(request, policy, &session.flow)) {
        Verdict::Allowed(permit, judgement) => {
            log.note(|recording| recording.judged(&judgement));
            permit.map(Outbound::from)
        }
        Verdict::Denied(_, judgement) => {
            log.note(|recording| recording.judged(&judgement));
            return response::denied(tongue).into();
        }
    };
    let upload = Upload::of(log.call().cloned());
    let forwarding = forward(permit, session, &upload);
    let forwarded = match log.call() {
        None => forwarding.await,
        Some(call) => {
            // Judged and entered in one breath: no change of policy comes between.
            session.calls.borrow_mut().enter(call);
            tokio::select! {
                biased;
                () = call.denied() => return response::denied_now(tongue).into(),
                forwarded = forwarding => forwarded,
            }
        }
    };
    match forwarded {
        Ok(upstream) => {
            upload.answered();
            log.note(|recording| recording.answered(upstream.status().as_u16()));
            let (mut parts, body) = upstream.into_parts();
            clean_response(&mut parts.headers);
            parts.version = http::Version::HTTP_2;
            Response::from_parts(parts, ResponseBody::forwarded(body, session.worker.limits.stream_idle_time))
        }
        // The upstream failed because the client's body did.
        Err(_) if upload.has_stalled() => {
            log.note(|recording| recording.refused("request body stalled"));
            response::text(tongue, StatusCode::REQUEST_TIMEOUT, "request body stalled").into()
        }
        Err(error) => {
            log.note(|recording| recording.upstream_failed(&error));
            response::failed(tongue, error.status(), error.reset()).into()
        }
    }
}

/// As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 §6.5.2); the pseudo-headers' own few octets aside.
fn head_octets(request: &http::Request<Incoming>) -> usize {
    const EACH: usize = 32;
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + EACH);
    let uri = request.uri();
    let target = uri.path_and_query().map_or(0, |path| path.as_str().len());
    fields.sum::<usize>() + target + uri.authority().map_or(0, |authority| authority.as_str().len())
}

/// Sends on the connection's upstream, or on a new one where there is none that works.
async fn forward(
    permit: Permit<Outbound>,
    session: &Session,
    upload: &Rc<Upload>,
) -> Result<Response<Received>, UpstreamError> {
    let (limits, account) = (&session.worker.limits, &session.account);
    let mut upstream = upstream(&permit, session).await?;
    match upstream.send(permit, limits, account, upload).await {
        Ok(response) => Ok(response),
        Err(SendError::Failed(error)) => Err(error),
        Err(SendError::NotBegun(permit, _)) => {
            let mut upstream = self::upstream(&permit, session).await?;
            match upstream.send(*permit, limits, account, upload).await {
                Ok(response) => Ok(response),
                Err(SendError::NotBegun(_, error) | SendError::Failed(error)) => Err(error),
            }
        }
    }
}

async fn upstream(permit: &Permit<Outbound>, session: &Session) -> Result<Http2Upstream, UpstreamError> {
    let worker = &session.worker;
    let mut upstream = session.upstream.lock().await;
    if let Some(open) = upstream.as_mut()
        && !open.is_closed()
    {
        return Ok(open.clone());
    }
    let (sockets, limits) = (&worker.upstreams, &worker.limits);
    let new = Http2Upstream::connect(permit, &session.flow, sockets, limits, &session.window).await?;
    *upstream = Some(new.clone());
    Ok(new)
}

/// Counts a stream until its response is sent, or nobody wants it any more.
pub(super) struct Open {
    session: Rc<Session>,
    answered: bool,
}

impl Open {
    fn new(session: Rc<Session>) -> Self {
        session.open.set(session.open.get() + 1);
        Self { session, answered: false }
    }

    fn answered(&mut self) {
        self.answered = true;
        self.session.answered.set(self.session.answered.get() + 1);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.session.open.set(self.session.open.get() - 1);
        self.session.last.set(Instant::now());
        if !self.answered {
            self.session.given_up();
        }
    }
}
