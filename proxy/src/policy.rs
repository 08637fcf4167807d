//! The policies in force, as the agent sent them, and what they say about a request.

mod judge;
mod overlay;
mod rules;
mod snapshot;

pub use judge::{EndDecision, Judgement, Judging};
pub use rules::{RuleCache, RuleError};
pub use snapshot::{Snapshot, UpdateError};
