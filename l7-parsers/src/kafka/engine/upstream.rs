//! From the broker: answers in the order of the requests. Most pass in pieces as they come; those that
//! tell names, or that must be put together with what was denied, are read as a whole.

use std::time::Instant;

use bytes::{Buf, Bytes};

use super::{
    Engine, Intake, Step,
    in_flight::{Asked, Draft, Due, InFlight, Whose},
    names::HeldAnswer,
};
use crate::kafka::{
    Closing, Malformed, Outcome, Policy,
    api::{self, error},
    decode,
    encode::Pieces,
    header,
    judge::{Findings, Judge},
    members, respond,
    schema::Versions,
    value::Value,
};

/// Up to this size an answer that may pass is looked into for its error all the same.
const SHORT: usize = 16 << 10;

impl Engine {
    pub(super) fn upstream_step(&mut self, policy: &dyn Policy, now: Instant) -> Step {
        if self.to_client.octets() >= self.limits.outbox_octets {
            return Step::Waits;
        }
        if self.passing > 0 {
            return self.pass(now);
        }
        if self.would_interrupt() {
            return Step::Waits;
        }
        match self.in_flight.front() {
            Some(InFlight { answer: Due::Broker(_), .. }) => self.answer(policy, now),
            Some(_) => {
                self.local(now);
                Step::Made
            }
            None if self.broker.octets.is_empty() => Step::Waits,
            None => self.fail(Closing::UnexpectedAnswer, now),
        }
    }

    /// Whether the next answer may need a question to the broker ([`Engine::unknown_in`]) while a request is
    /// on its way there.
    pub(super) fn would_interrupt(&self) -> bool {
        let asks = |due: &InFlight| match &due.answer {
            Due::Broker(asked) => asked.api.shown == api::Shown::Assignment,
            Due::Ready(_) | Due::End(_) => false,
        };
        self.is_amid_a_request() && self.passing == 0 && self.in_flight.front().is_some_and(asks)
    }

    /// The next octets of an answer that is passing.
    fn pass(&mut self, now: Instant) -> Step {
        let octets = self.passing.min(self.broker.octets.len());
        if octets == 0 {
            return Step::Waits;
        }
        let piece = self.broker.octets.split_to(octets).freeze();
        self.deliver([piece]);
        self.passed(octets, now);
        Step::Made
    }

    /// So many octets of the answer that is passing are the client's now.
    pub(super) fn passed(&mut self, octets: usize, now: Instant) {
        self.passing -= octets;
        if octets > 0 && self.passing == 0 {
            let draft = self.next_due().and_then(|asked| asked.draft);
            self.records.extend(draft.map(|draft| draft.end(now)));
        }
    }

    /// An answer that was made here, whose turn it is.
    fn local(&mut self, now: Instant) {
        let Some(InFlight { answer, draft, .. }) = self.next_due() else { return };
        self.records.extend(draft.map(|draft| draft.end(now)));
        match answer {
            Due::Ready(pieces) => self.deliver(pieces),
            Due::End(closing) => self.closed = Some(closing),
            Due::Broker(_) => {}
        }
    }

    fn answer(&mut self, policy: &dyn Policy, now: Instant) -> Step {
        let Some(InFlight { answer: Due::Broker(asked), .. }) = self.in_flight.front() else {
            return Step::Waits;
        };
        let length = match self.broker.frame_length() {
            None => return Step::Waits,
            Some(Ok(length)) if length >= 4 => length,
            Some(_) => return self.fail(Closing::AnswerLength, now),
        };
        let Some(octets) = self.broker.octets.get(4..8) else { return Step::Waits };
        if octets != asked.start.correlation_id.to_be_bytes() {
            return self.fail(Closing::UnexpectedAnswer, now);
        }
        let needed = needed(asked);
        if needed == Needed::No && length > SHORT {
            self.passing = 4 + length;
            return Step::Made;
        }
        if length > self.limits.answer_octets {
            return self.fail(Closing::AnswerLength, now);
        }
        let Some(frame) = self.broker.take(4 + length) else { return Step::Waits };
        let Some(InFlight { answer: Due::Broker(asked), draft, .. }) = self.next_due() else {
            return Step::Waits;
        };
        self.whole_answer(*asked, draft, frame, needed, policy, now)
    }

    fn whole_answer(
        &mut self,
        asked: Asked,
        mut draft: Option<Draft>,
        frame: Bytes,
        needed: Needed,
        policy: &dyn Policy,
        now: Instant,
    ) -> Step {
        let read = self.read_answer(&asked, &frame.slice(4..));
        let (mut answer, version) = match (read, needed) {
            (Ok(read), _) => read,
            // It only passes: what it says is between the broker and its client.
            (Err(_), Needed::No) => {
                self.deliver([frame]);
                self.records.extend(draft.map(|draft| draft.end(now)));
                return Step::Made;
            }
            (Err(malformed), Needed::Yes) => {
                self.in_flight.push_front(InFlight { answer: Due::Ready(Vec::new()), draft, kept: 0 });
                return self.fail(Closing::Answer(malformed), now);
            }
        };
        self.learn(&asked, &answer);
        match asked.whose {
            Whose::Client => {}
            Whose::Request => {
                if let Some(request) = self.held.take() {
                    self.decide(request, policy, now);
                }
                return Step::Made;
            }
            Whose::Answer => {
                self.resume(policy, now);
                return Step::Made;
            }
        }
        let unknown = self.unknown_in(&asked, &answer);
        if !unknown.is_empty() {
            self.ask_names(&unknown, Some(asked.client_id.clone().into()), Whose::Answer);
            self.hold_answer(HeldAnswer { asked, draft, frame });
            return Step::Made;
        }
        let rewritten = self.edit(asked, &mut answer, version, draft.as_mut(), policy);
        self.deliver(rewritten.unwrap_or_else(|| vec![frame]));
        self.records.extend(draft.map(|draft| draft.end(now)));
        Step::Made
    }

