//! HTTP/1 to the server: one connection for one client connection at a time.

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
    /// The server may know its client by the connection (NTLM, Negotiate: RFC 4559 §6): it is nobody else's.
    pub(crate) is_personal: bool,
    /// Its last request was one that may be sent twice.
    pub(crate) was_repeatable: bool,
}

/// How far the first octets of a request came.
#[must_use]
pub(crate) enum Begun {
    /// So many of them have gone, at least one.
    Sent(usize),
    /// None has: other policies have come into force before the server could take any.
    Overtaken,
}

impl Http1Upstream {
    pub(crate) async fn connect<R>(
        permit: &Permit<R>,
        flow: &Flow,
        upstreams: &Upstreams,
    ) -> Result<Self, UpstreamError> {
        let stream = upstreams.connect(permit, flow).await?;
        Ok(Self { stream, clock: Clock::default(), is_personal: false, was_repeatable: false })
    }

    /// Ready once no request can be sent any more: the server has closed, or said what nobody asked.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut octet = [0];
        Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::new(&mut octet)).map(|_| ())
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_closed(cx).is_ready())).await
    }

    /// Writes what goes at once of `output`, if the permit is of now.
    pub(crate) async fn begin<R>(
        &mut self,
        permit: &Permit<R>,
        output: &[u8],
        worker: &Worker,
    ) -> Result<Begun, UpstreamError> {
        if permit.is_current(worker) {
            // A change of policy lets go what waits before it comes into force.
            let octets = sends::send(&self.stream, output).await.map_err(UpstreamError::Broken)?;
            if octets > 0 {
                return Ok(Begun::Sent(octets));
            }
        }
        let stream = &mut self.stream;
        let mut limit = Limit::of(worker.limits.connect_time);
        let writing = self.clock.within(&mut limit, |cx| match permit.is_current(worker) {
            true => Pin::new(&mut *stream).poll_write(cx, output).map_ok(Some),
            false => Poll::Ready(Ok(None)),
        });
        let written = writing.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match written.map_err(UpstreamError::Broken)? {
            Some(octets) => Ok(Begun::Sent(octets)),
            None => Ok(Begun::Overtaken),
        }
    }
}
