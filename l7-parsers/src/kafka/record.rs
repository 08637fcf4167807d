//! What is told of each request.

use std::time::Duration;

use super::Closing;

/// Names of topics that a record lists; `topics_in_all` counts the rest.
pub(super) const TOPICS: usize = 32;
/// Letters of a topic's name.
pub(super) const NAME: usize = 249;

/// One request and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// −1 where the frame had no header that could be read.
    pub api_key: i16,
    /// The protocol's name of the request, empty where it is unknown.
    pub api_name: &'static str,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: String,
    pub topics: Vec<String>,
    pub topics_in_all: usize,
    pub group: Option<String>,
    pub transactional_id: Option<String>,
    pub outcome: Outcome,
    /// Why its answer has not gone to the client as a whole; `None`: it has, or there is none.
    pub cut: Option<Cut>,
    /// Number of the rule that decided: the one that denied first, else the one that allowed first. 0
    /// where none was asked, or where none matched.
    pub rule: u32,
    /// The first error in the answer, 0 for none. An answer too long to be held is not looked into.
    pub error_code: i16,
    /// From the request's last octet to its answer; zero where there is none.
    pub latency: Duration,
}

impl Record {
    /// Octets of its names.
    #[must_use]
    pub fn names(&self) -> usize {
        let topics: usize = self.topics.iter().map(String::len).sum();
        let name = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        topics + self.client_id.len() + name(&self.group) + name(&self.transactional_id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The connection ended before it was judged; nothing of it went on.
    Unjudged,
    Allowed,
    /// Some names were taken out, the rest went on.
    Partly,
    /// Answered here.
    Denied,
    /// The connection ends.
    Refused(Closing),
}

/// What ended a connection on which answers were due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    #[error("the client left")]
    Client,
    #[error("the broker left")]
    Broker,
    #[error("a request or an answer was refused")]
    Refused,
    #[error("the policy in force denies the connection")]
    Policy,
    #[error("time was up for the proxy to drain")]
    Drain,
    #[error("nothing moved for too long")]
    Idle,
}
