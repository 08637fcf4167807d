//! The kernel's maps: how full they are, and what is in them in words.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Map, Value, json};
use tektin_abi::maps::{self, Addr, FlowKey, action, prefix};
use tektin_loader::{Maps, from_addr};

use super::answer::Answer;
use crate::{
    agent::{Agent, error::AgentError, veth::mac_text},
    api,
};

pub async fn list(State(agent): State<Arc<Agent>>) -> Answer<Json<Vec<api::MapInfo>>> {
    Ok(Json(fill(&agent.maps)?))
}

pub async fn dump(State(agent): State<Arc<Agent>>, Path(name): Path<String>) -> Answer<Json<api::MapDump>> {
    let dumped = tokio::task::spawn_blocking(move || dump_map(&agent.maps, &name)).await;
    dumped.map_err(|error| AgentError::System(error.to_string()))?.map(Json)
}

pub(super) fn fill(maps: &Maps) -> Answer<Vec<api::MapInfo>> {
    let info = |fill: tektin_loader::MapFill| {
        let kind = kind(fill.name);
        let counted = !matches!(kind, "array" | "percpu_array" | "ringbuf");
        api::MapInfo {
            name: fill.name.to_owned(),
            kind: kind.to_owned(),
            entries: counted.then_some(u64::from(fill.entries)),
            max_entries: u64::from(fill.max),
        }
    };
    Ok(maps.fill()?.into_iter().map(info).collect())
}

fn kind(name: &str) -> &'static str {
    match name {
        maps::IPCACHE | maps::POLICY => "lpm_trie",
        maps::ENDPOINTS | maps::PEER_CLASS => "hash",
        maps::CT | maps::FRAGMENTS | maps::STEERED | maps::VERDICTS => "lru_hash",
        maps::POLICY_ROOT | maps::CONFIG => "array",
        maps::METRICS => "percpu_array",
        maps::LISTENERS => "sockmap",
        maps::EVENTS => "ringbuf",
        _ => "",
    }
}

