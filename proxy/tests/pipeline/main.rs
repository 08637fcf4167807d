//! The proxy's pipeline from an accepted socket to the server and back.

#![allow(clippy::unwrap_used)] // clippy lifts it in test functions only, not in what they call

mod bodies;
mod ends;
mod framing;
mod grpc;
mod harness;
mod hostile;
mod http2;
mod judging;
mod kafka;
mod peer;
mod places;
mod policy_change;
mod refusal;
mod server_floods;
mod soak;
mod spare;
mod switching;
mod time;
mod upstream;
