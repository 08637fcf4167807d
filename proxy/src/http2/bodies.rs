//! Bodies of HTTP/2 streams: counted while they wait, and ended where their sender falls silent.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    Silence,
    account::{Account, Towards, Waiting},
    call::Call,
    stream::Open,
};
use crate::{
    body::{BodyError, RequestBody, ResponseBody},
    grpc::Side,
    options::Limits,
    response::{self, GrpcStatus},
};

fn counted(frame: Frame<Bytes>, account: &Arc<Account>, towards: Towards) -> Frame<Bytes> {
    frame.map_data(|octets| account.count(octets, towards))
}

/// A response on its way to the client.
pub(super) struct Outgoing {
    inner: ResponseBody,
    account: Arc<Account>,
    /// There while the client could have more and has not asked for it.
    waiting: Option<Waiting>,
    call: Option<Rc<Call>>,
    _open: Open,
}

type Answered = Option<Result<Frame<Bytes>, BodyError>>;

impl Outgoing {
    pub(super) fn new(
        inner: ResponseBody,
        account: &Arc<Account>,
        open: Open,
        call: Option<Rc<Call>>,
    ) -> Self {
        let waiting = (!inner.is_end_stream()).then(|| account.waiting());
        Self { inner, account: Arc::clone(account), waiting, call, _open: open }
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Answered> {
        // Asked for only where the client's windows have room.
        self.waiting = None;
        ready!(self.account.poll_room(cx));
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if !self.inner.is_end_stream() {
            self.waiting = Some(self.account.waiting());
        }
        Poll::Ready(frame)
    }

    /// The next frame of a call, or what ends it.
    fn poll_call(&mut self, call: &Call, cx: &mut Context<'_>) -> Poll<Answered> {
        if call.is_denied() && !self.inner.is_end_stream() {
            return Poll::Ready(Some(self.end(call, GrpcStatus::PermissionDenied, response::POLICY_CHANGED)));
        }
        let Poll::Ready(frame) = self.poll_inner(cx) else {
            call.wait(Side::Answer, cx.waker());
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => call.passes(Side::Answer, frame),
            None => call.end(),
            Some(Err(error)) => {
                call.note(|recording| recording.upstream_failed(error));
                match error.reset() {
                    // The client gets the server's own reason.
                    Some(reason) => call.says_reset(reason),
                    None => {
                        return Poll::Ready(Some(self.end(call, GrpcStatus::Unavailable, response::FAILED)));
                    }
                }
            }
        }
        Poll::Ready(frame)
    }

    /// Ends the answer here, and the server's stream with it.
    fn end(&mut self, call: &Call, status: GrpcStatus, message: &str) -> Result<Frame<Bytes>, BodyError> {
        self.waiting = None;
        self.inner = ResponseBody::Own(Bytes::new());
        call.last_frame(status, message).ok_or_else(BodyError::cancel)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let Some(call) = &self.call else { return };
        // The library asks for no more frames once it knows that there are none.
        match self.inner.is_end_stream() {
            true => call.end(),
            false => call.given_up(),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.call.clone() {
            None => ready!(self.poll_inner(cx)),
            Some(call) => ready!(self.poll_call(&call, cx)),
        };
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
    answered: Cell<bool>,
    /// The body ended because the client fell silent.
    stalled: Cell<bool>,
    /// The client has given its stream up, or broken it.
    gone: Cell<bool>,
    call: Option<Rc<Call>>,
}

impl Upload {
    pub(super) fn of(call: Option<Rc<Call>>) -> Rc<Self> {
        Rc::new(Self { call, ..Self::default() })
    }

    pub(super) fn answered(&self) {
        self.answered.set(true);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    pub(super) fn has_stalled(&self) -> bool {
        self.stalled.get()
    }
}

/// A client's body on its way to the server.
pub(crate) struct Incoming {
    inner: RequestBody,
    account: Arc<Account>,
    silence: Silence,
    upload: Rc<Upload>,
}

impl Incoming {
    pub(crate) fn new(
        inner: RequestBody,
        account: Arc<Account>,
        limits: &Limits,
        upload: Rc<Upload>,
    ) -> Self {
        // A server may keep a call's client waiting for as long as it takes, and for its first word, too.
        let stall_time = if upload.call.is_some() { limits.stream_idle_time } else { limits.stall_time };
        Self { inner, account, silence: Silence::new(stall_time), upload }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(call) = &self.upload.call {
            if call.is_denied() {
                return Poll::Ready(Some(Err(BodyError::cancel())));
            }
            call.wait(Side::Request, cx.waker());
        }
        ready!(self.account.poll_room(cx));
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            if let (Some(call), Some(Ok(frame))) = (&self.upload.call, &frame) {
                call.passes(Side::Request, frame);
            }
            self.upload.gone.set(matches!(frame, Some(Err(_))));
            self.silence.end();
            let account = &self.account;
            let counted = |frame| counted(frame, account, Towards::Server);
            return Poll::Ready(frame.map(|frame| frame.map(counted).map_err(BodyError::Http)));
        }
        ready!(self.silence.poll(cx));
        if self.upload.answered.get() {
            return Poll::Pending;
        }
        self.upload.stalled.set(true);
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
