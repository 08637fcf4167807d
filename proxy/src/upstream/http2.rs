//! HTTP/2 to the server: one connection for one client connection, a stream for each stream.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Body;
use tokio::sync::oneshot;

use super::{UpstreamError, Upstreams, places::Place};
use crate::{
    capture::Flow,
    http2::{
        Account, Coalesced, Incoming as ClientBody, Pump, Received, SEND_BUFFER, STREAM_WINDOW, Upload,
        Window,
    },
    options::Limits,
    request::Outbound,
    verdict::Permit,
};

/// Streams that the server resets for errors of its own making or ours, in one connection's life.
const STREAM_ERRORS: usize = 1000;

/// How sending failed.
pub(crate) enum SendError {
    /// The server had closed the connection before the first octet: another one may carry the request.
    NotBegun(Box<Permit<Outbound>>, UpstreamError),
    Failed(UpstreamError),
}

#[derive(Clone)]
pub(crate) struct Http2Upstream {
    sender: SendRequest<Bytes>,
    /// Tells the connection that nobody will send any more; dropped after `sender`.
    _alive: Rc<oneshot::Sender<Infallible>>,
}

impl Http2Upstream {
    pub(crate) async fn connect(
        permit: &Permit<Outbound>,
        flow: &Flow,
        upstreams: &Upstreams,
        limits: &Limits,
        window: &Window,
    ) -> Result<Self, UpstreamError> {
        let (stream, place) = upstreams.connect(permit, flow).await?.into_parts();
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .max_header_list_size(u32::try_from(limits.http1.head_octets).unwrap_or(u32::MAX))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(window.octets())
            .max_send_buffer_size(SEND_BUFFER)
            .max_local_error_reset_streams(Some(STREAM_ERRORS))
            .handshake(Coalesced::new(stream))
            .await?;
        let (alive, gone) = oneshot::channel();
        tokio::task::spawn_local(run(connection, gone, place));
        Ok(Self { sender, _alive: Rc::new(alive) })
    }

    /// Whether it takes no more requests.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(self.sender.poll_ready(&mut nobody), Poll::Ready(Err(_)))
    }

    /// Sends the permitted request and waits for the response head.
    pub(crate) async fn send(
        &mut self,
        permit: Permit<Outbound>,
        limits: &Limits,
        account: &Arc<Account>,
        upload: &Rc<Upload>,
    ) -> Result<Response<Received>, SendError> {
        if let Err(error) = poll_fn(|cx| self.sender.poll_ready(cx)).await {
            return Err(SendError::NotBegun(Box::new(permit), error.into()));
        }
        let (Outbound { request, gate }, _) = permit.open();
        let (mut parts, body) = request.into_parts();
        parts.version = http::Version::HTTP_2;
        strip_hop_fields(&mut parts.headers);
        let is_whole = body.is_end_stream();
        let (mut response, to) = self
            .sender
            .send_request(Request::from_parts(parts, ()), is_whole)
            .map_err(|error| SendError::Failed(error.into()))?;
        let body = ClientBody::new(body, Arc::clone(account), limits, Rc::clone(upload));
        let mut pump = (!is_whole).then(|| Pump::new(body, to));
        let head = poll_fn(|cx| {
            // A server that has all the streams it takes lets this one wait.
            if pump.is_some() && self.sender.poll_ready(cx).is_ready() {
                pump.take_if(|pump| Pin::new(pump).poll(cx).is_ready());
            }
            if upload.is_gone() {
                // What the server's stream says now is our own doing; this one is about to end.
                return Poll::Pending;
            }
            if let Some(gate) = &gate {
                while let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
                    if head.status() == StatusCode::CONTINUE {
                        gate.open();
                    }
                }
            }
            Pin::new(&mut response).poll(cx)
        });
        let head = tokio::time::timeout(limits.response_time, head).await;
        if let Some(gate) = &gate {
            gate.open();
        }
        match head {
            Err(_) => Err(SendError::Failed(UpstreamError::ResponseTime(limits.response_time))),
            Ok(Err(error)) => Err(SendError::Failed(error.into())),
            Ok(Ok(response)) => {
                // The server answers before it has the whole request: both go on.
                if let Some(pump) = pump {
                    tokio::task::spawn_local(pump);
                }
                Ok(response.map(Received::new))
            }
        }
    }
}

/// Runs the connection until it ends, or nobody has it any more and its streams have ended.
async fn run(connection: Connection<Coalesced, Bytes>, gone: oneshot::Receiver<Infallible>, _place: Place) {
    let (mut connection, mut gone) = (pin!(connection), Some(gone));
    let result = poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            // The library looks for its end only when it is polled.
            if gone.take_if(|gone| Pin::new(gone).poll(cx).is_ready()).is_none() {
                return Poll::Pending;
            }
        }
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(%error, "upstream connection ended");
    }
}

/// A rule may add any field; the library refuses requests with these (RFC 9113 §8.2.2).
fn strip_hop_fields(fields: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        fields.remove(name);
    }
    if fields.get(header::TE).is_some_and(|te| te != "trailers") {
        fields.remove(header::TE);
    }
}
