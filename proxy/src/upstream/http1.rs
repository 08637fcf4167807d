//! HTTP/1 to the server: one connection for one client connection.

use http::Response;
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{SendError, UpstreamError, UpstreamSockets};
use crate::{body::RequestBody, capture::Flow, options::Limits, verdict::Permit};

pub(crate) struct Http1Upstream {
    sender: SendRequest<RequestBody>,
}

impl Http1Upstream {
    pub(crate) async fn connect(
        permit: &Permit,
        flow: &Flow,
        sockets: &UpstreamSockets,
        limits: &Limits,
    ) -> Result<Self, UpstreamError> {
        let stream = sockets.connect(permit, flow).await?;
        let (sender, connection) =
            Builder::new().max_headers(limits.http1.fields.max(100)).handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Self { sender })
    }

    /// Waits until the connection can take a request; it never can once the server has closed it.
    pub(crate) async fn is_usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends the permitted request and waits for the response head.
    pub(crate) async fn send(
        &mut self,
        permit: Permit,
        limits: &Limits,
    ) -> Result<Response<Incoming>, SendError> {
        let (request, gate) = permit.into_parts();
        let response =
            tokio::time::timeout(limits.response_time, self.sender.try_send_request(request)).await;
        if let Some(gate) = &gate {
            // A final response without 100 Continue: what becomes of the body is for the framing of
            // the two connections to settle.
            gate.open();
        }
        match response {
            Err(_) => Err(SendError::Failed(UpstreamError::ResponseTime(limits.response_time))),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(mut error)) => Err(match error.take_message() {
                Some(request) => SendError::NotBegun(
                    Box::new(Permit::from_parts(request, gate)),
                    error.into_error().into(),
                ),
                None => SendError::Failed(error.into_error().into()),
            }),
        }
    }
}
