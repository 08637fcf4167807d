//! `tektin agent`: reads what an earlier run left, puts it in force, and from then on follows
//! requests, files and devices. Every change goes through one lock, one after the other.

use std::{
    collections::HashSet,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use jiff::Timestamp;
use policy_engine::{
    engine::Engine,
    policy_set::{self, DocumentChange},
};
use tektin_abi::maps::metric;
use tektin_loader::{Datapath, EventReader, LoadOptions, Maps};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};

use crate::{
    config::{AgentArgs, AgentConfig, AllowLocalhost},
    flows::{self, FlowStore, Journal, journal::Entry, kernel::WallClock, meanings::Now, unread::Unread},
    proxy_link::{ProxyLink, REDIAL_TIMEOUT, Times},
    proxy_process::{self, ProxyCommand, Supervisor},
    rules::{self, RuleTable},
};

mod claims;
mod cleanup;
pub mod datapath;
mod devices;
pub mod endpoints;
mod error;
mod handover;
pub mod identities;
mod ipam;
mod ipcache;
pub mod journal;
mod leftovers;
mod lock;
mod names;
mod netlink;
mod netns;
mod node;
mod policies;
mod policy_changes;
mod policy_source;
mod server;
mod state;
pub mod state_file;
mod veth;

pub use cleanup::cleanup;

use self::{
    claims::Claims,
    datapath::Enforcement,
    endpoints::Endpoints,
    error::AgentError,
    handover::Handover,
    identities::Identities,
    ipam::Ipam,
    ipcache::Ipcache,
    names::Names,
    netlink::Netlink,
    netns::NetnsId,
    node::NodeAddresses,
    policies::Policies,
    state::{Change, State},
};

/// How often the proxy's number of threads is looked at.
const LISTENERS: Duration = Duration::from_millis(100);

/// The running agent.
pub struct Agent {
    config: AgentConfig,
    started: Timestamp,
    flows: FlowStore,
    names: Arc<Names>,
    link: ProxyLink,
    maps: Arc<Maps>,
    supervisor: Mutex<Option<Supervisor>>,
    /// Who speaks from there does not speak for the node.
    workload_namespaces: RwLock<HashSet<NetnsId>>,
    state: Mutex<State>,
}

/// Runs until SIGTERM or SIGINT. Kernel programs and proxy go on after that.
pub async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    // Somebody who opens a policy file for writing while we hold its lease causes a SIGIO, whose
    // default is to end the process.
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGIO, nix::sys::signal::SigHandler::SigIgn)
    }
    .context("ignore SIGIO")?;
    make_directories(&config)?;
    let _locks = lock::take(&config)?;
    let agent = start(config).await?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let devices = tokio::spawn(devices::watch(agent.clone()));
    tokio::spawn(policy_source::watch(agent.clone()));
    tokio::spawn(handover::watch(agent.clone()));
    tokio::spawn(follow_listeners(agent.clone()));
    let socket = agent.config.agent_socket();
    let listener = server::bind(&socket).with_context(|| format!("serve the API at {}", socket.display()))?;
    let served = tokio::spawn(server::serve(listener, agent.clone()));
    tracing::info!(socket = %socket.display(), "ready");
    tektin_proxy::start_up::forget();

    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        result = devices => match result? {
            Ok(()) => Err(anyhow::anyhow!("the device watch ended")),
            Err(error) => Err(error.into()),
        },
        result = served => result?.context("the API server ended"),
    };
    // Nothing half done: the change that is under way ends first.
    let _last_change = agent.state.lock().await;
    if let Some(supervisor) = agent.supervisor.lock().await.take() {
        supervisor.leave().await;
    }
    let _ = std::fs::remove_file(socket);
    tracing::info!("stopped; kernel programs and proxy go on with the policy in force");
    ended
}

