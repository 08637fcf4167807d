//! HTTP/1 to the server: one connection for one client connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{UpstreamError, UpstreamSocket, Upstreams};
use crate::{
    capture::Flow,
    http1::{Clock, Limit},
    sends,
    verdict::Permit,
    worker::Worker,
};

pub(crate) struct Http1Upstream {
    pub(crate) stream: UpstreamSocket,
    pub(crate) clock: Clock,
}

/// How far the first octets of a request came.
#[must_use]
pub(crate) enum Begun {
    /// Some or all of them have gone.
    Sent,
    /// None has: other policies have come into force before the server could take any.
    Overtaken,
}

impl Http1Upstream {
    pub(crate) async fn connect<R>(
        permit: &Permit<R>,
        flow: &Flow,
        upstreams: &Upstreams,
    ) -> Result<Self, UpstreamError> {
        Ok(Self { stream: upstreams.connect(permit, flow).await?, clock: Clock::default() })
    }

    /// Ready once no request can be sent any more: the server has closed, or said what nobody asked.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut octet = [0];
        Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut octet)).map(|_| ())
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_closed(cx).is_ready())).await
    }

    /// Writes what goes at once of `output`, and takes that out of it, if the permit is of now.
    pub(crate) async fn begin<R>(
        &mut self,
        permit: &Permit<R>,
        output: &mut Vec<u8>,
        worker: &Worker,
    ) -> Result<Begun, UpstreamError> {
        if permit.is_current(worker) {
            let all = output.len();
            // A change of policy lets go what waits before it comes into force.
            sends::send(&self.stream, output).await.map_err(UpstreamError::Broken)?;
            if output.len() < all {
                return Ok(Begun::Sent);
            }
        }
        let stream = &mut self.stream;
        let mut limit = Limit::of(worker.limits.connect_time);
        let writing = self.clock.within(&mut limit, |cx| match permit.is_current(worker) {
            true => Pin::new(&mut *stream).poll_write(cx, output).map_ok(Some),
            false => Poll::Ready(Ok(None)),
        });
        let written = writing.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let Some(octets) = written.map_err(UpstreamError::Broken)? else { return Ok(Begun::Overtaken) };
        if octets == output.len() {
            output.clear();
        } else {
            output.drain(..octets);
        }
        Ok(Begun::Sent)
    }
}
