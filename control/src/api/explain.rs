//! Question and answer of `policy explain`.

use std::collections::BTreeMap;

use policy_engine::kafka::KafkaRequest;
use serde::{Deserialize, Serialize};

use crate::flows::record::Action;

/// Which rule would decide for this packet or request?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// An endpoint (`name` or `namespace/name`), an address, a prefix, or an entity.
    pub from: String,
    pub to: String,
    /// `80/TCP`, `http/TCP` (a named port), `8/ICMP`; `None`: any port.
    #[serde(default)]
    pub port: Option<String>,
    /// Asks about a request; without it the L3/L4 answer is given.
    #[serde(default)]
    pub http: Option<HttpRequest>,
    /// The same of a Kafka request; not beside `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpRequest {
    pub method: String,
    /// Path with query.
    pub path: String,
    #[serde(default)]
    pub host: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// What would happen, and by which rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub from: ExplainedEnd,
    pub to: ExplainedEnd,
    /// The port as asked, names resolved.
    pub port: String,
    /// Of a request never `redirect`.
    pub verdict: Action,
    /// The deciding rule in one line; see [`FlowRecord::rule`](crate::flows::record::FlowRecord).
    pub rule: String,
    pub egress: DirectionExplanation,
    pub ingress: DirectionExplanation,
    /// Policy revision that answered.
    pub revision: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedEnd {
    /// As asked.
    pub name: String,
    pub identity: u32,
    pub labels: Vec<String>,
}

/// One end's answer. `none`: it is no policed endpoint, or no policy selects it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectionExplanation {
    pub action: Action,
    /// The rule that decides, `default deny (…)`, or `no policy`.
    pub rule: String,
    /// The rules that do not decide, in document order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<OtherRule>,
}

/// A rule of the direction that does not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherRule {
    pub rule: String,
    /// Why: another port, another peer, an allow that a deny overrides, …
    pub why: String,
}
