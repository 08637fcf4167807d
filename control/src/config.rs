//! The agent's settings: flag over environment over file over default.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;
use tektin_proxy::Setting;

/// Where clients look for the agent's socket when nothing else is said.
pub const DEFAULT_RUN_DIR: &str = "/run/tektin";
/// Name of the API socket inside the run directory.
pub const AGENT_SOCKET: &str = "agent.sock";
/// Name of the link's socket (agent and proxy) inside the run directory.
pub const PROXY_SOCKET: &str = "proxy.sock";

const DEFAULT_STATE_DIR: &str = "/var/lib/tektin";
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/tektin";
const DEFAULT_POLICY_DIR: &str = "/etc/tektin/policies";
const DEFAULT_POOL4: &str = "10.244.0.0/24";
const DEFAULT_POOL6: &str = "fd00:10:244::/112";
const DEFAULT_PROXY_DRAIN_SECONDS: u32 = 60;

/// Flags of `tektin agent` (and of `tektin cleanup`, which must find the same places). Each is also
/// an environment variable and, under its long name, a key of the configuration file.
#[derive(Args, Clone, Debug, Default)]
pub struct AgentArgs {
    /// Configuration file (TOML); its keys are the long names of these flags
    #[arg(long, env = "TEKTIN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Endpoints, identities and policies of the API are kept here [default: /var/lib/tektin]
    #[arg(long, env = "TEKTIN_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Sockets and the lock file [default: /run/tektin]
    #[arg(long, env = "TEKTIN_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Pinned maps and links, on a bpf file system [default: /sys/fs/bpf/tektin]
    #[arg(long, env = "TEKTIN_PIN_DIR", value_name = "DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Policy files in this directory are in force as long as they are there [default: /etc/tektin/policies]
    #[arg(long, env = "TEKTIN_POLICY_DIR", value_name = "DIR")]
    pub policy_dir: Option<PathBuf>,
    /// IPv4 addresses of this node's workloads; the first is the node's own [default: 10.244.0.0/24]
    #[arg(long, env = "TEKTIN_POOL4", value_name = "CIDR")]
    pub pool4: Option<Ipv4Net>,
    /// IPv6 addresses of this node's workloads; the first is the node's own [default: fd00:10:244::/112]
    #[arg(long, env = "TEKTIN_POOL6", value_name = "CIDR")]
    pub pool6: Option<Ipv6Net>,
    /// Whether this host may always enter its workloads, or only where a policy allows it [default: always]
    #[arg(long, env = "TEKTIN_ALLOW_LOCALHOST", value_name = "WHEN")]
    pub allow_localhost: Option<AllowLocalhost>,
    /// Way of packets between two workloads of this node [default: auto]
    #[arg(long, env = "TEKTIN_LOCAL_DELIVERY", value_name = "WAY")]
    pub local_delivery: Option<LocalDelivery>,
    /// Devices whose arriving packets are judged; repeatable [default: all but lo and workloads' veths]
    #[arg(long = "device", env = "TEKTIN_DEVICE", value_name = "NAME", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// Root of the cgroup v2 tree whose processes are host processes [default: where it is mounted]
    #[arg(long, env = "TEKTIN_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Leave starting and restarting the proxy to a service manager
    #[arg(
        long,
        env = "TEKTIN_NO_PROXY_SUPERVISION",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub no_proxy_supervision: Option<bool>,
    /// How long a proxy that a new one has replaced may go on with its open connections [default: 60]
    #[arg(long, env = "TEKTIN_PROXY_DRAIN_SECONDS", value_name = "SECONDS")]
    pub proxy_drain_seconds: Option<u32>,
    /// A limit of the proxies that are started from now on, as in `tektin proxy --help`; repeatable
    #[arg(
        long = "proxy-limit",
        env = "TEKTIN_PROXY_LIMIT",
        value_name = "NAME=VALUE",
        value_delimiter = ','
    )]
    pub proxy_limits: Vec<Setting>,
    /// Form of the log on standard error [default: text]
    #[arg(long, env = "TEKTIN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// May the host enter its own workloads without a policy that says so?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowLocalhost {
    /// Yes, as Kubernetes' probes need it; deny rules and L7 rules still hold.
    #[default]
    Always,
    /// Only where a policy allows it.
    Policy,
}

