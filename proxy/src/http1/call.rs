//! A gRPC-Web call over HTTP/1 (or whatever says that it is gRPC), while it is open.

use std::{cell::Cell, rc::Rc};

use l7_parsers::http1::Field;
use policy_engine::{grpc::Content, http::HttpRequest};

use super::fields::{Fields, is};
use crate::{
    capture::Flow,
    grpc::Counted,
    policy::{Judgement, Judging},
    response::{GRPC_STATUS, GrpcStatus, POLICY_CHANGED},
    worker::{Held, Worker},
};

pub(super) const CHANGED: &str = "it was allowed when it began, and ended by a change of policy";

/// Its request as it was judged, and how far its answer is.
pub(super) struct Call {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) fields: Fields<'static>,
    pub(super) counted: Rc<Counted>,
    place: Cell<Place>,
    /// Its answer is gRPC's, so that words of the proxy's can end it. Elsewhere they would make what was cut
    /// off look whole.
    takes_words: Cell<bool>,
    _held: Held,
}

/// Where in the answer the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It has had nothing of it.
    Before,
    /// Between two chunks.
    Chunks,
    Within,
}

impl Call {
    pub(super) fn new(
        request: &HttpRequest<'_>,
        content: Content,
        fields: Fields<'static>,
        held: Held,
    ) -> Self {
        Self {
            method: request.method.to_owned(),
            path: request.path.to_owned(),
            host: request.host.to_owned(),
            fields,
            counted: Rc::new(Counted::new(content)),
            place: Cell::new(Place::Before),
            takes_words: Cell::new(false),
            _held: held,
        }
    }

    /// Its answer begins with a head of these fields.
    pub(super) fn is_answered<'a>(&self, fields: impl Iterator<Item = Field<'a>>) {
        self.writes();
        for field in fields {
            if is(field.name, GRPC_STATUS.as_str()) {
                self.counted.says(field.value);
            } else if is(field.name, "content-type") {
                self.takes_words.set(Content::of(field.value).is_some());
            }
        }
    }

    pub(super) fn writes(&self) {
        self.place.set(Place::Within);
    }

    /// All that was to be written is.
    pub(super) fn has_written_chunks(&self) {
        self.place.set(Place::Chunks);
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.place.get() == Place::Before
    }

    /// The chunks that end the answer here. `None`: there is no place for them.
    pub(super) fn last_chunks(&self) -> Option<Vec<u8>> {
        self.counted.ends_with(GrpcStatus::PermissionDenied);
        let octets = self.counted.last_octets(GrpcStatus::PermissionDenied, POLICY_CHANGED)?;
        let length = format!("{:X}\r\n", octets.len());
        let chunks = [length.as_bytes(), &octets, b"\r\n0\r\n\r\n"].concat();
        (self.place.get() == Place::Chunks && self.takes_words.get()).then_some(chunks)
    }

    /// Ready when a policy has come into force that denies it.
    pub(super) async fn denied(&self, flow: &Flow, worker: &Worker) -> Judgement {
        let mut changes = worker.changes();
        let port = flow.original_dst.0.port();
        let mut governing = worker.with_policy(|policy| policy.governing(&worker.ends_now(flow)));
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let judgement = worker.with_policy(|policy| {
                let now = policy.governing(&worker.ends_now(flow));
                let is_new = now != governing;
                governing = now;
                let request = HttpRequest {
                    method: &self.method,
                    path: &self.path,
                    host: &self.host,
                    headers: &self.fields,
                };
                is_new.then(|| policy.judge(&worker.ends_now(flow), port, Judging::Request(request)))
            });
            if let Some(judgement) = judgement.filter(Judgement::denies) {
                return judgement;
            }
        }
    }
}
