//! `tektin`: the agent, the proxy and the command line, in one binary.

// A binary: nothing in it is reachable from outside, and "pub" says "for the other modules".
#![allow(unreachable_pub)]

mod api;
mod cli;
mod config;
mod flows;
mod proxy_link;
mod proxy_process;

fn main() -> std::process::ExitCode {
    cli::main()
}
