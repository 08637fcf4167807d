//! The transparent L7 proxy: reads steered connections, judges each request, forwards what is
//! allowed. Start reading at `connection.rs`.

mod capabilities;
pub mod capture;
pub mod connection;
pub mod counters;
pub mod detect;
mod grpc;
mod http1;
mod http2;
pub mod kafka;
mod link;
mod listener;
mod maps;
pub mod options;
mod pacing;
pub mod policy;
mod process;
pub mod record;
mod request;
mod response;
pub mod sends;
pub mod start_up;
mod tunnel;
pub mod upstream;
mod verdict;
pub mod worker;

pub use options::{Limits, ProxyOptions, Setting, settings};
pub use process::run;

/// The generated types, server and client of the link between agent and proxy.
#[allow(clippy::all, unreachable_pub, missing_docs)]
pub mod link_proto {
    tonic::include_proto!("tektin.link.v1");
}