/// The way of a packet from one workload of this node to another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocalDelivery {
    /// Direct, as long as nobody else's netfilter rules see what this node forwards.
    #[default]
    Auto,
    /// Straight into the other's namespace once policy allows it: past the node's routing, netfilter
    /// and queues, which see nothing of it. Kernels before 5.10 cannot.
    Direct,
    /// Forwarded by the node, like any other packet.
    Stack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Settings with nothing left open.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    pub pin_dir: PathBuf,
    pub policy_dir: PathBuf,
    pub pool4: Ipv4Net,
    pub pool6: Ipv6Net,
    pub allow_localhost: AllowLocalhost,
    pub local_delivery: LocalDelivery,
    /// Empty: every device but lo, the node's own and workloads' veths.
    pub devices: Vec<String>,
    /// `None`: where cgroup v2 is mounted.
    pub cgroup_root: Option<PathBuf>,
    pub supervise_proxy: bool,
    pub proxy_drain: Duration,
    pub proxy_limits: Vec<Setting>,
    pub log_format: LogFormat,
}

/// The configuration file. Every key that is not here is refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    pin_dir: Option<PathBuf>,
    policy_dir: Option<PathBuf>,
    pool4: Option<Ipv4Net>,
    pool6: Option<Ipv6Net>,
    allow_localhost: Option<AllowLocalhost>,
    local_delivery: Option<LocalDelivery>,
    device: Option<Vec<String>>,
    cgroup_root: Option<PathBuf>,
    no_proxy_supervision: Option<bool>,
    proxy_drain_seconds: Option<u32>,
    proxy_limit: Option<Vec<String>>,
    log_format: Option<LogFormat>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read configuration file {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("configuration file {path}: {reason}")]
    Parse { path: String, reason: String },
    #[error("{flag} {value}: {reason}")]
    Value { flag: &'static str, value: String, reason: &'static str },
    #[error("proxy-limit {text}: {source}")]
    Limit { text: String, source: tektin_proxy::options::SettingError },
}

impl AgentArgs {
    /// Reads the configuration file, if one is named, and fills in what neither says.
    pub fn resolve(self) -> Result<AgentConfig, ConfigError> {
        let file = match &self.config {
            Some(path) => File::read(path)?,
            None => File::default(),
        };
        let path = |flag: Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            flag.or(file).unwrap_or_else(|| PathBuf::from(default))
        };
        let pool4 = self.pool4.or(file.pool4).unwrap_or_else(|| parsed(DEFAULT_POOL4)).trunc();
        let pool6 = self.pool6.or(file.pool6).unwrap_or_else(|| parsed(DEFAULT_POOL6)).trunc();
        refuse_unusable_pool("--pool4", &pool4, pool4.prefix_len(), 30, unusable4(pool4.addr()))?;
        refuse_unusable_pool("--pool6", &pool6, pool6.prefix_len(), 126, unusable6(pool6.addr()))?;
        let devices = if self.devices.is_empty() { file.device.unwrap_or_default() } else { self.devices };
        let proxy_limits = if self.proxy_limits.is_empty() {
            let limits = file.proxy_limit.unwrap_or_default();
            limits.into_iter().map(limit).collect::<Result<_, _>>()?
        } else {
            self.proxy_limits
        };
        Ok(AgentConfig {
            state_dir: path(self.state_dir, file.state_dir, DEFAULT_STATE_DIR),
            run_dir: path(self.run_dir, file.run_dir, DEFAULT_RUN_DIR),
            pin_dir: path(self.pin_dir, file.pin_dir, DEFAULT_PIN_DIR),
            policy_dir: path(self.policy_dir, file.policy_dir, DEFAULT_POLICY_DIR),
            pool4,
            pool6,
            allow_localhost: self.allow_localhost.or(file.allow_localhost).unwrap_or_default(),
            local_delivery: self.local_delivery.or(file.local_delivery).unwrap_or_default(),
            devices,
            cgroup_root: self.cgroup_root.or(file.cgroup_root),
            supervise_proxy: !self.no_proxy_supervision.or(file.no_proxy_supervision).unwrap_or(false),
            proxy_drain: Duration::from_secs(
                self.proxy_drain_seconds
                    .or(file.proxy_drain_seconds)
                    .unwrap_or(DEFAULT_PROXY_DRAIN_SECONDS)
                    .into(),
            ),
            proxy_limits,
            log_format: self.log_format.or(file.log_format).unwrap_or_default(),
        })
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: shown,
            reason: error.to_string().trim_end().to_owned(),
        })
    }
}

impl AgentConfig {
    /// The API's socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run_dir.join(AGENT_SOCKET)
    }

    /// The link's socket.
    pub fn proxy_socket(&self) -> PathBuf {
        self.run_dir.join(PROXY_SOCKET)
    }
}

fn limit(text: String) -> Result<Setting, ConfigError> {
    text.parse().map_err(|source| ConfigError::Limit { text, source })
}

fn parsed<T: std::str::FromStr>(default: &str) -> T
where
    T::Err: fmt::Debug,
{
    default.parse().expect("a default that parses")
}

