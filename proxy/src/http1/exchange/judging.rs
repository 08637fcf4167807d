//! A request head and its verdict, which holds until the first octets of the request go to a server.

use http::StatusCode;
use l7_parsers::http1::{Head, Version};

use super::own::Own;
use crate::{
    http1::{
        Session,
        call::Call,
        request::{Outbound, Request},
    },
    record::Recording,
    response::{Tongue, text},
    verdict::{Judged, Permit, Verdict, judge},
    worker::Wanted,
};

/// A head as it came, which is kept until its request goes: other policies may come into force before that.
#[derive(Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) octets: &'a [u8],
    pub(super) head: Head,
}

impl<'a> Came<'a> {
    /// `Some`: it is a call, which is judged again for as long as it is open.
    pub(super) fn judge(
        self,
        session: &Session,
        recording: &mut Recording,
    ) -> Result<(Permit<Outbound>, Option<Call>), Own> {
        let request = self.read(recording)?;
        recording.request(protocol(self.head.version), &request.facts());
        if request.manner().tongue != Tongue::Http && !session.share.has_room(Wanted::More) {
            recording.refused("the open calls of this source take all that may be kept of it");
            let tongue = request.manner().tongue.clone();
            let answer = text(tongue, StatusCode::SERVICE_UNAVAILABLE, "too many open calls");
            return Err(Own::of(answer, request.manner(), session));
        }
        let call = request.call(self.octets.len(), &session.share);
        Ok((decide(request, session, recording)?, call))
    }

    /// By the policies in force now. The record names the rules that decide now.
    pub(super) fn judge_again(
        self,
        session: &Session,
        recording: &mut Recording,
    ) -> Result<Permit<Outbound>, Own> {
        decide(self.read(recording)?, session, recording)
    }

    fn read(self, recording: &mut Recording) -> Result<Request<'a>, Own> {
        Request::read(self.octets, self.head).map_err(|error| {
            recording.protocol(protocol(self.head.version));
            recording.refused(error);
            let answer = text(Tongue::Http, StatusCode::BAD_REQUEST, &error.to_string());
            Own { answer, closes: true, is_head: false }
        })
    }
}

fn decide(
    request: Request<'_>,
    session: &Session,
    recording: &mut Recording,
) -> Result<Permit<Outbound>, Own> {
    match judge(request, &session.worker, &session.flow) {
        Verdict::Allowed(permit, judgement) => {
            recording.judged(&judgement);
            Ok(permit.encode())
        }
        Verdict::Denied(request, judgement) => {
            recording.judged(&judgement);
            Err(Own::denied(&request, session))
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}
