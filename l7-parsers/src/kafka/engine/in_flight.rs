//! Requests whose answers are due, in the order in which they are due.

use std::time::Instant;

use bytes::Bytes;

use crate::kafka::{
    Closing, Outcome, Record,
    api::Api,
    header::Start,
    judge::{Edit, Findings},
    schema::Message,
};

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) answer: Due,
    /// None of a request that was made here.
    pub(super) draft: Option<Draft>,
    /// Octets that it makes the engine hold.
    pub(super) kept: usize,
}

impl InFlight {
    pub(super) fn ready(pieces: Vec<Bytes>, draft: Draft) -> Self {
        let kept = pieces.iter().map(Bytes::len).sum();
        Self { answer: Due::Ready(pieces), draft: Some(draft), kept }
    }

    /// Octets of names that are kept for its record and for its answer.
    pub(super) fn names(&self) -> usize {
        let asked = match &self.answer {
            Due::Broker(asked) => asked.names(),
            Due::Ready(_) | Due::End(_) => 0,
        };
        asked + self.draft.as_ref().map_or(0, |draft| draft.record.names())
    }
}

#[derive(Debug)]
pub(super) enum Due {
    /// From the broker.
    Broker(Box<Asked>),
    /// Made here.
    Ready(Vec<Bytes>),
    /// The connection ends here.
    End(Closing),
}

/// What the broker was asked.
pub(super) struct Asked {
    pub(super) start: Start,
    pub(super) message: &'static Message,
    pub(super) api: &'static Api,
    pub(super) edit: Edit,
    pub(super) client_id: String,
    pub(super) group: Option<String>,
    pub(super) transactional_id: Option<String>,
    pub(super) whose: Whose,
    pub(super) silence: Silence,
}

/// Whether a broker says nothing to a request (Produce with acks=0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    Kept,
    Broken,
}

impl Asked {
    pub(super) fn names(&self) -> usize {
        let name = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        self.client_id.len() + name(&self.group) + name(&self.transactional_id)
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.message.name, self.start)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Client,
    /// The engine's own question for names of topics that a request has the ids of; its answer goes to
    /// nobody.
    Request,
    /// The same for an answer.
    Answer,
}

/// A record but for its end.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) record: Record,
    pub(super) began: Instant,
}

impl Draft {
    pub(super) fn new(start: Start, api_name: &'static str, client_id: &str, began: Instant) -> Self {
        let record = Record {
            api_key: start.api_key,
            api_name,
            api_version: start.api_version,
            correlation_id: start.correlation_id,
            client_id: client_id.to_owned(),
            topics: Vec::new(),
            topics_in_all: 0,
            group: None,
            transactional_id: None,
            outcome: Outcome::Unjudged,
            cut: None,
            rule: 0,
            error_code: 0,
            latency: std::time::Duration::ZERO,
        };
        Self { record, began }
    }

    pub(super) fn found(&mut self, findings: Findings, outcome: Outcome) {
        self.record.outcome = outcome;
        self.record.rule = findings.rule;
        self.record.error_code = findings.code;
        self.record.topics = findings.topics;
        self.record.topics_in_all = findings.topics_in_all;
    }

    pub(super) fn end(mut self, now: Instant) -> Record {
        self.record.latency = now.saturating_duration_since(self.began);
        self.record
    }
}
