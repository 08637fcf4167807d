//! HTTP/1 to the server: one connection for one client connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{UpstreamError, UpstreamSocket, Upstreams};
use crate::{
    capture::Flow,
    http1::{Clock, Limit},
    verdict::Permit,
};

pub(crate) struct Http1Upstream {
    pub(crate) stream: UpstreamSocket,
    pub(crate) clock: Clock,
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

    /// Writes what goes at once of `output`, and takes that out of it.
    pub(crate) async fn begin(&mut self, output: &mut Vec<u8>, time: Duration) -> Result<(), UpstreamError> {
        let stream = &mut self.stream;
        let mut limit = Limit::of(time);
        let written = self.clock.within(&mut limit, |cx| Pin::new(&mut *stream).poll_write(cx, output)).await;
        let octets =
            written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(UpstreamError::Broken)?;
        if octets == output.len() {
            output.clear();
        } else {
            output.drain(..octets);
        }
        Ok(())
    }
}
