//! Policy documents in, verdicts and the rule that decided out. Pure and synchronous.

pub mod compiled;
pub mod labels;
pub mod model;
