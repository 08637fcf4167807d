//! From the client: frame → header → body → decision → broker, or an answer made here.

mod streaming;

use std::time::Instant;

use bytes::Bytes;

use self::streaming::Plan;
pub(super) use self::streaming::Streaming;
use super::{
    Engine, Intake, Step,
    in_flight::{Asked, Draft, Due, InFlight, Silence, Whose},
    names::METADATA_BY_ID,
};
use crate::kafka::{
    Closing, Outcome, Policy,
    api::{self, Api, error},
    decode::{self, Extra},
    encode::Pieces,
    header::{self, Header, Start},
    judge::{self, Decision, Edit, Findings, Judge},
    merge::Merge,
    schema::{self, Message},
    sessions,
    value::Value,
};

/// A request that was understood.
#[derive(Debug)]
pub(super) struct Request {
    /// With its length in front.
    frame: Bytes,
    header: Header,
    message: &'static Message,
    api: &'static Api,
    body: Value,
    /// Whether the octets can go on as they are.
    octets: Octets,
    draft: Draft,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Octets {
    AsTheyCame,
    /// The body was changed, or had something that nobody here knows.
    Rewritten,
}

/// A request and what becomes of it.
struct Judged {
    request: Request,
    decision: Decision,
    change: sessions::Change,
    asked: Asked,
    denied: bool,
}

impl Request {
    pub(super) fn octets(&self) -> usize {
        self.frame.len()
    }

    /// Its record as far as it is known.
    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }
}

impl Engine {
    pub(super) fn client_step(&mut self, policy: &dyn Policy, now: Instant) -> Step {
        if self.streaming.is_some() {
            return self.stream(now);
        }
        if !self.may_ask() {
            return Step::Waits;
        }
        let length = match self.client.frame_length() {
            None => return Step::Waits,
            Some(Ok(length)) if length <= self.limits.request_octets => length,
            Some(_) => {
                let start = Start { api_key: -1, api_version: -1, correlation_id: -1 };
                return self.refuse(Closing::RequestLength, Draft::new(start, "", "", now));
            }
        };
        match self.plan(length, policy, now) {
            Plan::Unknown => return Step::Waits,
            Plan::Streams => return Step::Made,
            Plan::Whole => {}
        }
        let Some(frame) = self.client.take(4 + length) else { return Step::Waits };
        match self.understand(frame, now) {
            Ok(Some(request)) => self.resolve(request, policy, now),
            Ok(None) => {}
            Err((closing, draft)) => return self.refuse(closing, *draft),
        }
        Step::Made
    }

