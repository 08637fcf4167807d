//! `tektin cleanup`: takes back everything that an agent with the same directories left.

use anyhow::Context;
use tektin_loader::Datapath;

use super::{endpoints::add::ALIAS, lock, make_directories, netlink::Netlink, node};
use crate::{config::AgentConfig, proxy_process};

/// Ends the proxy and removes devices, rules, routes, the nftables table, pins, sockets and state,
/// in the calling thread's network namespace. Refuses while an agent runs. Says what it removed.
pub async fn cleanup(config: &AgentConfig) -> anyhow::Result<Vec<String>> {
    make_directories(config)?;
    let locks = lock::take(config)?;
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
    node::remove(&netlink).await?;
    removed.push(format!("rules, routes, nftables table, device {}", node::HOST_DEVICE));
    Datapath::remove_all(&config.pin_dir).context("remove the pins")?;
    removed.push(format!("pins in {}", config.pin_dir.display()));
    drop(locks);
    for directory in [&config.state_dir, &config.run_dir] {
        std::fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
        removed.push(directory.display().to_string());
    }
    Ok(removed)
}
