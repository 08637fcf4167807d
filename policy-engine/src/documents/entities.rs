//! Entities, the peers that have names of their own, as selectors of reserved labels.

use super::{
    cursor::{At, Findings},
    selector,
};
use crate::{
    labels::{CLUSTER, LabelKey},
    model::{Peer, Selector},
};

const ENTITIES: [&str; 14] = [
    "all",
    "world",
    "world-ipv4",
    "world-ipv6",
    "cluster",
    "cluster-mesh",
    "host",
    "remote-node",
    "kube-apiserver",
    "ingress",
    "init",
    "health",
    "unmanaged",
    "none",
];

/// What a cluster holds besides its workloads.
const CLUSTER_MEMBERS: [&str; 7] =
    ["host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver"];

/// The peers of one item of `fromEntities` or `toEntities`.
pub(super) fn read(at: &At<'_>, f: &mut Findings) -> Vec<Peer> {
    let Some(entity) = at.word(&ENTITIES, f) else { return Vec::new() };
    let mut selectors: Vec<Selector> = Vec::new();
    match entity {
        "all" => selectors.push(Selector::default()),
        "world" => selectors.extend(["world", "world-ipv4", "world-ipv6"].map(reserved)),
        "cluster" | "cluster-mesh" => {
            selectors.extend(CLUSTER_MEMBERS.map(reserved));
            let mut workloads = Selector::default();
            if entity == "cluster" {
                selector::add_cluster(&mut workloads);
            } else {
                workloads.requirements.push(selector::exists(LabelKey::k8s(CLUSTER)));
            }
            selectors.push(workloads);
        }
        // `none` is a label that nobody has.
        name => selectors.push(reserved(name)),
    }
    selectors.into_iter().map(Peer::Labels).collect()
}

fn reserved(name: &str) -> Selector {
    Selector { requirements: vec![selector::exists(LabelKey::reserved(name))] }
}
