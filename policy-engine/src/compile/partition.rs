//! Groups identities by the peers that match them.

use std::collections::HashMap;

use super::{
    Signature,
    rules::{DirectionRules, PeerId, PeerRules, ResolvedNames},
};
use crate::identity::IdentityTable;

/// A node stands for one set of matching peers: its parent's and `peer`. Sets that grow step by
/// step share their beginnings, so memory follows the number of different sets, not their sizes.
struct Node {
    parent: u32,
    peer: PeerId,
}

/// Identities with their common signature; those with the empty one are left out.
pub(super) fn partition(rules: &DirectionRules, identities: &IdentityTable) -> Vec<(Signature, Vec<u32>)> {
    let mut nodes = vec![Node { parent: 0, peer: 0 }];
    let mut node_of: HashMap<u32, u32> = HashMap::new();
    let mut rule_peers: Vec<_> = rules.peers.iter().collect();
    rule_peers.sort_unstable_by_key(|(id, _)| **id);
    for (index, PeerRules { peer, .. }) in rule_peers {
        let mut moved: HashMap<u32, u32> = HashMap::new();
        for id in identities.matching(peer) {
            let node = node_of.entry(id).or_insert(0);
            *node = *moved.entry(*node).or_insert_with_key(|parent| {
                nodes.push(Node { parent: *parent, peer: *index });
                (nodes.len() - 1) as u32
            });
        }
    }
    if !rules.names.is_empty() {
        // Entries for everybody may use names too, so each identity that has any counts.
        for identity in identities.iter().filter(|i| !i.named_ports.0.is_empty()) {
            node_of.entry(identity.id).or_insert(0);
        }
    }
    let mut groups: HashMap<(u32, ResolvedNames), Vec<u32>> = HashMap::new();
    for (id, node) in node_of {
        let named_ports = identities.identity(id).map(|i| rules.resolved_names(&i.named_ports));
        groups.entry((node, named_ports.unwrap_or_default())).or_default().push(id);
    }
    let mut partition: Vec<(Signature, Vec<u32>)> = groups
        .into_iter()
        .filter(|((node, named_ports), _)| *node != 0 || !named_ports.is_empty())
        .map(|((node, named_ports), members)| {
            (Signature { peers: peers(&nodes, node), named_ports }, members)
        })
        .collect();
    // Equal input gives equal class numbers.
    partition.sort_unstable_by(|(a, _), (b, _)| (&a.peers, &a.named_ports).cmp(&(&b.peers, &b.named_ports)));
    partition
}

fn peers(nodes: &[Node], mut node: u32) -> Vec<PeerId> {
    let mut peers = Vec::new();
    while node != 0 {
        peers.push(nodes[node as usize].peer);
        node = nodes[node as usize].parent;
    }
    peers.reverse();
    peers
}
