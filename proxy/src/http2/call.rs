//! A gRPC call: what its two directions, its record and a change of policy have in common.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    rc::{Rc, Weak},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use hyper::body::Frame;
use l7_parsers::grpc::Form;
use policy_engine::grpc::Content;

use crate::{
    capture::Flow,
    grpc::{Counted, Side},
    policy::{Judging, Snapshot},
    record::Recording,
    request::Head,
    response::{self, GrpcStatus},
    worker::{Held, OpenCall, Worker},
};

/// Lives as long as one of its directions; its record is written when its answer ends.
pub(crate) struct Call {
    counted: Rc<Counted>,
    /// What the client gives it, from its beginning.
    time: Option<Duration>,
    /// As it was judged; counted, as a client chooses how long it stays.
    head: OnceCell<(Head, Held)>,
    recording: RefCell<Recording>,
    /// A policy that came into force while it was open does not allow it.
    denied: Cell<bool>,
    ended: Cell<bool>,
    /// Who looks after the answer, and who after the client's messages.
    wakers: [Cell<Option<Waker>>; 2],
    _open: OpenCall,
}

impl Call {
    pub(super) fn new(worker: &Rc<Worker>, mut recording: Recording, headers: &HeaderMap) -> Rc<Self> {
        let content_type = headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let counted = Rc::new(Counted::new(Content::of(content_type).unwrap_or(Content::Grpc)));
        recording.counts(Rc::clone(&counted));
        Rc::new(Self {
            counted,
            time: headers.get("grpc-timeout").and_then(timeout),
            head: OnceCell::new(),
            recording: RefCell::new(recording),
            denied: Cell::new(false),
            ended: Cell::new(false),
            wakers: Default::default(),
            _open: worker.open_call(),
        })
    }

    /// Keeps what is judged, for the next policy.
    pub(super) fn asks(&self, head: &Head, held: Held) {
        let _ = self.head.set((head.clone(), held));
    }

    pub(super) fn note(&self, note: impl FnOnce(&mut Recording)) {
        note(&mut self.recording.borrow_mut());
    }

    /// Judges it by the policies in force now.
    pub(super) fn judge_again(&self, policy: &Snapshot, flow: &Flow) {
        let Some((head, _)) = self.head.get() else { return };
        if self.denied.get() || self.ended.get() {
            return;
        }
        let port = flow.original_dst.0.port();
        let judgement = policy.judge(&flow.steered, port, Judging::Request(head.facts()));
        if !judgement.denies() {
            return;
        }
        self.note(|recording| {
            recording.judged(&judgement);
            recording.because("it was allowed when it began, and ended by a change of policy");
        });
        self.denied.set(true);
        for waker in &self.wakers {
            waker.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_denied(&self) -> bool {
        self.denied.get()
    }

    /// Ready once a policy does not allow it any more.
    pub(super) async fn denied(&self) {
        poll_fn(|cx| {
            if self.denied.get() {
                return Poll::Ready(());
            }
            self.wait(Side::Answer, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Wakes when the call is denied.
    pub(super) fn wait(&self, side: Side, waker: &Waker) {
        let kept = self.wakers[side as usize].take().filter(|kept| kept.will_wake(waker));
        self.wakers[side as usize].set(Some(kept.unwrap_or_else(|| waker.clone())));
    }

    pub(super) fn passes(&self, side: Side, frame: &Frame<Bytes>) {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(octets), _) => self.counted.passes(side, octets),
            (None, Some(trailers)) if side == Side::Answer => self.says(trailers),
            _ => {}
        }
    }

    /// Notes the status that a header or trailer section has.
    pub(super) fn says(&self, fields: &HeaderMap) {
        if let Some(value) = fields.get(response::GRPC_STATUS) {
            self.counted.says(value.as_bytes());
        }
    }

    pub(super) fn says_reset(&self, reason: h2::Reason) {
        self.counted.ends_with(GrpcStatus::from(reason));
    }

    /// What ends an answer that has begun, in the form its client reads. `None`: a web client is in the
    /// middle of a message, where it could not tell an end from more of it.
    pub(super) fn last_frame(&self, status: GrpcStatus, message: &str) -> Option<Frame<Bytes>> {
        self.counted.ends_with(status);
        if self.counted.form() == Form::Grpc {
            return Some(Frame::trailers(response::trailers(status, message)));
        }
        self.counted.last_octets(status, message).map(|octets| Frame::data(Bytes::from(octets)))
    }

    /// Nobody waits for the answer any more.
    pub(super) fn given_up(&self) {
        if self.ended.get() {
            return;
        }
        let late = self.time.is_some_and(|time| self.counted.began().elapsed() >= time);
        let (status, reason) = match late {
            true => (GrpcStatus::DeadlineExceeded, "ended by the client at its deadline"),
            false => (GrpcStatus::Cancelled, "cancelled by the client"),
        };
        self.cut(status, reason);
    }

    /// Ended by something that is neither in a policy nor in an answer.
    pub(super) fn cut(&self, status: GrpcStatus, reason: &str) {
        if !self.ended.get() && !self.denied.get() {
            self.counted.ends_with(status);
            self.note(|recording| recording.because(reason));
        }
        self.end();
    }

    /// The answer has come to its end.
    pub(super) fn end(&self) {
        if !self.ended.replace(true) {
            self.note(Recording::write);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.given_up();
    }
}

/// The calls of a connection that may still be open.
#[derive(Default)]
pub(super) struct Calls {
    known: Vec<Weak<Call>>,
    /// How many there were after the last look.
    pruned_at: usize,
}

impl Calls {
    pub(super) fn enter(&mut self, call: &Rc<Call>) {
        if self.known.len() > self.pruned_at * 2 + 32 {
            self.known.retain(|call| call.strong_count() > 0);
            self.pruned_at = self.known.len();
        }
        self.known.push(Rc::downgrade(call));
    }

    pub(super) fn open(&self) -> Vec<Rc<Call>> {
        self.known.iter().filter_map(Weak::upgrade).filter(|call| !call.ended.get()).collect()
    }
}

/// Of a `grpc-timeout` header; `None`: no such time, so the server alone knows what to make of it.
fn timeout(value: &HeaderValue) -> Option<Duration> {
    let (number, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        for (text, time) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("20m", Some(Duration::from_millis(20))),
            ("7u", Some(Duration::from_micros(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("+1S", None),
            ("123456789S", None),
            ("1s", None),
        ] {
            assert_eq!(timeout(&HeaderValue::from_static(text)), time, "{text}");
        }
    }
}
