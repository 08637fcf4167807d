//! The policies in force, as the agent sent them, and what they say about a request.

mod governing;
mod judge;
mod kafka;
mod overlay;
mod rules;
mod snapshot;

pub use governing::Governing;
pub use judge::{EndDecision, Judgement, Judging};
pub use kafka::KafkaRuleError;
pub use rules::{RuleCache, RuleError};
pub use snapshot::{Snapshot, UpdateError};
