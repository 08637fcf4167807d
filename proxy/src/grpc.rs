//! What a gRPC call has carried so far, over whichever version of HTTP.

use std::cell::{Cell, RefCell};

use l7_parsers::grpc::{Form, Messages};
use policy_engine::grpc::Content;
use tokio::time::Instant;

use crate::{
    link_proto::Grpc,
    response::{GrpcStatus, base64, trailers_in_body},
};

/// The places of [`Counted::passed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Answer = 0,
    Request = 1,
}

/// Fills in the record of a call when that is written.
pub(crate) struct Counted {
    form: Form,
    began: Instant,
    passed: [RefCell<Messages>; 2],
    status: Cell<Option<u32>>,
}

impl Counted {
    pub(crate) fn new(content: Content) -> Self {
        let form = match content {
            Content::Grpc => Form::Grpc,
            Content::Web => Form::Web,
            Content::WebText => Form::WebText,
        };
        let messages = || RefCell::new(Messages::new(form));
        Self { form, began: Instant::now(), passed: [messages(), messages()], status: Cell::new(None) }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn passes(&self, side: Side, octets: &[u8]) {
        self.passed[side as usize].borrow_mut().read(octets);
    }

    /// Notes the value of a `grpc-status` field; what is no number says nothing.
    pub(crate) fn says(&self, value: &[u8]) {
        let status = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        self.status.set(status.or(self.status.get()));
    }

    pub(crate) fn ends_with(&self, status: GrpcStatus) {
        self.status.set(Some(status as u32));
    }

    /// What ends the body of an answer of gRPC-Web that has begun. `None`: in the middle of a message its
    /// client could not tell an end from more of it.
    pub(crate) fn last_octets(&self, status: GrpcStatus, message: &str) -> Option<Vec<u8>> {
        let octets = trailers_in_body(status, message);
        let octets = if self.form == Form::WebText { base64(&octets) } else { octets };
        self.passed[Side::Answer as usize].borrow().at_boundary().then_some(octets)
    }

    pub(crate) fn fill(&self, grpc: &mut Grpc) {
        let [answered, asked] = &self.passed;
        grpc.status = self.status.get().or(answered.borrow().status());
        grpc.messages_from_client = asked.borrow().whole();
        grpc.messages_from_server = answered.borrow().whole();
        grpc.duration_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
}
