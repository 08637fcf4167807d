//! HTTP/2 to the server: one connection for one client connection, a stream for each stream.

use std::{rc::Rc, sync::Arc};

use http::Response;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{UpstreamError, Upstreams};
use crate::{
    capture::Flow,
    http2::{
        Account, CONNECTION_WINDOW, Coalesced, Incoming as ClientBody, LocalExecutor, SEND_BUFFER,
        STREAM_WINDOW, Upload,
    },
    options::Limits,
    request::Outbound,
    verdict::Permit,
};

/// How sending failed.
pub(crate) enum SendError {
    /// The server had closed the connection before the first octet: another one may carry the request.
    NotBegun(Box<Permit<Outbound>>, UpstreamError),
    Failed(UpstreamError),
}

#[derive(Clone)]
pub(crate) struct Http2Upstream {
    sender: SendRequest<ClientBody>,
}

impl Http2Upstream {
    pub(crate) async fn connect(
        permit: &Permit<Outbound>,
        flow: &Flow,
        upstreams: &Upstreams,
        limits: &Limits,
    ) -> Result<Self, UpstreamError> {
        let stream = upstreams.connect(permit, flow).await?;
        let (sender, connection) = Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.http1.head_octets).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .handshake(TokioIo::new(Coalesced::new(stream)))
            .await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends the permitted request and waits for the response head.
    pub(crate) async fn send(
        &mut self,
        permit: Permit<Outbound>,
        limits: &Limits,
        account: &Arc<Account>,
        upload: &Rc<Upload>,
    ) -> Result<Response<Incoming>, SendError> {
        let (Outbound { mut request, gate }, permit) = permit.open();
        *request.version_mut() = http::Version::HTTP_2;
        let body = |body| ClientBody::new(body, Arc::clone(account), limits, Rc::clone(upload));
        let request = request.map(body);
        let response =
            tokio::time::timeout(limits.response_time, self.sender.try_send_request(request)).await;
        if let Some(gate) = &gate {
            gate.open();
        }
        match response {
            Err(_) => Err(SendError::Failed(UpstreamError::ResponseTime(limits.response_time))),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => Err(match error.take_message() {
                Some(request) => SendError::NotBegun(
                    Box::new(
                        permit.map(|()| Outbound { request: request.map(ClientBody::into_inner), gate }),
                    ),
                    error.into_error().into(),
                ),
                None => SendError::Failed(error.into_error().into()),
            }),
        }
    }
}
