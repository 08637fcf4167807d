//! The transparent L7 proxy: reads steered connections, judges each request, forwards what is
//! allowed. Start reading at `connection.rs`.

/// The generated types, server and client of the link between agent and proxy.
#[allow(clippy::all, unreachable_pub, missing_docs)]
pub mod link_proto {
    tonic::include_proto!("tektin.link.v1");
}