    /// The answer and its version: ApiVersions is refused in version 0, whatever was asked.
    pub(super) fn read_answer(&self, asked: &Asked, frame: &Bytes) -> Result<(Value, i16), Malformed> {
        let mut version = asked.start.api_version;
        let flexible = header::answer_is_flexible(asked.message, version);
        let body = frame.slice(header::skip_answer(frame, flexible)?..);
        if asked.api.key == api::API_VERSIONS
            && body.len() >= 2
            && (&body[..2]).get_i16() == error::UNSUPPORTED_VERSION
        {
            version = 0;
        }
        let flexible = asked.message.flexible.contains(version);
        let values = self.limits.answer_values;
        let layout = &asked.message.response;
        Ok((decode::decode(layout, &body, version, flexible, values)?.value, version))
    }

    fn learn(&mut self, asked: &Asked, answer: &Value) {
        let (message, layout) = (asked.message, &asked.message.response);
        match message.key {
            api::METADATA | api::CREATE_TOPICS | api::DESCRIBE_TOPIC_PARTITIONS => {
                self.topics.learn(message, answer, self.limits.topic_ids);
            }
            api::API_VERSIONS => {
                let Some(inside) = layout.inside("ApiKeys") else { return };
                let number = |one: &Value, field| {
                    one.get(inside, field).as_int().and_then(|number| i16::try_from(number).ok())
                };
                for one in answer.get(layout, "ApiKeys").elements() {
                    if number(one, "ApiKey") == Some(api::METADATA) {
                        let offered = Versions {
                            first: number(one, "MinVersion").unwrap_or(0),
                            last: number(one, "MaxVersion").unwrap_or(0),
                        };
                        self.metadata = offered.last;
                    }
                }
            }
            _ => {}
        }
    }

    /// The answer as the client is to have it; `None`: as it came.
    pub(super) fn edit(
        &mut self,
        asked: Asked,
        answer: &mut Value,
        version: i16,
        draft: Option<&mut Draft>,
        policy: &dyn Policy,
    ) -> Option<Vec<Bytes>> {
        let layout = &asked.message.response;
        let narrow = asked.api.key == api::API_VERSIONS;
        let needed = asked.edit.is_needed() || narrow;
        let mut judge = Judge {
            policy,
            message: asked.message,
            api: asked.api,
            version,
            client_id: &asked.client_id,
            ids: &self.topics,
            group: asked.group,
            transactional_id: asked.transactional_id,
            findings: Findings::default(),
        };
        let assigned = members::assigned(answer, layout);
        if needed {
            judge.edit(asked.edit, answer);
        }
        if let (Some(all), Some(group), Some(member)) =
            (assigned, &judge.group, answer.get(layout, "MemberId").as_text())
        {
            let shown = members::assigned(answer, layout).unwrap_or_default();
            self.members.told(group, member, all, shown);
        }
        if narrow {
            respond::narrow(asked.message, answer);
        }
        let findings = judge.findings;
        if let Some(Draft { record, .. }) = draft {
            record.error_code = respond::first_error(answer, layout);
            if findings.denied > 0 {
                record.outcome = Outcome::Partly;
            }
            if record.rule == 0 || findings.denied > 0 {
                record.rule = findings.rule;
            }
            record.topics_in_all += findings.topics_in_all;
            let room = crate::kafka::record::TOPICS.saturating_sub(record.topics.len());
            record.topics.extend(findings.topics.into_iter().take(room));
        }
        if !needed {
            return None;
        }
        let flexible = header::answer_is_flexible(asked.message, version);
        let mut pieces = Pieces::default();
        header::write_answer(asked.start.correlation_id, flexible, &mut pieces);
        pieces.structure(layout, answer, version, asked.message.flexible.contains(version));
        Some(pieces.into_frame())
    }

    /// The broker's side is not to be understood any more: nothing of it is passed on.
    fn fail(&mut self, closing: Closing, now: Instant) -> Step {
        let draft = self.next_due().and_then(|asked| asked.draft);
        self.records.extend(draft.map(|mut draft| {
            draft.record.outcome = Outcome::Refused(closing);
            draft.end(now)
        }));
        self.broker.clear();
        self.client.clear();
        self.intake = Intake::Ended;
        self.closed = Some(closing);
        Step::Made
    }
}

/// Whether an answer must be looked into before it goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Yes,
    No,
}

fn needed(asked: &Asked) -> Needed {
    let tells = [api::API_VERSIONS, api::METADATA, api::CREATE_TOPICS, api::DESCRIBE_TOPIC_PARTITIONS];
    if asked.edit.is_needed() || tells.contains(&asked.api.key) { Needed::Yes } else { Needed::No }
}
