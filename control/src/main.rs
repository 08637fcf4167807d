//! `tektin`: the agent, the proxy and the command line, in one binary.

// A binary: nothing in it is reachable from outside, and "pub" says "for the other modules".
#![allow(unreachable_pub)]

mod agent;
mod api;
mod cli;
mod config;
mod flows;
mod proxy_link;
mod proxy_process;
mod rules;

fn main() -> std::process::ExitCode {
    cli::main()
}