async fn start(config: AgentConfig) -> anyhow::Result<Arc<Agent>> {
    let netlink = Netlink::connect()?;
    let (endpoints, cursor) = Endpoints::load(config.state_dir.join("endpoints.json"))?;
    let identities = Identities::load(config.state_dir.join(identities::FILE))?;
    let rules = RuleTable::load(config.state_dir.join(rules::FILE))?;
    let policies = Policies::load(&config.state_dir, &config.policy_dir).map_err(AgentError::in_full)?;
    let ipam = Ipam::new(config.pool4, config.pool6, cursor);
    let node = NodeAddresses { v4: ipam.node4(), v6: ipam.node6() };
    let mut set_up = node::set_up(&netlink, node).await?;

    let mut datapath = Datapath::open_or_load(&config.pin_dir, &LoadOptions::default())
        .context("load the kernel programs")?;
    if datapath.proxies_have_others() {
        for process in proxy_process::find_all(&config.run_dir) {
            tracing::error!(pid = process.pid(), "the pins of the running proxy's maps are gone: killed");
            process.kill();
        }
    }
    let own = std::fs::File::open("/proc/thread-self/ns/net").context("open the own network namespace")?;
    let host = match config.cgroup_root.clone().or_else(cgroup_root) {
        Some(root) => datapath.attach_host(own.as_fd(), &root).map_err(|error| error.to_string()),
        None => Err("no cgroup v2 tree is mounted".to_owned()),
    };
    if let Err(error) = host {
        set_up.warnings.push(format!("host processes cannot reach what needs L7: {error}"));
    }
    let maps = Arc::new(Maps::open(&config.pin_dir).context("open the kernel's maps")?);

    let system = nix::sys::utsname::uname().context("host name")?;
    let names = Arc::new(Names::new(&system.nodename().to_string_lossy()));
    let flows = FlowStore::default();
    let (journal, before) = Journal::open(&config.run_dir);
    flows.restore_lost(journal.lost_before());
    let times = Times::with_drain(config.proxy_drain);
    let link = ProxyLink::serve(&config.proxy_socket(), flows.clone(), journal.clone(), names.clone(), times)
        .await?;
    for change in &set_up.changed_sysctls {
        tracing::info!(%change, "kernel setting changed");
    }
    for warning in &set_up.warnings {
        tracing::warn!("{warning}");
    }

    let supported = datapath.features().redirect_peer;
    let handover = Handover::take_over(maps.clone(), config.local_delivery, supported).await?;
    if let Some(reason) = handover.kept_from() {
        tracing::info!(reason, "packets between workloads go through the node's stack");
    }
    let mut state = State {
        handover,
        enforcement: Enforcement::take_over(maps.clone(), link.clone(), names.clone())?,
        ipcache: Ipcache::take_over(maps.clone())?,
        netlink,
        node,
        set_up,
        datapath,
        maps: maps.clone(),
        identities,
        endpoints,
        ipam,
        policies,
        rules,
        names: names.clone(),
        engine: Engine::new(options(&config)),
        members: Default::default(),
        host: Default::default(),
        claims: Claims::with_the_world(),
        identity_of: Default::default(),
        users: Default::default(),
        outside: Default::default(),
        first_change: true,
    };
    state.reserve_numbers()?;
    state.put_in_force(&config, &link).await?;
    state.end_reservation();
    restore(before, &flows, &names);
    link.take_records();
    let agent = Arc::new(Agent {
        started: Timestamp::now(),
        supervisor: Mutex::new(config.supervise_proxy.then(|| {
            let limits = config.proxy_limits.clone();
            let command = ProxyCommand::own_binary(config.pin_dir.clone(), config.run_dir.clone(), limits);
            Supervisor::start(command, link.clone())
        })),
        flows: flows.clone(),
        names: names.clone(),
        link,
        maps,
        workload_namespaces: RwLock::new(state.workload_namespaces()),
        state: Mutex::new(state),
        config,
    });
    let events = EventReader::open(&agent.config.pin_dir).context("open the event buffer")?;
    flows::kernel::spawn_reader(events, flows.clone(), journal.clone(), names);
    let maps = agent.maps.clone();
    let lost = move || maps.metrics.read().ok()?.get(metric::EVENT_LOST as usize).copied();
    flows::kernel::spawn_loss_count(lost, flows, journal);
    Ok(agent)
}

/// Waits until each proxy that runs already has dialled, so that it takes the policy before the kernel does.
/// One that does not would go on judging by a policy of before: it is ended.
async fn all_linked(config: &AgentConfig, link: &ProxyLink) {
    let end = tokio::time::Instant::now() + REDIAL_TIMEOUT;
    for mut process in proxy_process::find_all(&config.run_dir) {
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        let pid = process.pid();
        let harmless = tokio::select! {
            known = link.knows(pid, left) => known,
            _ = process.wait() => true,
        };
        if !harmless {
            tracing::error!(pid, "the running proxy does not dial the link: killed");
            process.kill();
        }
    }
}

