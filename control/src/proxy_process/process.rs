//! One proxy process: starting, finding, watching, ending.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::ProxyCommand;

const PID_FILE: &str = "proxy.pid";
const LOG_FILE: &str = "proxy.log";
/// The log is started anew by the first proxy that finds it larger.
const LOG_LIMIT: u64 = 16 << 20;
/// What the process gets between SIGTERM and SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("cannot watch process {pid}: {source}")]
    Watch { pid: u32, source: io::Error },
}

/// A running proxy: a child of this process, or one that was adopted.
#[derive(Debug)]
pub struct ProxyProcess {
    pid: u32,
    /// Becomes readable when the process ends. Means this process even when its number is reused.
    pidfd: AsyncFd<OwnedFd>,
    child: Option<Child>,
}

/// Starts a proxy and writes the pid file. Its output goes to `proxy.log` in the run directory.
pub fn start(command: &ProxyCommand) -> Result<ProxyProcess, ProcessError> {
    let mut process = spawn(command)?;
    if let Err(error) = write_pid_file(&command.run_dir, process.pid) {
        // A proxy that nobody finds would stay behind.
        if let Some(child) = &mut process.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        return Err(error);
    }
    Ok(process)
}

/// Starts a proxy that nobody has written down yet.
pub fn spawn(command: &ProxyCommand) -> Result<ProxyProcess, ProcessError> {
    let failed = |source| ProcessError::Start { program: command.program.display().to_string(), source };
    let log = open_log(&command.run_dir.join(LOG_FILE))?;
    let mut process = Command::new(&command.program);
    process
        .arg0("tektin")
        .arg("proxy")
        .arg("--pin-dir")
        .arg(&command.pin_dir)
        .arg("--run-dir")
        .arg(&command.run_dir)
        .args(command.limits.iter().map(|limit| format!("--limit={limit}")))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log);
    // SAFETY: setsid is async-signal-safe, and the closure does nothing else.
    unsafe {
        process.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
    let mut child = process.spawn().map_err(failed)?;
    let pid = child.id();
    match watch(pid) {
        Ok(pidfd) => {
            tracing::info!(pid, "started the proxy");
            Ok(ProxyProcess { pid, pidfd, child: Some(child) })
        }
        Err(error) => {
            // A proxy that nobody watches would stay behind.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// The process that the pid file names, if it is alive and is a proxy of this run directory.
pub fn find_running(run_dir: &Path) -> Result<Option<ProxyProcess>, ProcessError> {
    let path = run_dir.join(PID_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ProcessError::Read { path: path.display().to_string(), source }),
    };
    match text.trim().parse() {
        Ok(pid) => adopt_process(pid, run_dir),
        Err(_) => Ok(None),
    }
}

/// All proxies of this run directory that are alive and share this process's network namespace: beside the
/// one that the pid file names, those that drain, and one that was just being started.
pub fn find_all(run_dir: &Path) -> Vec<ProxyProcess> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    listed
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_proxy_of(*pid, run_dir))
        .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok() == here)
        .filter_map(|pid| adopt_process(pid, run_dir).ok().flatten())
        .collect()
}

/// The process `pid`, if it is alive and is a proxy of this run directory.
pub fn adopt_process(pid: u32, run_dir: &Path) -> Result<Option<ProxyProcess>, ProcessError> {
    // Opened before the look at its command line: what is seen there is this process's.
    let pidfd = match watch(pid) {
        Ok(pidfd) => pidfd,
        Err(ProcessError::Watch { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok(is_proxy_of(pid, run_dir).then_some(ProxyProcess { pid, pidfd, child: None }))
}

/// Which build a program is: its file's size and time of change, which a copy or a new build changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    size: u64,
    changed: (i64, i64),
}

impl Binary {
    #[must_use]
    pub fn of(program: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(program).ok()?;
        Some(Self { size: meta.size(), changed: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// What the process runs, also when its file has been replaced.
    #[must_use]
    pub fn of_process(pid: u32) -> Option<Self> {
        Self::of(Path::new(&format!("/proc/{pid}/exe")))
    }
}

/// A zombie has no command line, so it is none either.
fn is_proxy_of(pid: u32, run_dir: &Path) -> bool {
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut args = command_line.split(|octet| *octet == 0).skip(1);
    args.next() == Some(b"proxy") && args.any(|arg| arg == run_dir.as_os_str().as_bytes())
}

fn watch(pid: u32) -> Result<AsyncFd<OwnedFd>, ProcessError> {
    let failed = |source| ProcessError::Watch { pid, source };
    let raw = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| failed(rustix::io::Errno::SRCH.into()))?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    // SAFETY: an OwnedFd stays the same open descriptor for as long as the AsyncFd owns it.
    unsafe { AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) }
        .map_err(|error| failed(error.into()))
}

pub fn write_pid_file(run_dir: &Path, pid: u32) -> Result<(), ProcessError> {
    let path = run_dir.join(PID_FILE);
    let new = run_dir.join(format!("{PID_FILE}.new"));
    fs::write(&new, format!("{pid}\n"))
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|source| ProcessError::Write { path: path.display().to_string(), source })
}

fn open_log(path: &PathBuf) -> Result<File, ProcessError> {
    let too_large = fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT);
    let mut options = OpenOptions::new();
    options.create(true).mode(0o640).write(true);
    if too_large {
        options.truncate(true)
    } else {
        options.append(true)
    };
    options.open(path).map_err(|source| ProcessError::Write { path: path.display().to_string(), source })
}

/// What the proxy said last; empty where that cannot be known.
pub fn last_log_line(run_dir: &Path) -> String {
    let tail = || -> io::Result<String> {
        let mut log = File::open(run_dir.join(LOG_FILE))?;
        let start = log.metadata()?.len().saturating_sub(4096);
        log.seek(io::SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        log.read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).lines().next_back().unwrap_or_default().to_owned())
    };
    tail().unwrap_or_default()
}

impl ProxyProcess {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the process has ended; says how, as far as that can be known.
    pub async fn wait(&mut self) -> String {
        if let Err(error) = self.pidfd.readable().await {
            return format!("cannot be watched any more: {error}");
        }
        // Only a child can be asked, and it must be, or it stays as a zombie.
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => error.to_string(),
            None => "ended".to_owned(),
        }
    }

    /// Ends it at once.
    pub fn kill(&self) {
        if let Err(error) = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(%error, pid = self.pid, "cannot kill the proxy");
        }
    }

    /// SIGTERM, then SIGKILL; returns when it is gone.
    pub async fn terminate(&mut self) {
        for (signal, timeout) in [(Signal::TERM, TERM_TIMEOUT), (Signal::KILL, TERM_TIMEOUT)] {
            if let Err(error) = pidfd_send_signal(self.pidfd.get_ref(), signal)
                && error != rustix::io::Errno::SRCH
            {
                tracing::warn!(%error, pid = self.pid, ?signal, "cannot signal the proxy");
            }
            if tokio::time::timeout(timeout, self.wait()).await.is_ok() {
                return;
            }
        }
        tracing::error!(pid = self.pid, "the proxy does not end");
    }
}
