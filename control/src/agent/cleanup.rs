//! `tektin cleanup`: takes back everything that an agent with the same directories left.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tektin_loader::Datapath;

use super::{endpoints::add::ALIAS, identities, lock, netlink::Netlink, node, policies, policy_source};
use crate::{
    config::{AGENT_SOCKET, AgentConfig, PROXY_SOCKET},
    flows::journal,
    proxy_process, rules,
};

/// What an agent and its proxy write into the run directory.
const RUN_FILES: [&str; 8] = [
    AGENT_SOCKET,
    PROXY_SOCKET,
    lock::LOCK_FILE,
    "proxy.pid",
    "proxy.pid.new",
    "proxy.log",
    journal::FILES[0],
    journal::FILES[1],
];
/// What an agent writes into the state directory.
const STATE_FILES: [&str; 3] = ["endpoints.json", identities::FILE, rules::FILE];

/// Ends the proxy and removes devices, rules, routes, the nftables table, pins, sockets and state,
/// in the calling thread's network namespace. Refuses while an agent runs. Says what it removed.
pub async fn cleanup(config: &AgentConfig) -> anyhow::Result<Vec<String>> {
    // The lock file lives there; the other directories need not exist.
    fs::create_dir_all(&config.run_dir)
        .with_context(|| format!("make directory {}", config.run_dir.display()))?;
    let locks = lock::take(config).context("stop the agent first")?;
    let mut removed = Vec::new();
    if let Some(pid) = proxy_process::stop_running(&config.run_dir).await? {
        removed.push(format!("proxy (process {pid})"));
    }
    let netlink = Netlink::connect()?;
    for link in netlink.links().await? {
        if link.alias.starts_with(ALIAS) && link.kind == "veth" {
            netlink.delete_link(link.index).await?;
            removed.push(format!("device {}", link.name));
        }
    }
    if netlink.link_by_name(node::HOST_DEVICE).await?.is_some() {
        removed.push(format!("rules, routes, nftables table, device {}", node::HOST_DEVICE));
    }
    node::remove(&netlink).await?;
    if config.pin_dir.join(tektin_abi::maps::PIN_VERSION).exists() {
        removed.push(format!("pins in {}", config.pin_dir.display()));
    }
    Datapath::remove_all(&config.pin_dir).context("remove the pins")?;
    let documents = config.state_dir.join(policies::API_DIRECTORY);
    removed.extend(remove_files(&documents, policies::is_api_file)?);
    let copies = config.state_dir.join(policies::COPIES);
    removed.extend(remove_files(&copies, |name| policy_source::is_policy_file(Path::new(name)))?);
    removed.extend(remove_files(&config.state_dir, |name| STATE_FILES.contains(&name))?);
    removed.extend(remove_files(&config.run_dir, |name| RUN_FILES.contains(&name))?);
    drop(locks);
    Ok(removed)
}

/// Removes the files of a directory that are an agent's, and the directory if that leaves it empty:
/// whoever gave us `/run` or a home directory keeps the rest. Returns what is gone.
fn remove_files(directory: &Path, is_ours: impl Fn(&str) -> bool) -> anyhow::Result<Option<String>> {
    let failed = |path: &Path| format!("remove {}", path.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| failed(directory))?,
    };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let mut kept = 0;
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A change that was cut off leaves its temporary file.
        let whole = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).unwrap_or(&name);
        if is_ours(whole) {
            fs::remove_file(&path).with_context(|| failed(&path))?;
        } else {
            kept += 1;
        }
    }
    if kept > 0 {
        return Ok(Some(format!("state in {} (other files stay)", directory.display())));
    }
    match fs::remove_dir(directory) {
        // A mount point, or somebody's working place: empty is enough.
        Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
            Err(error).with_context(|| failed(directory))
        }
        _ => Ok(Some(directory.display().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_agents_files_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("run");
        fs::create_dir(&run).unwrap();
        for name in ["agent.lock", "proxy.pid", "somebody.elses", ".agent.lock.tmp"] {
            fs::write(run.join(name), "").unwrap();
        }
        let ours = |name: &str| RUN_FILES.contains(&name);
        assert!(remove_files(&run, ours).unwrap().unwrap().contains("other files stay"));
        let left: Vec<_> = fs::read_dir(&run).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["somebody.elses"]);
        fs::remove_file(run.join("somebody.elses")).unwrap();
        remove_files(&run, ours).unwrap();
        assert!(!run.exists());
        assert_eq!(remove_files(&run, ours).unwrap(), None);
    }
}
