//! Network namespaces of workloads: found by name or path, told apart by inode, entered on a thread
//! of their own.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use super::netlink::NetlinkError;

/// Where `ip netns` keeps names.
const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("network namespace {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("no network namespace is called {0:?} (looked in /run/netns); give a name or an absolute path")]
    Unknown(String),
    #[error("{0} is not a network namespace")]
    NotOne(PathBuf),
    #[error("cannot enter network namespace {path}: {reason}")]
    Enter { path: PathBuf, reason: String },
    #[error("in network namespace {path}: {source}")]
    Inside { path: PathBuf, source: NetlinkError },
}

/// Device and inode: two paths with equal ids lead to the same namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

/// An open namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    pub path: PathBuf,
    pub id: NetnsId,
    file: File,
}

impl Netns {
    /// Opens a namespace by the name that `ip netns` gave it or by a path.
    pub fn open(name_or_path: &str) -> Result<Self, NetnsError> {
        if name_or_path.contains('/') {
            return Self::open_path(Path::new(name_or_path));
        }
        if name_or_path.is_empty() || name_or_path.starts_with('.') {
            return Err(NetnsError::Unknown(name_or_path.to_owned()));
        }
        let path = NAMED
            .iter()
            .map(|directory| Path::new(directory).join(name_or_path))
            .find(|path| path.exists())
            .ok_or_else(|| NetnsError::Unknown(name_or_path.to_owned()))?;
        Self::open_path(&path)
    }

    fn open_path(path: &Path) -> Result<Self, NetnsError> {
        let failed = |source| NetnsError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if !is_netns(&file).map_err(failed)? {
            return Err(NetnsError::NotOne(path.to_owned()));
        }
        let id = id_of(&file).map_err(failed)?;
        Ok(Self { path: path.to_owned(), id, file })
    }

    /// For a netlink request that moves or makes a device in the namespace.
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Runs `work` inside the namespace, on a thread that ends with it: the agent's own threads
    /// never leave the agent's namespace.
    pub async fn run<T, F, W>(&self, work: W) -> Result<T, NetnsError>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<T, NetlinkError>>,
        T: Send + 'static,
    {
        let path = self.path.clone();
        let failed = |reason: String| NetnsError::Enter { path: path.clone(), reason };
        let file = self.file.try_clone().map_err(|error| failed(error.to_string()))?;
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let outcome = setns(file, CloneFlags::CLONE_NEWNET)
                    .map_err(|error| error.to_string())
                    .and_then(|()| {
                        let mut runtime = tokio::runtime::Builder::new_current_thread();
                        runtime.enable_all().build().map_err(|error| error.to_string())
                    })
                    .map(|runtime| runtime.block_on(async { work().await }));
                // Nobody waits any more only if the request itself was given up.
                let _ = done.send(outcome);
            })
            .map_err(|error| failed(error.to_string()))?;
        let outcome = result.await.map_err(|_| failed("its thread ended early".to_owned()))?;
        outcome.map_err(failed)?.map_err(|source| NetnsError::Inside { path: path.clone(), source })
    }
}

/// The namespace of the calling thread.
pub fn current() -> io::Result<NetnsId> {
    id_of(&File::open("/proc/thread-self/ns/net")?)
}

/// The namespace of a process.
pub fn of_process(pid: i32) -> io::Result<NetnsId> {
    id_of(&File::open(format!("/proc/{pid}/ns/net"))?)
}

fn id_of(file: &File) -> io::Result<NetnsId> {
    let metadata = file.metadata()?;
    Ok(NetnsId { device: metadata.dev(), inode: metadata.ino() })
}

/// Opening some other file and handing it to `setns` would fail only halfway through.
fn is_netns(file: &File) -> io::Result<bool> {
    let kind = nix::sys::statfs::fstatfs(file)?.filesystem_type();
    if kind != nix::sys::statfs::NSFS_MAGIC {
        return Ok(false);
    }
    let own = File::open("/proc/thread-self/ns/net")?;
    // All network namespaces are inodes of one file system; other kinds share it, so ask by type.
    Ok(namespace_type(file)? == namespace_type(&own)?)
}

fn namespace_type(file: &File) -> io::Result<i32> {
    use std::os::fd::AsRawFd;
    /// `NS_GET_NSTYPE` of linux/nsfs.h: the `CLONE_NEW*` flag of the namespace.
    const NS_GET_NSTYPE: nix::libc::Ioctl = 0xb703;
    // SAFETY: the descriptor is open for the length of the call, and the request takes no argument.
    let kind = unsafe { nix::libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    Ok(nix::errno::Errno::result(kind)?)
}
