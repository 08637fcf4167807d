//! One network namespace, by name.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::Mutex,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};

use super::{
    LIMIT,
    process::{Finished, run},
};

/// Does not own the namespace: the lab does.
#[derive(Clone, Debug)]
pub struct Namespace(String);

/// The first `ip netns add` on a machine makes `/run/netns` a mount point; two at once trip over it.
static CREATING: Mutex<()> = Mutex::new(());

impl Namespace {
    pub(super) fn named(name: String) -> Self {
        Self(name)
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    pub(super) fn create(&self) {
        let guard = CREATING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut command = Command::new("ip");
        command.args(["netns", "add", &self.0]);
        let added = run(command, LIMIT);
        drop(guard);
        added.success();
        self.ip(&["link", "set", "lo", "up"]);
    }

    /// A command that runs in the namespace. (`ip netns exec` would hide the bpffs.)
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).args(["--", program]);
        command
    }

    /// Runs a program in the namespace to its end.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Finished {
        let mut command = self.command(program);
        command.args(args);
        run(command, LIMIT)
    }

    /// `ip` in this namespace; must succeed.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.0]).args(args);
        let finished = run(command, LIMIT);
        finished.success();
        finished.stdout
    }

    /// Writes a setting below `/proc/sys`, given as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, setting: &str, value: &str) {
        let path = PathBuf::from("/proc/sys").join(setting);
        self.inside(|| std::fs::write(&path, value)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Runs `f` in a thread of its own inside the namespace. Sockets made there stay there.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let file = File::open(self.path()).expect("the namespace exists");
            setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            f()
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A TCP connection from inside the namespace.
    pub fn connect(&self, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, limit))
    }

    /// Ids of all processes inside.
    pub fn pids(&self) -> Vec<i32> {
        let mut command = Command::new("ip");
        command.args(["netns", "pids", &self.0]);
        run(command, LIMIT).stdout.lines().filter_map(|l| l.trim().parse().ok()).collect()
    }
}
