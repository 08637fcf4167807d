//! Answers of the proxy's own, instead of a server's.

use std::io;

use super::NOT_READ;
use crate::{
    http1::{
        After, Ended, Session,
        client::Client,
        refused::Refused,
        request::{Manner, Request},
    },
    record::Recording,
    response::{Answer, GRPC_STATUS, denied, text},
    upstream::UpstreamError,
};

pub(super) struct Own {
    pub(super) answer: Answer,
    pub(super) closes: bool,
    pub(super) is_head: bool,
}

impl Own {
    /// The connection goes on if the request lets it.
    pub(super) fn of(answer: Answer, manner: &Manner, session: &Session) -> Self {
        Self { answer, closes: manner.closes_after_own(session), is_head: manner.is_head }
    }

    pub(super) fn denied(request: &Request<'_>, session: &Session) -> Self {
        let manner = request.manner();
        Self::of(denied(manner.tongue.clone()), manner, session)
    }

    /// No server answers.
    pub(super) fn failed(
        error: &UpstreamError,
        manner: &Manner,
        session: &Session,
        recording: &mut Recording,
    ) -> Self {
        recording.upstream_failed(error);
        let answer = text(manner.tongue.clone(), error.status(), "Upstream failure");
        let own = Self::of(answer, manner, session);
        Self { closes: own.closes || matches!(error, UpstreamError::UnaskedSwitch), ..own }
    }

    /// What follows the request's head cannot go on.
    pub(super) fn refused(why: Refused, manner: &Manner, recording: &mut Recording) -> Self {
        recording.refused(why);
        let answer = text(manner.tongue.clone(), why.status(), &why.to_string());
        Self { answer, closes: true, is_head: manner.is_head }
    }

    pub(super) async fn send(
        self,
        client: &mut Client,
        session: &Session,
        mut recording: Recording,
    ) -> After {
        recording.status(self.answer.status);
        if let Some((_, value)) = self.answer.fields.iter().find(|(name, _)| *name == GRPC_STATUS) {
            recording.grpc_status(value);
        }
        drop(recording);
        if let Err(error) = client.answer(&self.answer, self.closes, self.is_head, session).await {
            return After::End(not_taken(&error, session));
        }
        if self.closes {
            return After::End(Ended::Linger);
        }
        // What is left of its body goes before the next request can be read.
        match client.discard_body(session).await {
            Some(()) => After::Next,
            None => After::End(Ended::Linger),
        }
    }
}

/// How a connection ends whose client does not take an answer.
pub(in crate::http1) fn not_taken(error: &io::Error, session: &Session) -> Ended {
    if error.kind() != io::ErrorKind::TimedOut {
        return Ended::Cut;
    }
    session.ended_by(NOT_READ);
    Ended::Reset
}
