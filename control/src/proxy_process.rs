//! Keeps a proxy running.
//!
//! The proxy is a process of its own session, so that it outlives the agent however that ends. The
//! next agent finds it on the link, or by the pid file in the run directory, and adopts it. One that
//! runs another binary than the agent is replaced; one that does not dial the link is ended.
//!
//! A replacement starts beside the one that serves, and that one goes on until the new one has its
//! listeners in place (`proxy_link/take_over.rs`).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use crate::proxy_link::{ProxyLink, Refusal};

mod process;

pub use process::{Binary, ProcessError, ProxyProcess, adopt_process, find_all, find_running, start};

/// How long an adopted or new proxy may take to dial the link.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new proxy may take until it judges by the policy and has its listeners in place.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(30);
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
    pub limits: Vec<tektin_proxy::Setting>,
}

impl ProxyCommand {
    /// This binary as a proxy.
    #[must_use]
    pub fn own_binary(pin_dir: PathBuf, run_dir: PathBuf, limits: Vec<tektin_proxy::Setting>) -> Self {
        let program = std::env::current_exe()
            .ok()
            .filter(|path| path.exists())
            // The file was replaced or removed: the kernel still has the one that runs.
            .unwrap_or_else(|| "/proc/self/exe".into());
        Self { program, pin_dir, run_dir, limits }
    }

    /// What is installed now where this command's binary was: another one after an upgrade.
    fn as_installed(&self) -> Self {
        // The kernel marks the name of a file that was removed or replaced.
        let named = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        let installed = named.to_str().and_then(|name| name.strip_suffix(" (deleted)")).map(PathBuf::from);
        match installed.filter(|path| path.exists()) {
            Some(program) if self.program == Path::new("/proc/self/exe") => Self { program, ..self.clone() },
            _ => self.clone(),
        }
    }
}

/// Why the proxy that runs was not replaced. It goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the new proxy does not serve: {0}")]
    Refused(#[from] Refusal),
    #[error("the new proxy ended ({exit}); it said: {said}")]
    Ended { exit: String, said: String },
    #[error("no proxy runs at the moment; one is being started")]
    NoProxy,
    #[error("the supervision has ended")]
    Over,
}

/// A replacement that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub old: u32,
    pub new: u32,
}

type Answer = oneshot::Sender<Result<Replaced, ReplaceError>>;

/// The task that keeps a proxy running. Dropping it leaves the proxy alone, unsupervised.
#[derive(Debug)]
pub struct Supervisor {
    restarts: Arc<AtomicU64>,
    replace: mpsc::Sender<Answer>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Adopts the running proxy or starts one, and starts another whenever it ends.
    #[must_use]
    pub fn start(command: ProxyCommand, link: ProxyLink) -> Self {
        let restarts = Arc::new(AtomicU64::new(0));
        let (end, mut ended) = oneshot::channel();
        let (replace, orders) = mpsc::channel(1);
        let supervision = Supervision { command, link, restarts: restarts.clone(), orders };
        let task = tokio::spawn(async move {
            tokio::select! {
                () = supervision.run() => {}
                _ = &mut ended => {}
            }
        });
        Self { restarts, replace, end, task }
    }

    /// The way to ask for a replacement.
    #[must_use]
    pub fn replacing(&self) -> Replacing {
        Replacing(self.replace.clone())
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

/// Asks the supervisor for a replacement.
#[derive(Clone, Debug)]
pub struct Replacing(mpsc::Sender<Answer>);

impl Replacing {
    /// Starts what is installed now beside the proxy that runs; returns once it serves. On an error the
    /// old one serves as before.
    pub async fn replace(&self) -> Result<Replaced, ReplaceError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| ReplaceError::Over)?;
        answered.await.unwrap_or(Err(ReplaceError::Over))
    }
}

struct Supervision {
    command: ProxyCommand,
    link: ProxyLink,
    restarts: Arc<AtomicU64>,
    orders: mpsc::Receiver<Answer>,
}

