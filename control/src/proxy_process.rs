//! Keeps a proxy running.
//!
//! The proxy is a process of its own session, so that it outlives the agent however that ends. The
//! next agent finds it by the pid file in the run directory and adopts it. One that is of another
//! version, or that does not dial the link, is replaced.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::proxy_link::ProxyLink;

mod process;

pub use process::{ProcessError, ProxyProcess, find_running, start};

/// How long an adopted or new proxy may take to dial the link.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// What an old proxy gets to finish its open connections when a new version takes over.
const DRAIN_SECONDS: u32 = 30;
/// A proxy that lived so long did not fail at its start.
const STABLE: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// How to start the proxy.
#[derive(Clone, Debug)]
pub struct ProxyCommand {
    pub program: PathBuf,
    pub pin_dir: PathBuf,
    pub run_dir: PathBuf,
}

impl ProxyCommand {
    /// This binary as a proxy.
    #[must_use]
    pub fn own_binary(pin_dir: PathBuf, run_dir: PathBuf) -> Self {
        let program = std::env::current_exe()
            .ok()
            .filter(|path| path.exists())
            // The file was replaced or removed: the kernel still has the one that runs.
            .unwrap_or_else(|| "/proc/self/exe".into());
        Self { program, pin_dir, run_dir }
    }
}

/// The task that keeps a proxy running. Dropping it leaves the proxy alone, unsupervised.
#[derive(Debug)]
pub struct Supervisor {
    restarts: Arc<AtomicU64>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Adopts the running proxy or starts one, and starts another whenever it ends.
    #[must_use]
    pub fn start(command: ProxyCommand, link: ProxyLink) -> Self {
        let restarts = Arc::new(AtomicU64::new(0));
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(supervise(command, link, restarts.clone(), ended));
        Self { restarts, end, task }
    }

    /// How often a proxy ended and was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Ends the supervision; the proxy goes on.
    pub async fn leave(self) {
        // An error of either means that the task is over already.
        let _ = self.end.send(());
        let _ = self.task.await;
    }
}

/// Ends the proxy that the pid file names; its pid, or `None` where none runs.
pub async fn stop_running(run_dir: &std::path::Path) -> Result<Option<u32>, ProcessError> {
    let Some(mut process) = find_running(run_dir)? else { return Ok(None) };
    process.terminate().await;
    Ok(Some(process.pid()))
}

async fn supervise(
    command: ProxyCommand,
    link: ProxyLink,
    restarts: Arc<AtomicU64>,
    mut ended: oneshot::Receiver<()>,
) {
    let mut adopted = tokio::select! {
        adopted = adopt(&command, &link) => adopted,
        _ = &mut ended => return,
    };
    let mut delay = Duration::ZERO;
    loop {
        let began = Instant::now();
        match adopted.take().map_or_else(|| start(&command), Ok) {
            Ok(mut process) => {
                let exit = tokio::select! {
                    exit = process.wait() => exit,
                    _ = &mut ended => return,
                };
                let said = process::last_log_line(&command.run_dir);
                tracing::error!(pid = process.pid(), %exit, said, "proxy ended: L7 fails closed until it is back");
            }
            Err(error) => tracing::error!(%error, "cannot start the proxy"),
        }
        delay = next_delay(delay, began.elapsed());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = &mut ended => return,
        }
        restarts.fetch_add(1, Ordering::Relaxed);
    }
}

/// At once after a long life, then 50 ms, doubling up to 5 s.
fn next_delay(last: Duration, lived: Duration) -> Duration {
    if lived >= STABLE { Duration::ZERO } else { (last * 2).clamp(FIRST_DELAY, LONGEST_DELAY) }
}

/// The proxy of an agent before this one, if it is of use.
async fn adopt(command: &ProxyCommand, link: &ProxyLink) -> Option<ProxyProcess> {
    let mut old = match find_running(&command.run_dir) {
        Ok(found) => found?,
        Err(error) => {
            tracing::warn!(%error, "cannot look for a running proxy");
            return None;
        }
    };
    let pid = old.pid();
    match link.version_of(pid, DIAL_TIMEOUT).await {
        Some(version) if version == env!("CARGO_PKG_VERSION") => {
            tracing::info!(pid, "adopted the running proxy");
            Some(old)
        }
        Some(version) => Some(take_over(command, link, old, &version).await),
        None => {
            tracing::warn!(pid, "the running proxy does not dial the link: ended");
            old.terminate().await;
            None
        }
    }
}

/// Starts a proxy of this version beside the old one; when it serves, the old one drains.
async fn take_over(
    command: &ProxyCommand,
    link: &ProxyLink,
    old: ProxyProcess,
    version: &str,
) -> ProxyProcess {
    tracing::info!(pid = old.pid(), version, "replacing the running proxy");
    let mut new = match start(command) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "cannot start a new proxy: keeping the old one");
            return old;
        }
    };
    if link.version_of(new.pid(), DIAL_TIMEOUT).await.is_some() {
        link.drain_all_but(new.pid(), DRAIN_SECONDS).await;
        return new;
    }
    tracing::error!(pid = new.pid(), "the new proxy does not dial the link: keeping the old one");
    new.terminate().await;
    if let Err(error) = process::write_pid_file(&command.run_dir, old.pid()) {
        tracing::warn!(%error, "cannot write the pid file");
    }
    old
}

#[cfg(test)]
mod tests;
