//! Message bodies on their way through. Frames are passed on as they come; nothing is collected.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::http2::{Received, Silence};

/// Holds a body back until the server has answered `100 Continue` or given its final response, or a
/// while has passed.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    waiting: AtomicWaker,
}

impl Gate {
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waiting.wake();
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.open.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        // Once more: it may have opened in between.
        if self.open.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// How long a body waits for `100 Continue`. Servers that do not know the expectation just wait for
/// the body, and so would both for ever (RFC 9110 §10.1.1).
const CONTINUE_TIME: Duration = Duration::from_secs(1);

/// A client's body, for the upstream.
pub struct RequestBody {
    inner: Incoming,
    waiting: Option<Waiting>,
}

struct Waiting {
    gate: Arc<Gate>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, gate: Option<Arc<Gate>>) -> Self {
        Self { inner, waiting: gate.map(|gate| Waiting { gate, timer: None }) }
    }
}

impl Waiting {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(CONTINUE_TIME)));
        timer.as_mut().poll(cx)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.poll(cx));
            self.waiting = None;
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            // They come after the verdict: a server that takes them for headers would see what no
            // rule was asked about.
            Some(Ok(frame)) if frame.is_trailers() => Poll::Ready(None),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What the client gets: the upstream's body, or a text of the proxy's own.
pub enum ResponseBody {
    Forwarded(Forwarded),
    Own(Bytes),
}

/// A server's body. Ends with an error when the server sends nothing for too long: a client that
/// has gone away shows only when something is written to it.
pub struct Forwarded {
    inner: Received,
    silence: Silence,
}

/// Why a response body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Upstream(#[source] h2::Error),
    #[error("the server sends nothing any more")]
    Idle,
    #[error("request body stalled")]
    Stalled,
    /// Of a call that goes on no longer; the other side gets the reason of the source.
    #[error("call ended")]
    Ended(#[source] h2::Error),
}

impl BodyError {
    pub(crate) fn cancel() -> Self {
        Self::Ended(h2::Reason::CANCEL.into())
    }

    /// Why the server ended this stream and no other.
    pub(crate) fn reset(&self) -> Option<h2::Reason> {
        match self {
            Self::Upstream(error) => reset_of(error),
            _ => None,
        }
    }
}

/// With what reason the other end reset the stream; `None`: it did not.
pub(crate) fn reset_of(error: &h2::Error) -> Option<h2::Reason> {
    error.reason().filter(|_| error.is_reset() && error.is_remote())
}

impl ResponseBody {
    pub(crate) fn forwarded(inner: Received, idle_time: Duration) -> Self {
        Self::Forwarded(Forwarded { inner, silence: Silence::new(idle_time) })
    }
}

impl Forwarded {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.silence.end();
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Upstream)));
        }
        ready!(self.silence.poll(cx));
        Poll::Ready(Some(Err(BodyError::Idle)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Forwarded(body) => body.poll_frame(cx),
            Self::Own(text) if text.is_empty() => Poll::Ready(None),
            Self::Own(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Forwarded(body) => body.inner.is_end_stream(),
            Self::Own(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Forwarded(body) => body.inner.size_hint(),
            Self::Own(text) => SizeHint::with_exact(text.len() as u64),
        }
    }
}
