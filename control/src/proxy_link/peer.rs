//! Who may be at the other end of the link: a process of root or of this agent's user, in this
//! agent's network namespace. A workload that can see the socket's file is in another one.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use tokio::net::UnixStream;

#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error("cannot tell who the peer is: {0}")]
    Unknown(#[from] io::Error),
    #[error("process {pid} belongs to user {uid}, who may not speak for the proxy")]
    User { pid: i32, uid: u32 },
    #[error("process {pid} is in another network namespace")]
    Namespace { pid: i32 },
}

pub fn check(stream: &UnixStream) -> Result<(), PeerError> {
    let peer = stream.peer_cred()?;
    let pid = peer.pid().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let uid = peer.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(PeerError::User { pid, uid });
    }
    let namespace = |process: &str| {
        // Device and inode name a namespace; `self` would be the main thread's, whatever ours is.
        std::fs::metadata(Path::new("/proc").join(process).join("ns/net"))
            .map(|meta| (meta.dev(), meta.ino()))
    };
    if namespace(&pid.to_string())? != namespace("thread-self")? {
        return Err(PeerError::Namespace { pid });
    }
    Ok(())
}
