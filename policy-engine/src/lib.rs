//! Policy documents in, verdicts and the rule that decided out. Pure and synchronous; only policy test
//! files read other files, the policies that they name.

pub mod compile;
pub mod compiled;
pub mod direction;
pub mod documents;
pub mod engine;
pub mod explain;
mod fqdn;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod kafka;
pub mod labels;
pub mod lookup;
pub mod model;
pub mod naive;
mod names;
pub mod policy_set;
pub mod regex;
mod selector;
mod selector_index;
pub mod test_file;
