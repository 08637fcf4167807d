//! Flow records: one for each verdict, from the kernel's ring buffer and from the proxy, with both
//! ends' identities and the rule that decided.

pub mod compact;
pub mod decision;
pub mod drops;
pub mod filter;
pub mod journal;
pub mod kernel;
pub mod meanings;
pub mod proxy;
pub mod record;
pub mod resolve;
pub mod store;
pub mod table;
pub mod unread;

pub use journal::Journal;
pub use resolve::{EndpointName, Resolve};
pub use store::FlowStore;

#[cfg(test)]
pub mod testing;
