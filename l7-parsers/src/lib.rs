//! Sans-IO checks of application protocols: bytes in; a value, "need more" or a refusal out.
//!
//! What these modules let through has exactly one reading. They are stricter than a general HTTP
//! parser on purpose: a request that two parsers could read differently is refused, because the
//! proxy's parser and the server's parser are two.

pub mod authority;
pub mod grpc;
pub mod http1;
pub mod http2;
pub mod kafka;
pub mod path;
