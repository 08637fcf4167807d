//! Real gRPC peers through the agent, its programs and its proxy: grpc-go, grpcio and tonic, each as
//! client of each. A client's outcomes must be those that it has with the server directly; a denied
//! call ends with PERMISSION_DENIED on a connection that goes on.

mod interop;
mod messages;
mod revoked;
mod services;
mod stage;
mod streams;
mod tonic_client;
mod tonic_server;
mod web;

use std::path::{Path, PathBuf};

use crate::netlab::process::tektin_path;

/// What `bootstrap.sh test` put into the build directory.
fn installed(what: &str) -> PathBuf {
    let path = tektin_path().ancestors().nth(2).expect("a build directory").join(what);
    assert!(path.exists(), "{} is missing: ./bootstrap.sh test", path.display());
    path
}

/// A program of this folder.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traffic/grpc").join(name)
}
