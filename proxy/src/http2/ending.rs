//! How streams end: answers of the proxy's own, failures of either side, and what is left to tell the
//! other one.

use http::StatusCode;
use l7_parsers::http2::{
    frame::{Code, ErrorCode, put_reset},
    hpack::Field,
};

use super::{
    call::LastWords,
    session::Session,
    stream::{Asking, Log},
    ticks::now,
    upstream::{RETRY_TIME, takes_any},
};
use crate::{
    record::Recording,
    response::{self, Answer, GRPC_STATUS, GrpcStatus},
    upstream::UpstreamError,
    verdict::{Verdict, judge},
};

/// Streams that were reset and are remembered.
const REMEMBERED: usize = 1024;

/// Why there is no answer of a server, or no more of it.
pub(super) struct Failure {
    status: StatusCode,
    text: String,
    /// With what the server reset the stream; `None`: it did not.
    reset: Option<Code>,
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::from(&error)
    }
}

impl From<&UpstreamError> for Failure {
    fn from(error: &UpstreamError) -> Self {
        Self { status: error.status(), text: error.to_string(), reset: error.reset() }
    }
}

impl Session {
    /// Answers in place of a server.
    pub(super) fn say(&mut self, id: u32, answer: &Answer) {
        self.leave_server(id, ErrorCode::Cancel.into());
        self.stop_listening(id);
        let Self { streams, client, share, parked_octets, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return };
        if let Asking::Parked(_) = std::mem::replace(&mut stream.asking, Asking::Nobody) {
            *parked_octets -= stream.kept;
            share.release(std::mem::take(&mut stream.kept));
        }
        stream.log.note(|recording| {
            recording.status(answer.status);
            let said = answer.fields.iter().find(|(name, _)| *name == GRPC_STATUS);
            said.into_iter().for_each(|(_, value)| recording.grpc_status(value));
        });
        stream.answered = true;
        self.answered += 1;
        stream.log.begins(None);
        let status =
            Field { name: b":status", value: answer.status.as_str().as_bytes(), never_indexed: false };
        // RFC 9110 §9.3.2: an answer to HEAD is the head of one.
        let body: &[u8] = if stream.is_head { &[] } else { &answer.body };
        let is_whole = body.is_empty();
        client.put_block(id, std::iter::once(status).chain(answer.fields.iter().map(field)), is_whole);
        stream.answer.ended = true;
        stream.answer.done = is_whole;
        share.hold(stream.answer.pass(id, body, client, |_| ()));
        self.settle(id);
    }

    /// Nobody wants what the client sends from now on.
    pub(super) fn stop_listening(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.upload.done = true;
        let waited = stream.upload.discard();
        self.client.waiting -= waited;
        self.share.release(waited);
    }

