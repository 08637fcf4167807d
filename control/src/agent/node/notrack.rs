//! The nftables table that keeps steered packets out of connection tracking: both legs of a proxied
//! connection have the same addresses and ports, which conntrack would take for one connection.

use std::{io, process::Stdio};

use tektin_abi::maps::mark;
use tokio::{io::AsyncWriteExt, process::Command};

use super::NodeError;

/// Replaces the table in one transaction. `Some`: it could not be made, and what that means.
pub(super) async fn install() -> Result<Option<String>, NodeError> {
    let (mask, to, from, host) = (mark::MASK, mark::TO_PROXY, mark::FROM_PROXY, mark::HOST_TO_PROXY);
    let script = format!(
        "add table inet tektin\n\
         delete table inet tektin\n\
         table inet tektin {{\n\
           chain prerouting {{\n\
             type filter hook prerouting priority raw; policy accept;\n\
             meta mark & {mask:#x} == {to:#x} notrack\n\
           }}\n\
           chain output {{\n\
             type filter hook output priority raw; policy accept;\n\
             meta mark & {mask:#x} == {{ {from:#x}, {host:#x} }} notrack\n\
           }}\n\
         }}\n"
    );
    match run(&script).await {
        Ok(()) => Ok(None),
        Err(Failure::NoNft) => Ok(Some(
            "nft is not installed: where nf_conntrack is active, proxied connections may be dropped by \
             rules that match on connection state; install nftables and start the agent again"
                .to_owned(),
        )),
        Err(Failure::Refused(reason)) if reason.contains("not supported") => Ok(Some(format!(
            "this kernel has no nftables inet tables ({reason}): do not match on connection state for \
             proxied connections"
        ))),
        Err(Failure::Refused(reason)) => Err(NodeError::Nft(reason)),
    }
}

pub(super) async fn remove() -> Result<(), NodeError> {
    match run("add table inet tektin\ndelete table inet tektin\n").await {
        Err(Failure::Refused(reason)) if !reason.contains("not supported") => Err(NodeError::Nft(reason)),
        _ => Ok(()),
    }
}

enum Failure {
    NoNft,
    Refused(String),
}

async fn run(script: &str) -> Result<(), Failure> {
    let refused = |error: io::Error| Failure::Refused(error.to_string());
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.kill_on_drop(true).spawn() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Failure::NoNft),
        other => other.map_err(refused)?,
    };
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await.map_err(refused)?;
    }
    let output = child.wait_with_output().await.map_err(refused)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
