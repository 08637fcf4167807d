//! Names of topic ids: asked of the broker where a request or an answer has ids that nobody knows yet.
//! The request is held; so is the answer, and what comes behind it.

use bytes::Bytes;

use super::{
    Engine,
    in_flight::{Asked, Draft, Due, InFlight, Silence, Whose},
};
use crate::kafka::{
    Closing, Outcome, Policy,
    api::{self, api},
    decode::Extra,
    encode::Pieces,
    header::{Header, Start},
    judge::Edit,
    schema,
    topics::TopicId,
    value::Value,
};

/// The version from which Metadata can be asked by id alone.
pub(super) const METADATA_BY_ID: i16 = 12;

/// What goes to the client after an answer that is held.
#[derive(Debug)]
pub(super) enum Behind {
    Octets(Bytes),
    Held(Box<HeldAnswer>),
}

#[derive(Debug)]
pub(super) struct HeldAnswer {
    pub(super) asked: Asked,
    pub(super) draft: Option<Draft>,
    pub(super) frame: Bytes,
}

impl Engine {
    /// Asks the broker, on the client's connection and so with the client's rights.
    pub(super) fn ask_names(&mut self, ids: &[TopicId], client_id: Option<Bytes>, whose: Whose) {
        let (Some(message), Some(api)) = (schema::message(api::METADATA), api(api::METADATA)) else {
            return;
        };
        let layout = &message.request;
        let mut body = Value::empty(layout);
        if let Some(inside) = layout.inside("Topics") {
            let topics = ids.iter().map(|id| {
                let mut topic = Value::empty(inside);
                topic.set(inside, "TopicId", Value::Uuid(*id));
                topic.set(inside, "Name", Value::Null);
                topic
            });
            body.set(layout, "Topics", Value::Array(topics.collect()));
        }
        body.set(layout, "AllowAutoTopicCreation", Value::Bool(false));
        let start = Start { api_key: api::METADATA, api_version: METADATA_BY_ID, correlation_id: i32::MIN };
        let header = Header { start, client_id, extra: Extra::None };
        let mut pieces = Pieces::default();
        header.write(true, &mut pieces);
        pieces.structure(layout, &body, METADATA_BY_ID, true);
        self.to_broker.extend(pieces.into_frame());
        let edit = Edit::default();
        let (client_id, group, transactional_id) = (String::new(), None, None);
        let silence = Silence::Broken;
        let asked = Asked { start, message, api, edit, client_id, group, transactional_id, whose, silence };
        let due = InFlight { answer: Due::Broker(Box::new(asked)), draft: None, kept: 0 };
        // The connection does not end before it is answered.
        match self.in_flight.pop_back() {
            Some(end) if matches!(end.answer, Due::End(_)) => self.in_flight.extend([due, end]),
            last => self.in_flight.extend(last.into_iter().chain([due])),
        }
    }

    /// Ids of an assignment of which no name is known yet.
    pub(super) fn unknown_in(&self, asked: &Asked, answer: &Value) -> Vec<TopicId> {
        if asked.api.shown != api::Shown::Assignment || self.metadata < METADATA_BY_ID {
            return Vec::new();
        }
        let layout = &asked.message.response;
        let mut unknown = api::assigned(answer, layout);
        unknown.retain(|id| self.topics.name(*id).is_none());
        unknown
    }

    /// The answer waits for the names that were asked for.
    pub(super) fn hold_answer(&mut self, held: HeldAnswer) {
        self.behind_octets += held.frame.len();
        self.behind.push_back(Behind::Held(Box::new(held)));
        self.bound_behind();
    }

    /// The names that the first held answer waits for are known, or never will be.
    pub(super) fn resume(&mut self, policy: &dyn Policy, now: std::time::Instant) {
        let Some(Behind::Held(held)) = self.behind.pop_front() else { return };
        self.behind_octets -= held.frame.len();
        let HeldAnswer { asked, mut draft, frame } = *held;
        let Ok((mut answer, version)) = self.read_answer(&asked, &frame.slice(4..)) else { return };
        let rewritten = self.edit(asked, &mut answer, version, draft.as_mut(), policy);
        self.to_client.extend(rewritten.unwrap_or_else(|| vec![frame]));
        self.records.extend(draft.map(|draft| draft.end(now)));
        while let Some(Behind::Octets(piece)) =
            self.behind.pop_front_if(|next| matches!(next, Behind::Octets(_)))
        {
            self.behind_octets -= piece.len();
            self.to_client.push(piece);
        }
    }

    /// To the client, in its turn.
    pub(super) fn deliver(&mut self, pieces: impl IntoIterator<Item = Bytes>) {
        for piece in pieces {
            if self.behind.is_empty() {
                self.to_client.push(piece);
            } else {
                self.behind_octets += piece.len();
                self.behind.push_back(Behind::Octets(piece));
            }
        }
        self.bound_behind();
    }

    fn bound_behind(&mut self) {
        if self.behind_octets <= self.limits.kept_octets {
            return;
        }
        self.closed = Some(Closing::TopicNames);
        if let Some(Behind::Held(first)) = self.behind.front_mut()
            && let Some(draft) = &mut first.draft
        {
            draft.record.outcome = Outcome::Refused(Closing::TopicNames);
        }
    }
}