    /// Ends the server's stream.
    pub(super) fn leave_server(&mut self, id: u32, code: Code) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(upstream) = stream.upstream(&mut self.upstreams) {
            upstream.closes_stream();
            // What waits for the client is the server's no more.
            upstream.half.waiting -= stream.answer.waits();
            put_reset(upstream.half.out.octets(), id, code);
            stream.asking = Asking::Nobody;
        }
    }

    /// Looks whether a stream is over, at the server or at all.
    pub(super) fn settle(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.is_over_at_server()
            && let Some(upstream) = stream.upstream(&mut self.upstreams)
        {
            upstream.closes_stream();
            upstream.half.waiting -= stream.answer.waits();
            stream.asking = Asking::Nobody;
        }
        if !stream.answer.done {
            return;
        }
        stream.log.ends();
        if stream.upload.done {
            if !stream.upload.ended {
                // RFC 9113 §8.1: the rest of the request is not needed.
                put_reset(self.client.out.octets(), id, ErrorCode::NoError);
                self.remember(id);
            }
            self.remove(id);
        }
    }

    fn remember(&mut self, id: u32) {
        if self.reset.len() == REMEMBERED {
            self.reset.pop_front();
        }
        self.reset.push_back(id);
    }

    fn remove(&mut self, id: u32) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        let (uploaded, answered) = (stream.upload.discard(), stream.answer.discard());
        self.client.waiting -= uploaded;
        self.share.release(uploaded + answered + stream.kept);
        if matches!(stream.asking, Asking::Parked(_)) {
            self.parked_octets -= stream.kept;
        }
        self.forget();
        if !stream.answered {
            self.given_up += 1;
        }
        self.clock.last = now();
    }

    /// Lists forget a stream when its turn comes, which a peer may put off for ever.
    fn forget(&mut self) {
        let Self { streams, client, parked, .. } = self;
        for list in [&mut client.blocked, parked] {
            if list.len() > 2 * streams.len() + 64 {
                list.retain(|id| streams.contains_key(id));
            }
        }
    }

    /// The client wants no more of a stream.
    pub(super) fn client_resets(&mut self, id: u32, code: Code) {
        self.leave_server(id, code);
        self.remove(id);
    }

    /// Ends a stream towards both.
    pub(super) fn reset_client(&mut self, id: u32, code: Code) {
        self.leave_server(id, ErrorCode::Cancel.into());
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.log.ends();
        }
        put_reset(self.client.out.octets(), id, code);
        self.remember(id);
        self.remove(id);
    }

    /// A stream that comes too late: another connection will take it.
    pub(super) fn refuse(&mut self, id: u32) {
        put_reset(self.client.out.octets(), id, ErrorCode::RefusedStream);
        self.remember(id);
    }

    /// The server did not take up a request, so that it may be sent once more without harm.
    pub(super) fn not_taken(&mut self, id: u32, why: impl ToString) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.log.note(|recording| recording.upstream_failed(why));
        if let Some(call) = stream.log.call() {
            call.says_reset(ErrorCode::RefusedStream.into());
        }
        // To the client this stream was refused, too.
        stream.answered = true;
        self.reset_client(id, ErrorCode::RefusedStream.into());
    }

    /// There is no answer of a server, or no more of it.
    pub(super) fn fail(&mut self, id: u32, failure: &Failure) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.answer.ended {
            // All of it has come.
            return;
        }
        stream.log.note(|recording| recording.upstream_failed(&failure.text));
        let passes_on = failure.reset.is_some() && stream.log.call().is_some_and(|call| call.reads_resets());
        if !stream.answered && !passes_on {
            let answer = response::failed(stream.tongue.clone(), failure.status, failure.reset);
            return self.say(id, &answer);
        }
        // Not one that its client has given up.
        stream.answered = true;
        match (stream.log.call(), failure.reset) {
            (Some(call), Some(code)) => {
                // The client gets the server's own reason.
                call.says_reset(code);
                self.reset_client(id, code);
            }
            (Some(_), None) => self.last_words(id, GrpcStatus::Unavailable, response::FAILED),
            (None, code) => self.reset_client(id, code.unwrap_or(ErrorCode::Internal.into())),
        }
    }

    /// Ends an answer of a call that has begun.
    fn last_words(&mut self, id: u32, status: GrpcStatus, message: &str) {
        self.leave_server(id, ErrorCode::Cancel.into());
        self.stop_listening(id);
        let Self { streams, client, share, .. } = self;
        let Some(stream) = streams.get_mut(&id) else { return };
        share.release(stream.answer.discard());
        let Some(call) = stream.log.call() else { return };
        match call.last_words(status, message) {
            LastWords::Trailers(fields) => {
                client.put_block(id, fields.iter().map(field), true);
                (stream.answer.ended, stream.answer.done) = (true, true);
            }
            LastWords::Body(octets) => {
                call.end();
                stream.answer.ended = true;
                share.hold(stream.answer.pass(id, &octets, client, |_| ()));
            }
            LastWords::Nothing => return self.reset_client(id, ErrorCode::Cancel.into()),
        }
        self.settle(id);
    }

    /// A connection to the server has ended, and with it what is open there.
    pub(super) fn upstream_ended(&mut self, at: usize, error: &UpstreamError) {
        let mut upstream = self.upstreams.remove(at);
        // A last word to a server that broke a rule; whether it takes it is all the same.
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = upstream.half.out.poll_write(&mut upstream.stream, &mut nobody);
        self.further_from = now() + RETRY_TIME;
        let failure = Failure::from(error);
        let there: Vec<u32> = self
            .streams
            .iter()
            .filter_map(|(id, stream)| stream.is_at(upstream.number).then_some(*id))
            .collect();
        let mut is_told = false;
        for id in &there {
            is_told |= self.streams.get(id).is_some_and(|stream| stream.log.is_open());
        }
        if let (UpstreamError::Protocol(_), false) = (error, is_told) {
            // No stream has a record still to be written that could say what the server did.
            let mut recording = Recording::start(&self.worker, &self.flow);
            recording.protocol("HTTP/2");
            recording.upstream_failed(error);
        }
        for id in there {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.asking = Asking::Nobody;
            }
            self.fail(id, &failure);
            self.stop_listening(id);
            self.settle(id);
        }
    }

    /// No connection to the server can be had: nothing that waits for one can be sent, but by another one that
    /// is there.
    pub(super) fn cannot_connect(&mut self, error: &UpstreamError) {
        if takes_any(&self.upstreams) {
            self.further_from = now() + RETRY_TIME;
            return;
        }
        let failure = Failure::from(error);
        for id in std::mem::take(&mut self.parked) {
            if matches!(self.streams.get(&id).map(|stream| &stream.asking), Some(Asking::Parked(_))) {
                self.fail(id, &failure);
            }
        }
    }

    /// Judges what is open by the policies in force now, where these are others for this connection.
    pub(super) fn judge_again(&mut self) {
        let governing = self.worker.with_policy(|policy| policy.governing(&self.worker.ends_now(&self.flow)));
        if self.governing == governing {
            return;
        }
        self.governing = governing;
        let (ends, port) = (self.worker.ends_now(&self.flow), self.flow.original_dst.0.port());
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            if let Asking::Parked(request) = &stream.asking {
                let request = (**request).clone();
                let verdict = judge(request, &self.worker, &self.flow);
                if let Verdict::Denied(_, judgement) = verdict {
                    stream.log.note(|recording| recording.judged(&judgement));
                    let answer = response::denied(stream.tongue.clone());
                    self.say(id, &answer);
                }
                continue;
            }
            let Some(call) = stream.log.call() else { continue };
            if !self.worker.with_policy(|policy| call.is_revoked(policy, &ends, port)) {
                continue;
            }
            if stream.answered {
                self.last_words(id, GrpcStatus::PermissionDenied, response::POLICY_CHANGED);
            } else {
                let answer = response::denied_now(stream.tongue.clone());
                self.say(id, &answer);
            }
        }
    }

    /// Says in the records of the open calls why they end with their connection.
    pub(super) fn cut_calls(&mut self, reason: &str) {
        for stream in self.streams.values_mut() {
            if let Log::Call(call) = &mut stream.log
                && call.is_open()
            {
                call.cut(GrpcStatus::Unavailable, reason);
            }
        }
    }

    /// The record of a connection that the proxy ended.
    pub(super) fn record(&mut self, why: impl ToString) {
        self.cut_calls("the proxy ended its connection");
        let mut recording = Recording::start(&self.worker, &self.flow);
        recording.protocol("HTTP/2");
        recording.refused(why);
    }

    /// Ends what is open at the servers, as far as they take it at once.
    pub(super) fn leave_servers(&mut self) {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.leave_server(id, ErrorCode::Cancel.into()));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        for upstream in &mut self.upstreams {
            let _ = upstream.half.out.poll_write(&mut upstream.stream, &mut nobody);
        }
    }
}

fn field((name, value): &(http::HeaderName, http::HeaderValue)) -> Field<'_> {
    Field { name: name.as_str().as_bytes(), value: value.as_bytes(), never_indexed: false }
}
