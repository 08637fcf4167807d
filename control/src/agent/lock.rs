//! One agent for one network namespace, one run directory and one set of pins.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::socket::{getsockopt, sockopt::PeerCredentials},
};

use crate::config::AgentConfig;

pub const LOCK_FILE: &str = "agent.lock";
/// Name of a socket that nobody connects to. Abstract names belong to a network namespace and go
/// away with their process.
const NAMESPACE_LOCK: &str = "tektin-agent";

/// Held as long as this lives.
#[derive(Debug)]
pub struct Locks {
    _namespace: Option<UnixListener>,
    _run: Flock<File>,
    _pins: Flock<File>,
}

/// How long the locks of an agent that was killed may outlive it: the kernel frees them with its memory.
const ENDING: Duration = Duration::from_secs(2);

/// Fails where another agent has the network namespace or either directory, and keeps it.
pub fn take(config: &AgentConfig) -> anyhow::Result<Locks> {
    let end = Instant::now() + ENDING;
    loop {
        match try_take(config) {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn try_take(config: &AgentConfig) -> anyhow::Result<Locks> {
    let path = config.run_dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let run = lock(file, &config.run_dir)?;
    let namespace = lock_namespace(NAMESPACE_LOCK)?;
    refuse_private_mounts(&config.pin_dir)?;
    // A bpf file system has no regular files; the directory itself can be locked.
    tektin_loader::prepare_pin_dir(&config.pin_dir)
        .with_context(|| format!("make pin directory {}", config.pin_dir.display()))?;
    let pins = File::open(&config.pin_dir).with_context(|| format!("open {}", config.pin_dir.display()))?;
    Ok(Locks { _namespace: namespace, _run: run, _pins: lock(pins, &config.pin_dir)? })
}

/// `ip netns exec` hides the system's BPF file system behind a /sys of its own. One mounted there
/// would go away with this process, and the next agent would find nothing of it.
fn refuse_private_mounts(pins: &Path) -> anyhow::Result<()> {
    const SYSTEM: &str = "/sys/fs/bpf";
    let has_bpffs = nix::sys::statfs::statfs(SYSTEM)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC);
    if !pins.starts_with(SYSTEM) || has_bpffs || !is_of_ip_netns_exec() {
        return Ok(());
    }
    bail!(
        "{SYSTEM} is not mounted in this mount namespace, and pins that nobody else sees would be lost with \
         this process. `ip netns exec` does that: use nsenter --net=/run/netns/NAME, or --pin-dir on \
         another BPF file system"
    )
}

/// `ip netns exec` gives its sysfs the name of the network namespace.
fn is_of_ip_netns_exec() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let source = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let (source, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (path == "/sys" && kind == "sysfs").then_some(source)
    });
    source.is_some_and(|name| name != "sysfs" && Path::new("/run/netns").join(name).exists())
}

/// Two agents in one namespace would take each other's devices, rules and addresses for their own.
/// `None`: somebody without our rights has the name; that must not keep the agent from starting.
fn lock_namespace(name: &str) -> anyhow::Result<Option<UnixListener>> {
    let address = SocketAddr::from_abstract_name(name).context("name of the namespace's lock")?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let holder = UnixStream::connect_addr(&address)
                .ok()
                .and_then(|stream| getsockopt(&stream, PeerCredentials).ok());
            match holder {
                Some(holder) if holder.uid() != nix::unistd::geteuid().as_raw() => {
                    tracing::warn!(
                        uid = holder.uid(),
                        pid = holder.pid(),
                        "somebody else holds the agent's lock"
                    );
                    Ok(None)
                }
                holder => {
                    let pid =
                        holder.map_or_else(String::new, |holder| format!(" (process {})", holder.pid()));
                    bail!("another agent{pid} runs in this network namespace; a namespace can have one")
                }
            }
        }
        Err(error) => Err(error).context("lock the network namespace"),
    }
}

fn lock(file: File, directory: &Path) -> anyhow::Result<Flock<File>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            bail!("another agent uses {}; give this one directories of its own", directory.display())
        }
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_agent_at_a_time() {
        let name = format!("tektin-test-{}", std::process::id());
        let first = lock_namespace(&name).unwrap();
        assert!(first.is_some());
        let error = lock_namespace(&name).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        assert!(lock_namespace(&name).unwrap().is_some());
    }
}
