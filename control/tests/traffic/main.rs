//! Real packets against the built binary: namespaces, an agent, its proxy, and programs that people
//! use (curl, nginx, nghttp, netcat, ping, Python). Needs root; `cargo test` runs it with the rest.

// A binary: nothing in it is reachable from outside, and "pub" says "for the other modules".
#![allow(unreachable_pub)]

mod agent_faults;
mod churn;
mod clean;
mod endpoints;
mod exit_codes;
mod failures;
mod flips;
mod floods;
mod grpc;
mod h2spec;
mod hostile_node;
mod http;
mod identity_file;
mod idle;
mod kafka;
mod kernel;
mod live_change;
mod local_delivery;
mod netlab;
mod policies;
mod policy_input;
mod real_clients;
mod restarts;
mod scripts;
mod siege;
mod slow_peers;
mod smuggling;
mod spare_connections;
mod spoofing;
mod table;
mod why;
