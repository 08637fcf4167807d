//! A server's body as its frames come. Taken frames give their octets back to the server's windows.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use hyper::body::{Body, Frame, SizeHint};

pub(crate) struct Received {
    stream: RecvStream,
    data_done: bool,
}

impl Received {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self { stream, data_done: false }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(octets)) => {
                    // Fails only where the stream is gone, which the next frame says.
                    let _ = self.stream.flow_control().release_capacity(octets.len());
                    return Poll::Ready(Some(Ok(Frame::data(octets))));
                }
                Some(Err(error)) => return Poll::Ready(unless_wanted(error)),
                None => self.data_done = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(unless_wanted(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.stream.is_end_stream() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

/// A server that has answered resets with NO_ERROR what it need not read any more (RFC 9113 §8.1).
fn unless_wanted(error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
    (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
}
