//! Moves a body into a stream, a frame at a time: the next one is asked for when the stream's windows
//! have taken the last one.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::Body;

/// Ready when the body is sent, or nobody wants it any more.
pub(crate) struct Pump<B> {
    body: B,
    to: SendStream<Bytes>,
    /// A frame that waits for a window.
    waiting: Option<Waiting>,
}

struct Waiting {
    octets: Bytes,
    is_last: bool,
}

impl<B> Pump<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    pub(crate) fn new(body: B, to: SendStream<Bytes>) -> Self {
        Self { body, to, waiting: None }
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                while self.to.capacity() == 0 && !waiting.octets.is_empty() {
                    match ready!(self.to.poll_capacity(cx)) {
                        Some(capacity) => capacity?,
                        // Reset.
                        None => return Poll::Ready(Ok(())),
                    };
                }
                let is_last = waiting.is_last;
                self.to.send_data(std::mem::take(&mut waiting.octets), is_last)?;
                self.waiting = None;
                if is_last {
                    return Poll::Ready(Ok(()));
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // Whoever resets the stream does not wait for its next frame.
                return self.to.poll_reset(cx).map_ok(|_| ());
            };
            match frame {
                None => return Poll::Ready(self.to.send_data(Bytes::new(), true)),
                Some(Err(error)) => {
                    self.to.send_reset(reason(&error));
                    return Poll::Ready(Ok(()));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(octets) => {
                        // For one octet only: a claim on all of them would keep the connection's window
                        // from other streams, and the library asks for the rest when it has them.
                        self.to.reserve_capacity(octets.len().min(1));
                        self.waiting = Some(Waiting { octets, is_last: self.body.is_end_stream() });
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.to.reserve_capacity(0);
                            return Poll::Ready(self.to.send_trailers(trailers));
                        }
                    }
                },
            }
        }
    }
}

impl<B> Future for Pump<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_pump(cx).map(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "body not sent to its end");
            }
        })
    }
}

/// With which the other side's stream ended, so that a call that is cancelled is so on both sides.
fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        next = error.source();
    }
    Reason::INTERNAL_ERROR
}
