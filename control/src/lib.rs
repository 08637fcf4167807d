//! What the binary `tektin` is made of: the agent, the proxy and the command line.

// Only `main` and `entrances` are reachable from outside; "pub" says "for the other modules".
#![allow(unreachable_pub)]

mod agent;
mod api;
mod cli;
mod config;
pub mod entrances;
mod flows;
mod kafka_request;
mod proxy_link;
mod proxy_process;
mod rules;

pub use cli::main;