fn refuse_unusable_pool(
    flag: &'static str,
    pool: &impl fmt::Display,
    length: u8,
    longest: u8,
    unusable: Option<&'static str>,
) -> Result<(), ConfigError> {
    let reason = match unusable {
        Some(reason) => reason,
        None if length > longest => "the pool is too small: the node and a workload need an address each",
        None if length == 0 => "the pool is the whole address space",
        None => return Ok(()),
    };
    Err(ConfigError::Value { flag, value: pool.to_string(), reason })
}

fn unusable4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some("loopback addresses cannot be routed")
    } else if address.is_multicast() {
        Some("multicast addresses name no workload")
    } else if address.is_link_local() {
        Some("link-local addresses are not routed")
    } else {
        None
    }
}

fn unusable6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_multicast() {
        Some("multicast addresses name no workload")
    } else if address.is_unicast_link_local() {
        Some("link-local addresses are not routed")
    } else if address.to_ipv4_mapped().is_some() {
        Some("IPv4-mapped addresses never stand in a packet")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        agent: AgentArgs,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn parse(arguments: &[&str]) -> AgentArgs {
        Cli::try_parse_from(std::iter::once("agent").chain(arguments.iter().copied())).unwrap().agent
    }

    #[test]
    fn defaults_hold_when_nothing_is_said() {
        let config = parse(&[]).resolve().unwrap();
        assert_eq!(config.state_dir, Path::new("/var/lib/tektin"));
        assert_eq!(config.pool4.to_string(), "10.244.0.0/24");
        assert_eq!(config.pool6.to_string(), "fd00:10:244::/112");
        assert_eq!(config.allow_localhost, AllowLocalhost::Always);
        assert_eq!(config.local_delivery, LocalDelivery::Auto);
        assert!(config.supervise_proxy);
        assert!(config.devices.is_empty());
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = file(
            "pool4 = \"10.9.0.0/16\"\nrun-dir = \"/from/file\"\nallow-localhost = \"policy\"\nlocal-delivery = \"stack\"\ndevice = [\"a\", \"b\"]\nno-proxy-supervision = true\n",
        );
        let path = file.path().to_str().unwrap();
        let config = parse(&["--config", path, "--run-dir", "/from/flag"]).resolve().unwrap();
        assert_eq!(config.run_dir, Path::new("/from/flag"));
        assert_eq!(config.pool4.to_string(), "10.9.0.0/16");
        assert_eq!(config.allow_localhost, AllowLocalhost::Policy);
        assert_eq!(config.local_delivery, LocalDelivery::Stack);
        assert_eq!(config.devices, ["a", "b"]);
        assert!(!config.supervise_proxy);
        let config =
            parse(&["--config", path, "--device", "c", "--no-proxy-supervision=false"]).resolve().unwrap();
        assert_eq!(config.devices, ["c"]);
        assert!(config.supervise_proxy);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let file = file("poool4 = \"10.9.0.0/16\"\n");
        let error = parse(&["--config", file.path().to_str().unwrap()]).resolve().unwrap_err();
        assert!(error.to_string().contains("poool4"), "{error}");
    }

    #[test]
    fn pools_that_cannot_work_are_refused() {
        for arguments in [
            ["--pool4", "10.0.0.0/31"],
            ["--pool4", "127.0.0.0/16"],
            ["--pool4", "0.0.0.0/0"],
            ["--pool6", "fe80::/64"],
            ["--pool6", "fd00::/127"],
            ["--pool6", "::ffff:10.0.0.0/112"],
        ] {
            assert!(parse(&arguments).resolve().is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn limits_of_the_proxy_come_from_the_flag_or_the_file() {
        let good = file("proxy-limit = [\"head-time=5s\", \"streams=9\"]\n");
        let path = good.path().to_str().unwrap();
        let shown = |config: AgentConfig| {
            config.proxy_limits.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(parse(&["--config", path]).resolve().unwrap()), "head-time=5s streams=9");
        let flags = ["--config", path, "--proxy-limit", "idle-time=1m,buffered=2m"];
        assert_eq!(shown(parse(&flags).resolve().unwrap()), "idle-time=1m buffered=2m");
        let bad = file("proxy-limit = [\"head-time=5\"]\n");
        let error = parse(&["--config", bad.path().to_str().unwrap()]).resolve().unwrap_err();
        assert!(error.to_string().contains("head-time takes a time"), "{error}");
    }

    #[test]
    fn host_bits_of_a_pool_are_masked() {
        let config = parse(&["--pool4", "10.1.2.3/24"]).resolve().unwrap();
        assert_eq!(config.pool4.to_string(), "10.1.2.0/24");
    }
}
