use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::*;
use crate::{
    flows::{FlowStore, Journal, testing::World},
    proxy_link::Times,
};

/// A run directory. What its pid file names ends with it, also when a test fails.
struct RunDir(tempfile::TempDir);

impl RunDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let ours = |pid: &u32| {
            // `sleep` has lost the arguments, but not the log that it was started with.
            fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|log| log.starts_with(self.path()))
        };
        if let Some(pid) = pid_in_file(self.path()).filter(ours) {
            kill(pid);
        }
    }
}

/// A run directory with a stand-in for the binary, which lives as `script` says.
fn command(dir: &Path, script: &str) -> ProxyCommand {
    let program = dir.join("stand-in");
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}/started\n{script}\n", dir.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    ProxyCommand { program, pin_dir: "/pins".into(), run_dir: dir.to_owned(), limits: Vec::new() }
}

async fn link(dir: &Path) -> ProxyLink {
    let times = Times::with_drain(Duration::from_secs(1));
    let (flows, journal) = (FlowStore::default(), Journal::default());
    ProxyLink::serve(&dir.join("proxy.sock"), flows, journal, Arc::new(World), times).await.unwrap()
}

fn pid_in_file(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join("proxy.pid")).ok()?.trim().parse().ok()
}

async fn eventually<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(value) = get() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not happen: {what}");
}

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn it_is_started_with_its_directories_in_a_session_of_its_own() {
    let dir = RunDir::new();
    let mut process = start(&command(dir.path(), "echo said; exec sleep 1000")).unwrap();
    assert_eq!(pid_in_file(dir.path()), Some(process.pid()));
    let started = eventually("it starts", || {
        fs::read_to_string(dir.path().join("started")).ok().filter(|line| line.ends_with('\n'))
    })
    .await;
    assert_eq!(started.trim(), format!("proxy --pin-dir /pins --run-dir {}", dir.path().display()));
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let session: u32 = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().parse().unwrap();
    assert_eq!(session, process.pid());
    eventually("its output is kept", || {
        fs::read_to_string(dir.path().join("proxy.log")).ok().filter(|log| log.contains("said"))
    })
    .await;
    assert_eq!(process::last_log_line(dir.path()), "said");
    process.terminate().await;
    assert!(!is_alive(process.pid()));
}

#[tokio::test]
async fn one_that_ends_is_started_again() {
    let dir = RunDir::new();
    let supervisor = Supervisor::start(command(dir.path(), "exec sleep 1000"), link(dir.path()).await);
    let first = eventually("the first", || pid_in_file(dir.path())).await;
    kill(first);
    let second = eventually("the second", || pid_in_file(dir.path()).filter(|pid| *pid != first)).await;
    assert_eq!(supervisor.restarts(), 1);
    assert!(is_alive(second));
    supervisor.leave().await;
}

#[tokio::test]
async fn one_that_fails_at_its_start_is_tried_more_and_more_seldom() {
    let dir = RunDir::new();
    let supervisor = Supervisor::start(command(dir.path(), "exit 3"), link(dir.path()).await);
    let began = Instant::now();
    let starts =
        || fs::read_to_string(dir.path().join("started")).ok().filter(|text| text.lines().count() >= 4);
    eventually("the fourth start", starts).await;
    // 50 + 100 + 200 ms of waiting.
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert!(supervisor.restarts() >= 3);
    supervisor.leave().await;
}

#[test]
fn delays_grow_and_are_forgotten() {
    let short = Duration::from_millis(1);
    assert_eq!(next_delay(Duration::ZERO, short), FIRST_DELAY);
    assert_eq!(next_delay(FIRST_DELAY, short), FIRST_DELAY * 2);
    assert_eq!(next_delay(LONGEST_DELAY, short), LONGEST_DELAY);
    assert_eq!(next_delay(LONGEST_DELAY, STABLE), Duration::ZERO);
}

#[tokio::test]
async fn it_outlives_its_supervisor_and_is_found_again() {
    let dir = RunDir::new();
    // Its command line must be a proxy's, so the shell is started once more, with a script of the
    // name `proxy`, and waits without a child that would stay behind.
    fs::write(dir.path().join("proxy"), "mkfifo wait; read forever <>wait").unwrap();
    let script = format!("cd {}; exec sh \"$@\"", dir.path().display());
    let supervisor = Supervisor::start(command(dir.path(), &script), link(dir.path()).await);
    let pid = eventually("it starts", || pid_in_file(dir.path())).await;
    eventually("its command line is a proxy's", || find_running(dir.path()).unwrap()).await;
    supervisor.leave().await;
    assert!(is_alive(pid));
    // Another run directory's agent does not take it for its own.
    let other = RunDir::new();
    fs::copy(dir.path().join("proxy.pid"), other.path().join("proxy.pid")).unwrap();
    assert!(find_running(other.path()).unwrap().is_none());
    assert_eq!(stop_running(dir.path()).await.unwrap(), Some(pid));
    assert_eq!(stop_running(dir.path()).await.unwrap(), None);
}

#[tokio::test]
async fn a_pid_file_that_names_nobody_is_no_proxy() {
    let dir = RunDir::new();
    assert!(find_running(dir.path()).unwrap().is_none());
    for text in ["", "x", "0", "4194304", &std::process::id().to_string()] {
        fs::write(dir.path().join("proxy.pid"), text).unwrap();
        assert!(find_running(dir.path()).unwrap().is_none(), "{text:?}");
    }
}
