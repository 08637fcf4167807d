//! The proxy's pipeline from an accepted socket to the server and back.

mod bodies;
mod framing;
mod harness;
mod http2;
mod judging;
mod policy_change;
mod refusal;
mod switching;
mod time;
mod upstream;