/// The flow records of the agents before this one.
fn restore(entries: Vec<Entry>, flows: &FlowStore, names: &Names) {
    let (clock, mut now) = (WallClock::now(), Now::new(names));
    for entry in entries {
        match entry {
            Entry::Requests(records) => {
                flows.restore(records.into_iter().map(|record| Unread::request(record, &mut now)));
            }
            Entry::Packets(events) => {
                flows.restore(events.into_iter().map(|event| Unread::packet(event, clock, &mut now)));
            }
        }
    }
}

impl State {
    fn workload_namespaces(&self) -> HashSet<NetnsId> {
        let working = self.endpoints.iter().filter(|endpoint| endpoint.failure.is_none());
        working.map(|endpoint| endpoint.netns_id).collect()
    }

    /// From what was remembered to what is in force. An earlier run's policy holds until then.
    async fn put_in_force(&mut self, config: &AgentConfig, link: &ProxyLink) -> anyhow::Result<()> {
        self.restore_endpoints().await?;
        self.look_at_devices(&config.devices).await?;
        let changed = policy_source::read_at_start(&config.policy_dir, &mut self.policies)
            .map_err(AgentError::in_full)?;
        all_linked(config, link).await;
        let documents = self.policies.iter().map(|(_, given)| given.document.clone());
        let documents = documents.filter_map(|document| DocumentChange::new(None, Some(document)));
        let mut first = Change::of_documents(documents.collect());
        first.host = Some(self.host_addresses().await?);
        for endpoint in self.endpoints.iter().filter(|endpoint| !endpoint.leaving) {
            first.endpoints.insert(endpoint.id, Some(endpoint.member()?));
        }
        self.announce_all();
        let since = std::time::Instant::now();
        let revision = self.change(first).await.context("put the policies in force")?;
        let took_ms = since.elapsed().as_millis();
        changed.iter().for_each(|path| self.policies.copy_file(path));
        self.readmit_endpoints().await?;
        self.finish_deletions().await;
        let (documents, endpoints) = (self.engine.policies().len(), self.endpoints.len());
        tracing::info!(revision, documents, endpoints, took_ms, "policy in force");
        Ok(())
    }
}

impl Agent {
    /// After endpoints have come or gone.
    async fn after_endpoints(&self, state: &mut State) {
        let namespaces = state.workload_namespaces();
        *self.workload_namespaces.write().unwrap_or_else(PoisonError::into_inner) = namespaces;
        if let Err(error) = state.look_at_devices(&self.config.devices).await {
            tracing::error!(%error, "devices");
        }
    }
}

/// The kernel spreads connections over as many listeners as the proxy has threads.
async fn follow_listeners(agent: Arc<Agent>) {
    let mut written = None;
    loop {
        let health = agent.link.health();
        if health.connected && written != Some(health.threads) {
            match agent.maps.config.set_listeners(health.threads) {
                Ok(()) => written = Some(health.threads),
                Err(error) => tracing::error!(%error, "cannot tell the kernel about the proxy's listeners"),
            }
        }
        tokio::time::sleep(LISTENERS).await;
    }
}

/// Where cgroup v2 is mounted: `/sys/fs/cgroup`, or below it beside version 1.
fn cgroup_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut line| {
        let (_, path, kind) = (line.next()?, line.next()?, line.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn options(config: &AgentConfig) -> policy_set::Options {
    policy_set::Options {
        allow_localhost: match config.allow_localhost {
            AllowLocalhost::Always => policy_set::AllowLocalhost::Always,
            AllowLocalhost::Policy => policy_set::AllowLocalhost::Policy,
        },
    }
}

fn make_directories(config: &AgentConfig) -> anyhow::Result<()> {
    let make = |path: &Path, mode: u32| {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("make directory {}", path.display()))
    };
    make(&config.state_dir, 0o700)?;
    make(&config.run_dir, 0o755)?;
    make(&config.policy_dir, 0o755)
}
