//! From a request to the permission to send it on. Only a request that was judged and allowed
//! becomes a [`Permit`], and only a permit opens an upstream.

use std::sync::Arc;

use http::StatusCode;
use hyper::ext::on_informational;
use policy_engine::http::HeaderAction;

use crate::{
    body::{Gate, RequestBody},
    capture::Flow,
    policy::{Judgement, Judging, Snapshot},
    request::Request,
};

/// A judged request.
#[must_use]
pub(crate) enum Verdict {
    Allowed(Permit, Judgement),
    Denied(Request, Judgement),
}

/// A request that both ends' policies allow, in the form in which they were asked, ready to be sent.
pub(crate) struct Permit {
    request: http::Request<RequestBody>,
    /// Opens when the client may send its body; `None`: it does not wait.
    gate: Option<Arc<Gate>>,
}

impl Permit {
    fn new(request: Request) -> Self {
        let gate = request.expects_continue().then(|| Arc::new(Gate::default()));
        let Request { method, uri, version, fields, body, .. } = request;
        let mut request = http::Request::new(RequestBody::new(body, gate.clone()));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = fields.0;
        if let Some(gate) = gate.clone() {
            on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    gate.open();
                }
            });
        }
        Self { request, gate }
    }

    /// For the upstream alone.
    pub(crate) fn into_parts(self) -> (http::Request<RequestBody>, Option<Arc<Gate>>) {
        (self.request, self.gate)
    }

    /// Gets back what an upstream could not begin to send.
    pub(crate) fn from_parts(request: http::Request<RequestBody>, gate: Option<Arc<Gate>>) -> Self {
        Self { request, gate }
    }
}

impl Request {
    /// Judges by the policies in force in `snapshot`.
    pub(crate) fn judge(mut self, snapshot: &Snapshot, flow: &Flow) -> Verdict {
        let port = flow.original_dst.0.port();
        let judgement = snapshot.judge(&flow.steered, port, Judging::Request(self.facts()));
        if judgement.denies() {
            return Verdict::Denied(self, judgement);
        }
        for action in &judgement.header_actions {
            self.fields.apply(action);
        }
        Verdict::Allowed(Permit::new(self), judgement)
    }
}

/// The text of LOG actions for the record; empty without one.
pub(crate) fn logged(actions: &[HeaderAction]) -> String {
    let mut text = String::new();
    for action in actions {
        if let HeaderAction::Log { name, value } = action {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&format!("header {name} is not {value}"));
        }
    }
    text
}
