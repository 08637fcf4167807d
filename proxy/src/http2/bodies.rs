//! Bodies of HTTP/2 streams: counted while they wait, and ended where their sender falls silent.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    account::{Account, Towards, Waiting},
    stream::Open,
};
use crate::body::{BodyError, RequestBody, ResponseBody};

fn counted(frame: Frame<Bytes>, account: &Arc<Account>, towards: Towards) -> Frame<Bytes> {
    frame.map_data(|octets| account.count(octets, towards))
}

/// A response on its way to the client.
pub(super) struct Outgoing {
    inner: ResponseBody,
    account: Arc<Account>,
    /// There while the client could have more and has not asked for it.
    waiting: Option<Waiting>,
    _open: Open,
}

impl Outgoing {
    pub(super) fn new(inner: ResponseBody, account: &Arc<Account>, open: Open) -> Self {
        let waiting = (!inner.is_end_stream()).then(|| account.waiting());
        Self { inner, account: Arc::clone(account), waiting, _open: open }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Asked for only where the client's windows have room.
        self.waiting = None;
        ready!(self.account.poll_room(cx));
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if !self.inner.is_end_stream() {
            self.waiting = Some(self.account.waiting());
        }
        let account = &self.account;
        Poll::Ready(frame.map(|frame| frame.map(|frame| counted(frame, account, Towards::Client))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a stream and its request's body tell each other.
#[derive(Default)]
pub(crate) struct Upload {
    /// The response head has come: whether more of the body is to come is between the two ends, as
    /// with the long silences of gRPC streams.
    answered: AtomicBool,
    /// The body ended because the client fell silent.
    stalled: AtomicBool,
}

impl Upload {
    pub(super) fn answered(&self) {
        self.answered.store(true, Relaxed);
    }

    pub(super) fn has_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }
}

/// A client's body on its way to the server.
pub(crate) struct Incoming {
    inner: RequestBody,
    account: Arc<Account>,
    stall_time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    upload: Arc<Upload>,
}

impl Incoming {
    pub(crate) fn new(
        inner: RequestBody,
        account: Arc<Account>,
        stall_time: Duration,
        upload: Arc<Upload>,
    ) -> Self {
        Self { inner, account, stall_time, timer: None, upload }
    }

    /// Gets back what could not be sent.
    pub(crate) fn into_inner(self) -> RequestBody {
        self.inner
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.account.poll_room(cx));
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            let stall_time = self.stall_time;
            if let Some(timer) = &mut self.timer {
                timer.as_mut().reset(Instant::now() + stall_time);
            }
            let account = &self.account;
            let counted = |frame| counted(frame, account, Towards::Server);
            return Poll::Ready(frame.map(|frame| frame.map(counted).map_err(BodyError::Http)));
        }
        let stall_time = self.stall_time;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(stall_time)));
        ready!(timer.as_mut().poll(cx));
        if self.upload.answered.load(Relaxed) {
            return Poll::Pending;
        }
        self.upload.stalled.store(true, Relaxed);
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
