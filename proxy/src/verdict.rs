//! From a request to the permission to send it on. Only a request that was judged and allowed
//! becomes a [`Permit`], and only a permit opens an upstream.

use std::rc::Rc;

use policy_engine::http::{HeaderAction, HttpRequest};

use crate::{
    capture::Flow,
    http1::denied_now,
    policy::{Judgement, Judging},
    worker::{InForce, Worker},
};

/// A request that can be judged, whatever protocol it came in.
pub(crate) trait Judged {
    /// What rules look at.
    fn facts(&self) -> HttpRequest<'_>;

    /// Does to the headers what an allowing rule says.
    fn apply(&mut self, action: &HeaderAction);
}

/// A judged request.
#[must_use]
pub(crate) enum Verdict<R> {
    Allowed(Permit<R>, Judgement),
    Denied(R, Judgement),
}

/// A connection that both ends' policies let stand, of a protocol whose requests are judged on the way.
pub(crate) struct Admission(());

impl Admission {
    /// `None`: denied, which is recorded.
    pub(crate) fn of(flow: &Flow, worker: &Rc<Worker>) -> Option<Self> {
        denied_now(worker, flow).is_none().then_some(Self(()))
    }
}

/// A request that both ends' policies allow, in the form in which they were asked, or on its way
/// from that form to the octets that are sent.
pub(crate) struct Permit<R> {
    request: R,
    judged_by: InForce,
}

impl<R> Permit<R> {
    /// Another form of the same request.
    pub(crate) fn map<T>(self, form: impl FnOnce(R) -> T) -> Permit<T> {
        Permit { request: form(self.request), judged_by: self.judged_by }
    }

    /// What is to be sent, for the upstream alone, and the permission to send it there.
    pub(crate) fn open(self) -> (R, Permit<()>) {
        (self.request, Permit { request: (), judged_by: self.judged_by })
    }

    /// Whether it was given by the policies in force now.
    pub(crate) fn is_current(&self, worker: &Worker) -> bool {
        self.judged_by == worker.in_force()
    }
}

/// Judges by the policies in force now.
pub(crate) fn judge<R: Judged>(mut request: R, worker: &Worker, flow: &Flow) -> Verdict<R> {
    let (port, judged_by) = (flow.original_dst.0.port(), worker.in_force());
    let judgement = worker
        .with_policy(|policy| policy.judge(&worker.ends_now(flow), port, Judging::Request(request.facts())));
    if judgement.denies() {
        return Verdict::Denied(request, judgement);
    }
    for action in &judgement.header_actions {
        request.apply(action);
    }
    Verdict::Allowed(Permit { request, judged_by }, judgement)
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