    /// `None`: it was answered already.
    fn understand(&mut self, frame: Bytes, now: Instant) -> Result<Option<Request>, (Closing, Box<Draft>)> {
        let octets = frame.slice(4..);
        let unread = Start { api_key: -1, api_version: -1, correlation_id: -1 };
        let header = |malformed| (Closing::Header(malformed), Box::new(Draft::new(unread, "", "", now)));
        let start = Start::read(&octets).map_err(header)?;
        let (Some(message), Some(api)) = (schema::message(start.api_key), api::api(start.api_key)) else {
            return Err((Closing::UnknownRequest, Box::new(Draft::new(start, "", "", now))));
        };
        let version = start.api_version;
        let versions = api::versions(start.api_key);
        if !versions.contains(version) {
            let draft = Draft::new(start, message.name, "", now);
            if message.key != api::API_VERSIONS || version < 0 {
                return Err((Closing::UnsupportedVersion, Box::new(draft)));
            }
            self.answer_versions(start, message, draft);
            return Ok(None);
        }
        let flexible = message.flexible.contains(version);
        let (header, body) = Header::read(&octets, flexible).map_err(header)?;
        let client_id = header.client_id.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let draft = Draft::new(start, message.name, &client_id, now);
        let decoded = decode::decode(
            &message.request,
            &octets.slice(body..),
            version,
            flexible,
            self.limits.request_values,
        );
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(malformed) => return Err((Closing::Request(malformed), Box::new(draft))),
        };
        let known = [header.extra, decoded.extra] == [Extra::None; 2];
        let octets = if known { Octets::AsTheyCame } else { Octets::Rewritten };
        Ok(Some(Request { frame, header, message, api, body: decoded.value, octets, draft }))
    }

    /// A client newer than this speaks ApiVersions in a version unknown here, and is told by version 0
    /// which one to use, as a broker would.
    fn answer_versions(&mut self, start: Start, message: &'static Message, mut draft: Draft) {
        let layout = &message.response;
        let mut answer = Value::empty(layout);
        answer.set(layout, "ErrorCode", Value::Int(error::UNSUPPORTED_VERSION.into()));
        if let Some(inside) = layout.inside("ApiKeys") {
            let mut own = Value::empty(inside);
            own.set(inside, "ApiKey", Value::Int(message.key.into()));
            own.set(inside, "MinVersion", Value::Int(message.versions.first.into()));
            own.set(inside, "MaxVersion", Value::Int(message.versions.last.into()));
            answer.set(layout, "ApiKeys", Value::Array(vec![own]));
        }
        (draft.record.error_code, draft.record.outcome) = (error::UNSUPPORTED_VERSION, Outcome::Allowed);
        let mut pieces = Pieces::default();
        header::write_answer(start.correlation_id, false, &mut pieces);
        pieces.structure(layout, &answer, 0, false);
        self.await_turn(InFlight::ready(pieces.into_frame(), draft));
    }

    /// Judges it, or holds it until the names of its topic ids are known.
    fn resolve(&mut self, request: Request, policy: &dyn Policy, now: Instant) {
        let version = request.header.start.api_version;
        let unknown = judge::unknown_ids(request.message, request.api, version, &request.body, &self.topics);
        if unknown.is_empty() || self.metadata < METADATA_BY_ID {
            return self.decide(request, policy, now);
        }
        self.ask_names(&unknown, request.header.client_id.clone(), Whose::Request);
        self.held = Some(request);
    }

    /// Sends the request, what is left of it, or an answer.
    pub(super) fn decide(&mut self, request: Request, policy: &dyn Policy, now: Instant) {
        let Judged { request, decision, change, mut asked, denied } = self.judge(request, policy);
        let Request { frame, header, mut draft, octets, .. } = request;
        let (message, version) = (asked.message, asked.start.api_version);
        let (body, edit) = match decision {
            Decision::Answer(_) if asked.silence == Silence::Kept => {
                draft.record.outcome = Outcome::Refused(Closing::ProduceWithoutAnswer);
                self.end_after(Closing::ProduceWithoutAnswer, draft);
                return;
            }
            Decision::Answer(answer) => {
                let flexible = header::answer_is_flexible(message, version);
                let mut pieces = Pieces::default();
                header::write_answer(asked.start.correlation_id, flexible, &mut pieces);
                pieces.structure(&message.response, &answer, version, flexible);
                self.await_turn(InFlight::ready(pieces.into_frame(), draft));
                return;
            }
            Decision::Forward(body, edit) => {
                let as_it_came = octets == Octets::AsTheyCame && change == sessions::Change::None;
                ((!as_it_came).then_some(body), edit)
            }
            Decision::Rewritten(body, edit) => (Some(body), edit),
        };
        asked.edit = edit;
        if let Some(merge) = &mut asked.edit.merge {
            merge.detach();
        }
        match body {
            None => self.to_broker.push(frame),
            Some(body) => {
                let flexible = message.flexible.contains(version);
                let mut pieces = Pieces::default();
                header.write(flexible, &mut pieces);
                pieces.structure(&message.request, &body, version, flexible);
                self.to_broker.extend(pieces.into_frame());
            }
        }
        if asked.silence == Silence::Kept && denied {
            // The allowed part goes its way, then the client learns that something was refused in the
            // only way there is, as a broker tells it.
            draft.record.outcome = Outcome::Refused(Closing::ProduceWithoutAnswer);
            self.end_after(Closing::ProduceWithoutAnswer, draft);
        } else {
            self.was_sent(asked, draft, now);
        }
    }

    /// Asks the policy in force. What the request is to have done to its answer is in the decision.
    fn judge(&mut self, mut request: Request, policy: &dyn Policy) -> Judged {
        let start = request.header.start;
        let acks = request.body.get(&request.message.request, "Acks").as_int();
        let silent = start.api_key == api::PRODUCE && acks == Some(0);
        let client_id = request.draft.record.client_id.clone();
        let body = std::mem::replace(&mut request.body, Value::Absent);
        let mut judge = Judge {
            policy,
            message: request.message,
            api: request.api,
            version: start.api_version,
            client_id: &client_id,
            ids: &self.topics,
            group: None,
            transactional_id: None,
            findings: Findings::default(),
        };
        let (decision, change) = sessions::decide(&mut self.shares, &mut self.members, &mut judge, body);
        let Judge { findings, group, transactional_id, .. } = judge;
        let denied = findings.denied > 0 || findings.code != 0;
        let outcome = match (&decision, denied) {
            (Decision::Answer(_), _) => Outcome::Denied,
            (_, true) => Outcome::Partly,
            (_, false) => Outcome::Allowed,
        };
        let draft = &mut request.draft;
        draft.found(findings, outcome);
        (draft.record.group, draft.record.transactional_id) = (group.clone(), transactional_id.clone());
        let asked = Asked {
            start,
            message: request.message,
            api: request.api,
            edit: Edit::default(),
            client_id,
            group,
            transactional_id,
            whose: Whose::Client,
            silence: if silent { Silence::Kept } else { Silence::Broken },
        };
        Judged { request, decision, change, asked, denied }
    }

    /// All of it goes to the broker now, which owes its answer.
    fn was_sent(&mut self, asked: Asked, draft: Draft, now: Instant) {
        if asked.silence == Silence::Kept {
            self.records.push_back(draft.end(now));
            return;
        }
        let kept = asked.edit.merge.as_ref().map_or(0, Merge::octets);
        let answer = Due::Broker(Box::new(asked));
        self.await_turn(InFlight { answer, draft: Some(draft), kept });
    }

    fn refuse(&mut self, closing: Closing, mut draft: Draft) -> Step {
        draft.record.outcome = Outcome::Refused(closing);
        self.end_after(closing, draft);
        Step::Made
    }

    /// What was asked before is answered before.
    fn end_after(&mut self, closing: Closing, draft: Draft) {
        self.intake = Intake::Ended;
        self.client.clear();
        self.await_turn(InFlight { answer: Due::End(closing), draft: Some(draft), kept: 0 });
    }
}
