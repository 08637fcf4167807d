//! From the client: frame → header → body → decision → broker, or an answer made here.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Engine, Intake, Step,
    in_flight::{Asked, Draft, Due, InFlight, Whose},
    names::METADATA_BY_ID,
};
use crate::kafka::{
    Closing, Outcome, Policy,
    api::{self, Api, error},
    decode::{self, Extra},
    encode::Pieces,
    header::{self, Header, Start},
    judge::{self, Decision, Findings, Judge},
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
    pub(super) fn decide(&mut self, mut request: Request, policy: &dyn Policy, now: Instant) {
        let start = request.header.start;
        let version = start.api_version;
        let layout = &request.message.request;
        let acks = request.body.get(layout, "Acks").as_int();
        let silent = start.api_key == api::PRODUCE && acks == Some(0);
        let client_id = request.draft.record.client_id.clone();
        let body = std::mem::replace(&mut request.body, Value::Absent);
        let mut judge = Judge {
            policy,
            message: request.message,
            api: request.api,
            version,
            client_id: &client_id,
            ids: &self.topics,
            group: None,
            transactional_id: None,
            findings: Findings::default(),
        };
        let (decision, changed) = sessions::decide(&mut self.shares, &mut self.members, &mut judge, body);
        let Judge { findings, group, transactional_id, .. } = judge;
        let denied = findings.denied > 0 || findings.code != 0;
        let outcome = match (&decision, denied) {
            (Decision::Answer(_), _) => Outcome::Denied,
            (_, true) => Outcome::Partly,
            (_, false) => Outcome::Allowed,
        };
        let mut draft = request.draft;
        draft.found(findings, outcome);
        (draft.record.group, draft.record.transactional_id) = (group.clone(), transactional_id.clone());
        let (body, mut edit) = match decision {
            Decision::Answer(_) if silent => {
                draft.record.outcome = Outcome::Refused(Closing::ProduceWithoutAnswer);
                self.end_after(Closing::ProduceWithoutAnswer, draft);
                return;
            }
            Decision::Answer(answer) => {
                let flexible = header::answer_is_flexible(request.message, version);
                let mut pieces = Pieces::default();
                header::write_answer(start.correlation_id, flexible, &mut pieces);
                pieces.structure(&request.message.response, &answer, version, flexible);
                self.await_turn(InFlight::ready(pieces.into_frame(), draft));
                return;
            }
            Decision::Forward(body, edit) => {
                let as_it_came = request.octets == Octets::AsTheyCame && changed == sessions::Change::None;
                ((!as_it_came).then_some(body), edit)
            }
            Decision::Rewritten(body, edit) => (Some(body), edit),
        };
        if let Some(merge) = &mut edit.merge {
            merge.detach();
        }
        match body {
            None => self.to_broker.push(request.frame),
            Some(body) => {
                let flexible = request.message.flexible.contains(version);
                let mut pieces = Pieces::default();
                request.header.write(flexible, &mut pieces);
                pieces.structure(layout, &body, version, flexible);
                self.to_broker.extend(pieces.into_frame());
            }
        }
        if silent && denied {
            // The allowed part goes its way, then the client learns that something was refused in the
            // only way there is, as a broker tells it.
            draft.record.outcome = Outcome::Refused(Closing::ProduceWithoutAnswer);
            self.end_after(Closing::ProduceWithoutAnswer, draft);
        } else if silent {
            self.records.push_back(draft.end(now));
        } else {
            let asked = Asked {
                start,
                message: request.message,
                api: request.api,
                edit,
                client_id,
                group,
                transactional_id,
                whose: Whose::Client,
            };
            let kept = asked.edit.merge.as_ref().map_or(0, Merge::octets);
            let answer = Due::Broker(Box::new(asked));
            self.await_turn(InFlight { answer, draft: Some(draft), kept });
        }
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
