//! Whether somebody else's packet filter sees what the node forwards.

use std::{fs, io, process::Stdio};

use serde::Deserialize;
use tokio::process::Command;

/// Hooks that a forwarded packet passes.
const ON_THE_WAY: [&str; 5] = ["ingress", "prerouting", "forward", "postrouting", "egress"];
/// The agent's own table.
const OWN: (&str, &str) = ("inet", "tektin");

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
}

/// A chain or table that forwarded packets pass, in words; also where it cannot be known.
pub(super) async fn somebody_looks_on() -> Option<String> {
    for file in ["ip_tables_names", "ip6_tables_names"] {
        let tables = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        if let Some(table) = tables.lines().next() {
            return Some(format!("iptables table {table} is in use"));
        }
    }
    let mut command = Command::new("nft");
    command.args(["-j", "list", "chains"]).stdin(Stdio::null()).kill_on_drop(true);
    match command.output().await {
        Ok(output) if output.status.success() => foreign_chain(&output.stdout),
        // No nftables in this kernel.
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("not supported") => None,
        Ok(output) => {
            Some(format!("nft does not list its chains: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("nft is not installed, so nobody knows what filters packets here".to_owned())
        }
        Err(error) => Some(format!("nft does not run: {error}")),
    }
}

fn foreign_chain(json: &[u8]) -> Option<String> {
    let listing: Listing = match serde_json::from_slice(json) {
        Ok(listing) => listing,
        Err(error) => return Some(format!("nft's list of chains cannot be read: {error}")),
    };
    let mut chains = listing.nftables.into_iter().filter_map(|item| item.chain);
    let chain = chains.find(|chain| {
        let hooked = chain.hook.as_deref().is_some_and(|hook| ON_THE_WAY.contains(&hook));
        hooked && (chain.family.as_str(), chain.table.as_str()) != OWN
    })?;
    Some(format!("nftables chain {} {} {}", chain.family, chain.table, chain.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: &str, table: &str, hook: &str) -> String {
        format!(
            r#"{{"chain": {{"family": "{family}", "table": "{table}", "name": "c", "handle": 1, "type": "filter", "hook": "{hook}", "prio": 0, "policy": "accept"}}}}"#
        )
    }

    fn listing(items: &[String]) -> Vec<u8> {
        let meta = r#"{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}"#.to_owned();
        format!(r#"{{"nftables": [{}]}}"#, [&[meta][..], items].concat().join(", ")).into_bytes()
    }

    #[test]
    fn only_others_chains_on_the_way_count() {
        let own = [chain("inet", "tektin", "prerouting"), chain("inet", "tektin", "output")];
        assert_eq!(foreign_chain(&listing(&own)), None);
        assert_eq!(foreign_chain(&listing(&[chain("ip", "filter", "input")])), None);
        let plain = r#"{"chain": {"family": "ip", "table": "filter", "name": "c", "handle": 1}}"#.to_owned();
        assert_eq!(foreign_chain(&listing(&[plain])), None, "a chain that only others jump to");
        for (family, hook) in
            [("ip", "forward"), ("inet", "prerouting"), ("ip6", "postrouting"), ("netdev", "ingress")]
        {
            let found = foreign_chain(&listing(&[own.as_slice(), &[chain(family, "filter", hook)]].concat()));
            assert_eq!(found, Some(format!("nftables chain {family} filter c")));
        }
        assert!(foreign_chain(&listing(&[chain("ip", "tektin", "forward")])).is_some(), "not ours");
        assert!(foreign_chain(b"{").is_some(), "what cannot be read is no permission");
    }
}
