//! A gRPC call: what its two directions, its record and a change of policy have in common.

use std::{rc::Rc, time::Duration};

use http::{HeaderName, HeaderValue};
use l7_parsers::{grpc::Form, http2::frame::Code};
use policy_engine::grpc::Content;

use super::{fields::Fields, request::Request};
use tektin_abi::maps::SteeredValue;

use crate::{
    grpc::{Counted, Side},
    policy::{Judging, Snapshot},
    record::Recording,
    response::{self, GrpcStatus},
    worker::{Held, OpenCall, Worker},
};

/// Its record is written when its answer ends.
pub(super) struct Call {
    counted: Rc<Counted>,
    /// What the client gives it, from its beginning.
    time: Option<Duration>,
    /// As it was judged; counted, as a client chooses how long it stays.
    head: Option<(Request, Held)>,
    recording: Recording,
    /// Its answer has begun, and is gRPC's, so that words of the proxy's can end it. Elsewhere they would
    /// make what was cut off look whole.
    takes_words: bool,
    /// A policy that came into force while it was open does not allow it.
    denied: bool,
    ended: bool,
    _open: OpenCall,
}

/// What ends an answer that has begun.
pub(super) enum LastWords {
    Trailers(Vec<(HeaderName, HeaderValue)>),
    /// Of a body of gRPC-Web.
    Body(Vec<u8>),
    /// There is no place for them: the answer is not gRPC's, or a web client is in the middle of a message,
    /// where it could not tell an end from more of it.
    Nothing,
}

impl Call {
    pub(super) fn new(worker: &Rc<Worker>, mut recording: Recording, fields: &Fields) -> Self {
        let content_type = fields.first("content-type").unwrap_or_default();
        let counted = Rc::new(Counted::new(Content::of(content_type).unwrap_or(Content::Grpc)));
        recording.counts(Rc::clone(&counted));
        Self {
            counted,
            time: fields.first("grpc-timeout").and_then(timeout),
            head: None,
            recording,
            takes_words: false,
            denied: false,
            ended: false,
            _open: worker.open_call(),
        }
    }

    /// Keeps what is judged, for the next policy.
    pub(super) fn keep(&mut self, head: Request, held: Held) {
        self.head = Some((head, held));
    }

    pub(super) fn recording(&mut self) -> &mut Recording {
        &mut self.recording
    }

    /// Judges it by the policies in force now. True: they deny it, and did not before.
    pub(super) fn is_revoked(&mut self, policy: &Snapshot, ends: &SteeredValue, port: u16) -> bool {
        let Some((head, _)) = &self.head else { return false };
        if self.denied || self.ended {
            return false;
        }
        let judgement = policy.judge(ends, port, Judging::Request(head.facts()));
        if !judgement.denies() {
            return false;
        }
        self.recording.judged(&judgement);
        self.recording.because("it was allowed when it began, and ended by a change of policy");
        self.denied = true;
        true
    }

    pub(super) fn passes(&self, side: Side, octets: &[u8]) {
        self.counted.passes(side, octets);
    }

    /// Its answer begins with this head.
    pub(super) fn is_answered(&mut self, fields: &Fields) {
        self.says(fields);
        let is_grpc = fields.first("content-type").is_some_and(|value| Content::of(value).is_some());
        self.takes_words = is_grpc && fields.first("content-length").is_none();
    }

    /// Notes the status that a header or trailer section has.
    pub(super) fn says(&self, fields: &Fields) {
        if let Some(value) = fields.first(response::GRPC_STATUS.as_str()) {
            self.counted.says(value);
        }
    }

    /// Its client knows what a reset means, and better than the proxy: that its own deadline is over, for one.
    pub(super) fn reads_resets(&self) -> bool {
        self.counted.form() == Form::Grpc
    }

    pub(super) fn says_reset(&self, code: Code) {
        self.counted.ends_with(GrpcStatus::from(code));
    }

    /// What ends an answer that has begun, in the form its client reads.
    pub(super) fn last_words(&self, status: GrpcStatus, message: &str) -> LastWords {
        self.counted.ends_with(status);
        if !self.takes_words {
            return LastWords::Nothing;
        }
        if self.counted.form() == Form::Grpc {
            return LastWords::Trailers(response::trailers(status, message));
        }
        self.counted.last_octets(status, message).map_or(LastWords::Nothing, LastWords::Body)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn given_up(&mut self) {
        if self.ended {
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
    pub(super) fn cut(&mut self, status: GrpcStatus, reason: &str) {
        if !self.ended && !self.denied {
            self.counted.ends_with(status);
            self.recording.because(reason);
        }
        self.end();
    }

    /// The answer has come to its end.
    pub(super) fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.recording.write();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.ended
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.given_up();
    }
}

/// Of a `grpc-timeout` header; `None`: no such time, so the server alone knows what to make of it.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, number) = value.split_last()?;
    if number.is_empty() || number.len() > 8 || !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
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
            assert_eq!(timeout(text.as_bytes()), time, "{text}");
        }
    }
}
