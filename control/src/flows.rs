//! Flow records: one for each verdict, from the kernel's ring buffer and from the proxy, with both
//! ends' identities and the rule that decided.

pub mod filter;
pub mod record;
