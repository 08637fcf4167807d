//! `GET /v1/status`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::{Json, extract::State};
use tektin_abi::maps::{drop, metric};

use super::{answer::Answer, maps};
use crate::{
    agent::{Agent, state::State as Known},
    api,
    flows::{Resolve, drops},
};

pub async fn status(State(agent): State<Arc<Agent>>) -> Answer<Json<api::Status>> {
    let restarts = agent.supervisor.lock().await.as_ref().map_or(0, |supervisor| supervisor.restarts());
    let proxy = api::ProxyHealth { restarts, ..agent.link.health() };
    let counters = counters(&agent)?;
    let maps = maps::fill(&agent.maps)?;
    let state = agent.state.lock().await;
    Ok(Json(api::Status {
        agent: api::AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: agent.started,
            state_dir: agent.config.state_dir.display().to_string(),
            run_dir: agent.config.run_dir.display().to_string(),
            pin_dir: agent.config.pin_dir.display().to_string(),
            policy_dir: agent.config.policy_dir.display().to_string(),
        },
        node: node(&agent, &state),
        features: features(&state),
        programs: programs(&state)?,
        problems: problems(&agent, &state, &proxy, &maps),
        maps,
        proxy,
        policy: api::PolicyStatus {
            revision: state.enforcement.revision(),
            documents: state.engine.policies().len(),
            files: files(&state),
        },
        endpoints: state.endpoints.len(),
        identities: state.engine.identities().len(),
        flows: agent.flows.status(),
        counters,
    }))
}

fn node(agent: &Agent, state: &Known) -> api::NodeStatus {
    let used = |is_v4: bool| {
        let addresses = state.endpoints.iter().flat_map(|endpoint| endpoint.addresses());
        addresses
            .filter(|address| match address {
                IpAddr::V4(v4) => is_v4 && agent.config.pool4.contains(v4),
                IpAddr::V6(v6) => !is_v4 && agent.config.pool6.contains(v6),
            })
            .count() as u64
    };
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let ipv6 = state.set_up.ipv6;
    api::NodeStatus {
        name: agent.names.node().to_string(),
        kernel: kernel.unwrap_or_default(),
        ipv4: Some(state.node.v4),
        ipv6: ipv6.then_some(state.node.v6),
        pool4: Some(agent.config.pool4),
        pool6: ipv6.then_some(agent.config.pool6),
        pool4_used: used(true),
        pool6_used: used(false),
    }
}

fn features(state: &Known) -> Vec<api::Feature> {
    let (probed, kept_from) = (state.datapath.features(), state.handover.kept_from());
    let feature = |name: &str, present: bool, with: &str, without: &str| api::Feature {
        name: name.to_owned(),
        present,
        note: if present { with } else { without }.to_owned(),
    };
    vec![
        feature("tcx", probed.tcx, "programs are exchanged without a gap", "clsact filters are used"),
        feature("ring buffer", probed.ringbuf, "one event a verdict", "no flow records from the kernel"),
        feature(
            "sk_lookup",
            probed.sk_lookup,
            "host processes reach what needs L7",
            "host processes cannot reach what needs L7",
        ),
        feature(
            "netns cookie",
            probed.netns_cookie,
            "host programs keep to the node's namespace",
            "host processes cannot reach what needs L7",
        ),
        feature(
            "direct delivery",
            kept_from.is_none(),
            "packets between workloads pass the node's stack by",
            &format!(
                "packets between workloads go through the node's stack: {}",
                kept_from.unwrap_or_default()
            ),
        ),
        feature("BTF", probed.btf, "programs carry their types", "programs are loaded without types"),
    ]
}

fn programs(state: &Known) -> Answer<Vec<api::Program>> {
    let mut programs: BTreeMap<String, Vec<String>> =
        state.datapath.programs().into_iter().map(|program| (program.name, Vec::new())).collect();
    for attached in state.datapath.attached()? {
        programs.entry(attached.program).or_default().push(attached.target);
    }
    Ok(programs.into_iter().map(|(name, attached)| api::Program { name, attached }).collect())
}

fn files(state: &Known) -> Vec<api::PolicyFile> {
    let files = state.policies.files().iter();
    files
        .map(|(path, file)| api::PolicyFile {
            path: path.display().to_string(),
            documents: file.documents.keys().map(ToString::to_string).collect(),
            error: file.error.clone(),
        })
        .collect()
}

fn counters(agent: &Agent) -> Answer<BTreeMap<String, u64>> {
    let values = agent.maps.metrics.read()?;
    let value = |index: u32| values.get(index as usize).copied().unwrap_or(0);
    let mut counters = BTreeMap::from([
        ("forwarded".to_owned(), value(metric::FORWARDED)),
        ("steered".to_owned(), value(metric::STEERED)),
        ("new_flows".to_owned(), value(metric::NEW_FLOWS)),
        ("rejudged".to_owned(), value(metric::REJUDGED)),
        ("events_lost".to_owned(), value(metric::EVENT_LOST)),
        ("reply_to_proxy".to_owned(), value(metric::REPLY_TO_PROXY)),
    ]);
    for code in 1..drop::COUNT {
        if let Some(name) = drops::counter_name(code) {
            counters.insert(format!("drop_{name}"), value(u32::from(code)));
        }
    }
    Ok(counters)
}

/// What a person has to do something about.
fn problems(agent: &Agent, state: &Known, proxy: &api::ProxyHealth, maps: &[api::MapInfo]) -> Vec<String> {
    let mut problems = state.set_up.warnings.clone();
    if !proxy.connected {
        let who = if agent.config.supervise_proxy { "it is being started" } else { "start it" };
        problems.push(format!("the proxy is not connected: what needs L7 is dropped; {who}"));
    }
    for endpoint in state.endpoints.iter() {
        if let Some(reason) = &endpoint.failure {
            problems.push(format!("endpoint {}: {reason}", endpoint.full_name()));
        }
    }
    for (path, file) in state.policies.files() {
        if let Some(error) = &file.error {
            let kept =
                if file.documents.is_empty() { "it has no effect" } else { "its last good content holds" };
            problems.push(format!("policy file {}: {error} ({kept})", path.display()));
        }
    }
    for map in maps {
        let evicts = map.kind.starts_with("lru");
        if map.entries.is_some_and(|entries| !evicts && entries * 10 >= map.max_entries * 9) {
            problems.push(format!("kernel map {} is more than nine tenths full", map.name));
        }
    }
    problems
}