type Row = Vec<(&'static str, Value)>;

fn dump_map(maps: &Maps, name: &str) -> Answer<api::MapDump> {
    let rows: Vec<Row> = match name {
        maps::IPCACHE => rows(maps.ipcache.entries()?, |key, value| {
            vec![
                ("prefix", prefix_text(&key.addr, key.prefix_len)),
                ("identity", json!(value.identity)),
                ("endpoint", json!(value.endpoint)),
                ("flags", json!(value.flags)),
            ]
        }),
        maps::ENDPOINTS => rows(maps.endpoints.entries()?, |key, value| {
            vec![
                ("ifindex", json!(key)),
                ("endpoint", json!(value.id)),
                ("identity", json!(value.identity)),
                ("ipv4", owned_address(&value.ipv4)),
                ("ipv6", owned_address(&value.ipv6)),
                ("mac", json!(mac_text(value.mac))),
            ]
        }),
        maps::POLICY_ROOT => policy_roots(maps)?,
        maps::PEER_CLASS => rows(maps.peer_class.entries()?, |key, class| {
            vec![("policy", json!(key.policy)), ("identity", json!(key.identity)), ("class", json!(class))]
        }),
        maps::POLICY => rows(maps.policy.entries()?, |key, value| {
            let bits = key.prefix_len.saturating_sub(prefix::ANY_PORT);
            let port = u16::from_be_bytes(key.port_be);
            vec![
                ("policy", json!(u32::from_be_bytes(key.policy_be))),
                ("class", json!(u32::from_be_bytes(key.class_be))),
                ("protocol", protocol_text(key.proto)),
                ("port", json!(if bits == 16 { port.to_string() } else { format!("{port}/{bits}") })),
                ("action", action_text(value.action)),
                ("rule", json!(value.rule)),
            ]
        }),
        maps::CT => rows(maps.ct.entries()?, |key, value| {
            let mut row = flow(key);
            row.extend([
                ("source identity", json!(value.src_identity)),
                ("destination identity", json!(value.dst_identity)),
                ("egress", action_text(value.egress_action)),
                ("ingress", action_text(value.ingress_action)),
                ("flags", json!(ct_flags(value.flags))),
                ("revision", json!(value.revision)),
            ]);
            row
        }),
        maps::FRAGMENTS => rows(maps.fragments.entries()?, |key, value| {
            vec![
                ("source", address(&key.src)),
                ("destination", address(&key.dst)),
                ("protocol", protocol_text(key.proto)),
                ("id", json!(key.id)),
                ("source port", json!(value.sport)),
                ("port", json!(value.dport)),
            ]
        }),
        maps::STEERED => rows(maps.steered.entries()?, |key, value| {
            let mut row = flow(key);
            row.extend([
                ("source identity", json!(value.src_identity)),
                ("destination identity", json!(value.dst_identity)),
                ("source endpoint", json!(value.src_endpoint)),
                ("destination endpoint", json!(value.dst_endpoint)),
                ("egress", action_text(value.egress_action)),
                ("ingress", action_text(value.ingress_action)),
                ("revision", json!(value.revision)),
            ]);
            row
        }),
        maps::VERDICTS => rows(maps.verdicts.entries()?, |key, value| {
            vec![
                ("source identity", json!(key.src_identity)),
                ("destination identity", json!(key.dst_identity)),
                ("protocol", protocol_text(key.proto)),
                ("port", json!(key.dport)),
                ("allowed", json!(value.allowed)),
                ("denied", json!(value.denied)),
                ("last denied (ns)", json!(value.last_denied_ns)),
                ("held until (ns)", json!(value.drop_until_ns)),
            ]
        }),
        maps::CONFIG => {
            let config = maps.config.read()?;
            vec![vec![
                ("revision", json!(config.revision)),
                ("listeners", json!(config.listeners)),
                ("netns cookie", json!(config.netns_cookie)),
            ]]
        }
        maps::METRICS => metrics(maps)?,
        maps::LISTENERS => listeners(maps)?,
        maps::EVENTS => {
            return Err(AgentError::Invalid("events are read by the agent; see tektin observe".to_owned()));
        }
        _ => return Err(AgentError::NotFound(format!("there is no kernel map {name:?}"))),
    };
    let columns = rows.first().map(|row| row.iter().map(|(column, _)| (*column).to_owned()).collect());
    let entries = rows
        .into_iter()
        .map(|row| row.into_iter().map(|(column, value)| (column.to_owned(), value)).collect::<Map<_, _>>());
    Ok(api::MapDump {
        name: name.to_owned(),
        columns: columns.unwrap_or_default(),
        entries: entries.collect(),
    })
}

fn rows<K, V>(entries: Vec<(K, V)>, row: impl Fn(&K, &V) -> Row) -> Vec<Row> {
    entries.iter().map(|(key, value)| row(key, value)).collect()
}

fn policy_roots(maps: &Maps) -> Answer<Vec<Row>> {
    let mut found = Vec::new();
    for endpoint in 0..maps.policy_root.len() {
        let root = maps.policy_root.get(endpoint)?;
        if root != maps::PolicyRoot::default() {
            found.push(vec![
                ("endpoint", json!(endpoint)),
                ("ingress policy", json!(root.ingress)),
                ("egress policy", json!(root.egress)),
            ]);
        }
    }
    Ok(found)
}

fn metrics(maps: &Maps) -> Answer<Vec<Row>> {
    let values = maps.metrics.read()?;
    let counted = values.iter().enumerate().filter(|(_, count)| **count > 0);
    Ok(counted.map(|(index, count)| vec![("counter", json!(index)), ("count", json!(count))]).collect())
}

fn listeners(maps: &Maps) -> Answer<Vec<Row>> {
    let mut found = Vec::new();
    for slot in 0..maps::LISTENERS_MAX {
        if maps.listeners.is_set(slot)? {
            let family = if slot < maps::LISTENERS_V6 { "IPv4" } else { "IPv6" };
            found.push(vec![("slot", json!(slot)), ("family", json!(family))]);
        }
    }
    Ok(found)
}

fn flow(key: &FlowKey) -> Row {
    vec![
        ("source", address(&key.src)),
        ("source port", json!(key.sport)),
        ("destination", address(&key.dst)),
        ("port", json!(key.dport)),
        ("protocol", protocol_text(key.proto)),
    ]
}

fn address(addr: &Addr) -> Value {
    json!(from_addr(addr).to_string())
}

fn owned_address(addr: &Addr) -> Value {
    if *addr == Addr::default() { json!("") } else { address(addr) }
}

fn prefix_text(addr: &Addr, bits: u32) -> Value {
    match from_addr(addr) {
        IpAddr::V4(v4) if bits >= 96 => json!(format!("{v4}/{}", bits - 96)),
        other => json!(format!("{other}/{bits}")),
    }
}

fn protocol_text(number: u8) -> Value {
    match number {
        maps::proto::ANY => json!("any"),
        maps::proto::ICMP => json!("ICMP"),
        maps::proto::TCP => json!("TCP"),
        maps::proto::UDP => json!("UDP"),
        maps::proto::ICMPV6 => json!("ICMPv6"),
        maps::proto::SCTP => json!("SCTP"),
        other => json!(other),
    }
}

fn action_text(code: u8) -> Value {
    json!(match code {
        action::ALLOW => "allow",
        action::DENY => "deny",
        action::REDIRECT => "redirect",
        _ => "none",
    })
}

fn ct_flags(flags: u8) -> String {
    use tektin_abi::maps::ct_flag;
    let names = [
        (ct_flag::PROXIED, "proxied"),
        (ct_flag::DENIED, "denied"),
        (ct_flag::REPLY_SEEN, "replied"),
        (ct_flag::CLOSING, "closing"),
        (ct_flag::FROM_PROXY, "from-proxy"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(" ")
}
