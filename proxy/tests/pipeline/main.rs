//! The proxy's pipeline from an accepted socket to the server and back.

mod harness;
mod judging;
