//! HTTP/2 on the wire, without IO: frames (RFC 9113) and their field blocks (HPACK, RFC 7541).
//!
//! Octets in, values out. Streams, windows and what a request may look like are the caller's.

pub mod frame;
pub mod hpack;