impl Supervision {
    async fn run(mut self) {
        let mut next = self.adopt().await;
        let mut delay = Duration::ZERO;
        loop {
            let began = Instant::now();
            match next.take().map_or_else(|| start(&self.command), Ok) {
                Ok(process) => self.watch(process).await,
                Err(error) => tracing::error!(%error, "cannot start the proxy"),
            }
            // One that nobody wrote down may serve: started by an agent that died while it did that.
            next = self.serving_unwatched().await;
            delay = next_delay(delay, began.elapsed());
            if next.is_none() {
                let ready = Instant::now() + delay;
                while let Ok(Some(answer)) = tokio::time::timeout_at(ready, self.orders.recv()).await {
                    let _ = answer.send(Err(ReplaceError::NoProxy));
                }
                self.restarts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Until the process, or the one that has replaced it, ends.
    async fn watch(&mut self, mut process: ProxyProcess) {
        loop {
            let answer = tokio::select! {
                exit = process.wait() => {
                    let said = process::last_log_line(&self.command.run_dir);
                    tracing::error!(
                        pid = process.pid(), %exit, said, "proxy ended: L7 fails closed until it is back"
                    );
                    return;
                }
                Some(answer) = self.orders.recv() => answer,
            };
            let old = process.pid();
            let command = self.command.as_installed();
            match self.take_over(&command).await {
                Ok(new) => {
                    // From now on this is the binary to start again.
                    self.command = command;
                    let _ = answer.send(Ok(Replaced { old, new: new.pid() }));
                    see_off(std::mem::replace(&mut process, new));
                }
                Err(error) => {
                    tracing::error!(%error, old, "the proxy is not replaced");
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    /// The proxy of an agent before this one, or what has replaced it, if it is of use.
    async fn adopt(&mut self) -> Option<ProxyProcess> {
        let found = find_running(&self.command.run_dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for a running proxy");
            None
        });
        let mut old = match found {
            Some(mut old) if !self.link.knows(old.pid(), DIAL_TIMEOUT).await => {
                tracing::warn!(pid = old.pid(), "the running proxy does not dial the link: ended");
                old.terminate().await;
                self.serving_unwatched().await?
            }
            Some(old) => old,
            None => self.serving_unwatched().await?,
        };
        // The newest one that serves is the one that stays, whatever was written down.
        if self.link.serving().is_some_and(|serving| serving != old.pid())
            && let Some(newer) = self.serving_unwatched().await
        {
            see_off(std::mem::replace(&mut old, newer));
        }
        let pid = old.pid();
        if let (Some(own), Some(its)) = (Binary::of(&self.command.program), Binary::of_process(pid))
            && own != its
        {
            tracing::info!(pid, "the running proxy is of another binary: it is replaced");
            match self.take_over(&self.command.clone()).await {
                Ok(new) => {
                    see_off(old);
                    return Some(new);
                }
                Err(error) => tracing::error!(%error, pid, "the running proxy is kept"),
            }
        } else {
            tracing::info!(pid, "adopted the running proxy");
        }
        Some(old)
    }

    /// The process that serves, written down as the one to watch.
    async fn serving_unwatched(&self) -> Option<ProxyProcess> {
        let pid = self.link.serving()?;
        let process = adopt_process(pid, &self.command.run_dir).ok().flatten()?;
        self.write_down(&process);
        tracing::info!(pid, "adopted the proxy that serves");
        Some(process)
    }

    /// Starts a proxy beside the one that serves, which drains as soon as the new one does.
    async fn take_over(&self, command: &ProxyCommand) -> Result<ProxyProcess, ReplaceError> {
        let before = self.link.serving();
        let mut new = process::spawn(command)?;
        let served = tokio::select! {
            served = self.link.serves(new.pid(), TAKE_OVER_TIMEOUT) => served.map_err(ReplaceError::from),
            exit = new.wait() => {
                let said = process::last_log_line(&command.run_dir);
                Err(ReplaceError::Ended { exit, said })
            }
        };
        match served {
            Ok(()) => {
                self.write_down(&new);
                Ok(new)
            }
            Err(error) => {
                // It may have got its listeners in place all the same.
                if let Some(old) = before {
                    self.link.give_listeners(old);
                }
                new.terminate().await;
                Err(error)
            }
        }
    }

    fn write_down(&self, process: &ProxyProcess) {
        if let Err(error) = process::write_pid_file(&self.command.run_dir, process.pid()) {
            tracing::warn!(%error, "cannot write the pid file");
        }
    }
}

/// Waits in the background for a proxy that drains.
fn see_off(mut old: ProxyProcess) {
    tokio::spawn(async move {
        let exit = old.wait().await;
        tracing::info!(pid = old.pid(), %exit, "the replaced proxy has ended");
    });
}

/// At once after a long life, then 50 ms, doubling up to 5 s.
fn next_delay(last: Duration, lived: Duration) -> Duration {
    if lived >= STABLE { Duration::ZERO } else { (last * 2).clamp(FIRST_DELAY, LONGEST_DELAY) }
}

#[cfg(test)]
mod tests;
