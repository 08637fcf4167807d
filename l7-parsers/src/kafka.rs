//! Apache Kafka between a client and one broker: requests judged name by name, what is denied taken
//! out and answered here as a broker's own ACLs would answer, the rest passed on as it came.
//!
//! [`Engine`] does no IO: it is given octets and hands out octets. Layouts are data
//! (`kafka-messages/messages.txt`), so that every version is read by one strict, bounded decoder;
//! what is not in them is not forwarded. Records are neither decoded nor copied.

mod answer;
mod api;
mod decode;
mod encode;
mod engine;
mod header;
mod judge;
mod members;
mod merge;
mod named;
mod record;
mod respond;
mod rules;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;
mod topics;
mod value;

pub use decode::Malformed;
pub use engine::{Ends, Engine, Outbox, Passing};
pub use named::{Misnamed, NamedRequest, What, judge_named};
pub use record::{Cut, Outcome, Record};
pub use rules::{Pattern, Policy, Question, Requests, Resource, Role, Rule, RuleSet, Verdict, api_key};
pub use schema::Versions;

/// Upper bounds for what one connection may make the proxy hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Octets of a request, which is held until it is judged; a broker's own default is 100 MiB.
    pub request_octets: usize,
    /// From this size on the records of a request pass in pieces, once it is known that they may.
    pub streamed_octets: usize,
    /// Octets of an answer that must be looked into; others pass in pieces, whatever their size.
    pub answer_octets: usize,
    /// Values (numbers, texts, fields) of a request.
    pub request_values: usize,
    /// Values of an answer that must be looked into.
    pub answer_values: usize,
    /// Requests without an answer yet.
    pub in_flight: usize,
    /// Octets of denials that wait for their turn; from there on no more is read of the client.
    pub kept_octets: usize,
    /// Octets that wait to be written; more are not made before some are taken.
    pub outbox_octets: usize,
    /// Topic ids whose name is remembered.
    pub topic_ids: usize,
    /// Octets of share sessions (names of groups and members, ids of topics, numbers of partitions), and as
    /// many of members of groups to whom not all was shown.
    pub session_octets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_octets: 32 << 20,
            streamed_octets: 64 << 10,
            answer_octets: 64 << 20,
            request_values: 1 << 19,
            answer_values: 4 << 20,
            in_flight: 512,
            kept_octets: 1 << 20,
            outbox_octets: 256 << 10,
            topic_ids: 100_000,
            session_octets: 4 << 20,
        }
    }
}

/// Why the connection ends. The text goes into the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closing {
    #[error("request longer than allowed, or of a negative length")]
    RequestLength,
    #[error("request without a readable header: {0}")]
    Header(Malformed),
    #[error("request of a type that is not known")]
    UnknownRequest,
    #[error("request of a version that is not served")]
    UnsupportedVersion,
    #[error("malformed request: {0}")]
    Request(Malformed),
    #[error("denied records in a produce request that has no answer")]
    ProduceWithoutAnswer,
    #[error("answer longer than allowed, or of a negative length")]
    AnswerLength,
    #[error("answer that nobody asked for")]
    UnexpectedAnswer,
    #[error("malformed answer: {0}")]
    Answer(Malformed),
    #[error("too much comes behind an answer whose topics have no names yet")]
    TopicNames,
}

/// The versions of a request that are understood; empty (`first > last`) for one that is not.
pub fn versions(api_key: i16) -> Versions {
    api::versions(api_key)
}
