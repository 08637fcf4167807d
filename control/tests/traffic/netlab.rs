//! A laboratory of network namespaces: a node with an agent of its own, workloads behind it and an
//! outside host, joined by real devices. Nothing is shared between two labs but the kernel, so tests
//! run in parallel; nothing outlives a lab, which it checks itself when it is dropped.

mod agent;
pub mod clients;
pub mod leaks;
pub mod load;
pub mod namespace;
pub mod process;
pub mod servers;
mod teardown;
pub mod workload;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Mutex, Once,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use agent::AgentProcess;
use leaks::RootState;
pub use namespace::Namespace;
use process::{Finished, run};

/// Addresses of the outside host's link to the node. They belong to nobody else anywhere (RFC 2544,
/// RFC 3849), so a lab works whatever the machine's own network is.
pub const WORLD_V4: &str = "198.18.0.2";
pub const WORLD_V6: &str = "2001:db8:18::2";
/// The node's own address on that link.
pub const NODE_V4: &str = "198.18.0.1";
pub const NODE_V6: &str = "2001:db8:18::1";
const POOL4: &str = "10.244.0.0/24";
const POOL6: &str = "fd00:10:244::/112";

/// How long anything may take that must happen. Generous: machines that run tests are busy.
pub const LIMIT: Duration = Duration::from_secs(60);

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    tag: String,
    dir: tempfile::TempDir,
    pub node: Namespace,
    pub world: Namespace,
    namespaces: Mutex<Vec<Namespace>>,
    agent: Mutex<Option<AgentProcess>>,
    agent_args: Vec<String>,
    agent_program: Mutex<PathBuf>,
    root_before: RootState,
}

impl Lab {
    /// A node with a running agent, and an outside host that the node routes to.
    pub fn new() -> Self {
        Self::prepared(&[], |_| ())
    }

    /// As [`Lab::new`]; the agent gets these further arguments, and `prepare` changes the node before
    /// it starts.
    pub fn prepared(agent_args: &[&str], prepare: impl FnOnce(&Lab)) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the traffic tests make network namespaces and load eBPF programs: run them as root"
        );
        mount_bpffs();
        let tag = format!("tt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root_before = RootState::now();
        let lab = Self {
            dir: tempfile::Builder::new()
                .prefix(&format!("{tag}-"))
                .tempdir()
                .expect("a temporary directory"),
            node: Namespace::named(format!("{tag}-node")),
            world: Namespace::named(format!("{tag}-world")),
            namespaces: Mutex::default(),
            agent: Mutex::default(),
            agent_program: Mutex::new(process::tektin_path().to_owned()),
            agent_args: agent_args.iter().map(ToString::to_string).collect(),
            root_before,
            tag,
        };
        for dir in ["policies", "run", "state"] {
            std::fs::create_dir(lab.dir.path().join(dir)).expect("a directory of the lab");
        }
        lab.adopt(&lab.node);
        lab.adopt(&lab.world);
        lab.join_world();
        prepare(&lab);
        lab.start_agent();
        lab
    }

    /// The prefix of every name this lab gives.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn policy_dir(&self) -> PathBuf {
        self.dir.path().join("policies")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    pub fn pin_dir(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/bpf/tektin-test-{}", self.tag))
    }

    /// A new namespace that goes away with the lab, with nothing in it but `lo`.
    pub fn namespace(&self, name: &str) -> Namespace {
        let namespace = Namespace::named(format!("{}-{name}", self.tag));
        self.adopt(&namespace);
        namespace
    }

    fn adopt(&self, namespace: &Namespace) {
        // Written down first: a creation that fails half-way is cleaned up too.
        self.namespaces.lock().expect("no poisoning").push(namespace.clone());
        namespace.create();
    }

    fn join_world(&self) {
        let (node, world) = (&self.node, &self.world);
        for conf in ["all", "default"] {
            // Who comes from an address of no device looks for its neighbours from the link-local one, which is of no
            // use for up to two seconds where another claim to it is waited for.
            world.sysctl(&format!("net/ipv6/conf/{conf}/accept_dad"), "0");
        }
        node.ip(&["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", world.name()]);
        for (side, dev, v4, v6, peer4, peer6) in [
            (node, "uplink", NODE_V4, NODE_V6, WORLD_V4, WORLD_V6),
            (world, "eth0", WORLD_V4, WORLD_V6, NODE_V4, NODE_V6),
        ] {
            side.ip(&["address", "add", &format!("{v4}/24"), "dev", dev]);
            side.ip(&["address", "add", &format!("{v6}/64"), "dev", dev, "nodad"]);
            side.ip(&["link", "set", dev, "up"]);
            side.ip(&["route", "add", "default", "via", peer4]);
            side.ip(&["-6", "route", "add", "default", "via", peer6]);
        }
    }

    /// Gives the outside host one more address; the node's default route leads there.
    pub fn world_address(&self, address: IpAddr) {
        self.world.ip(&["address", "add", &address.to_string(), "dev", "lo"]);
    }

    /// Runs `tektin` against this lab's agent.
    pub fn tektin(&self, args: &[&str]) -> Finished {
        let mut command = process::tektin();
        command.args(args).env("TEKTIN_SOCKET", self.socket()).current_dir(self.dir.path());
        run(command, LIMIT)
    }

    /// [`Lab::tektin`] with `--output json`, parsed; fails the test when the command fails.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let finished = self.tektin(&[args, &["--output", "json"]].concat());
        finished.success();
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|e| panic!("tektin {args:?}: not JSON ({e}):\n{}", finished.stdout))
    }

    /// Writes `text` into a file and applies it; whatever comes of it.
    pub fn try_apply(&self, text: &str) -> Finished {
        static FILE: AtomicU32 = AtomicU32::new(0);
        let file = self.dir.path().join(format!("apply-{}.yaml", FILE.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, text).expect("a policy file");
        self.tektin(&["policy", "apply", &file.to_string_lossy()])
    }

    /// Applies policies, which are in force when this returns.
    pub fn apply(&self, text: &str) {
        self.try_apply(text).success();
    }
}

/// The arguments of an agent whose own host is judged like everybody else, instead of always let in.
pub const HOST_IS_JUDGED: &[&str] = &["--allow-localhost", "policy"];

/// Polls until `f` gives a value; a test fails when that takes longer than [`LIMIT`].
pub fn eventually<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < end, "did not happen within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The usual place of a bpffs, which bare machines and containers do not always mount.
fn mount_bpffs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let dir = Path::new("/sys/fs/bpf");
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc/self/mounts");
        if !mounts.lines().any(|l| l.split(' ').nth(1) == dir.to_str()) {
            let mut command = std::process::Command::new("mount");
            command.args(["-t", "bpf", "bpf"]).arg(dir);
            run(command, LIMIT).success();
        }
        teardown::sweep_abandoned();
    });
}
