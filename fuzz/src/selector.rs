//! Label selectors as documents have them: what is accepted selects whom a plain reading of the
//! drawn parts selects.

use std::collections::BTreeMap;

use policy_engine::{
    documents::{Parsed, parse_value},
    identity::{Identity, IdentityTable, NamedPorts},
    labels::{CLUSTER, LabelKey, Labels, NAMESPACE, Source},
    model::{Peer, Peers},
};
use serde_json::{Value, json};

use crate::draw::Draw;

const KEYS: [&str; 8] =
    ["app", "k8s:app", "any:app", "container:app", "tier", "any:tier", "k8s:tier", "x.y/z"];
const VALUES: [&str; 4] = ["a", "b", "", "c-1"];

struct Requirement {
    key: String,
    operator: &'static str,
    values: Vec<String>,
}

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let value = |draw: &mut Draw<'_>| draw.text(&VALUES);
    let labels: BTreeMap<String, String> =
        draw.many(2, |draw| (draw.text(&KEYS), value(draw))).into_iter().collect();
    let expressions = draw.many(3, |draw| Requirement {
        key: draw.text(&KEYS),
        operator: draw.one(&["In", "NotIn", "Exists", "DoesNotExist"]),
        values: draw.many(2, value),
    });
    let written: Vec<Value> = expressions
        .iter()
        .map(|e| match e.values.is_empty() {
            true => json!({"key": e.key, "operator": e.operator}),
            false => json!({"key": e.key, "operator": e.operator, "values": e.values}),
        })
        .collect();
    let document = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "p"},
        "spec": {"endpointSelector": {}, "ingress": [
            {"fromEndpoints": [{"matchLabels": labels, "matchExpressions": written}]}
        ]},
    });
    let Some(Parsed::Policy(document)) = parse_value(&document, 1).pop() else { return };
    let Peers::OneOf(peers) = &document.specs[0].ingress[0].peers else { panic!("everybody") };
    let [peer @ Peer::Labels(selector)] = peers.as_slice() else { panic!("{peers:?}") };

    let mut requirements = expressions;
    requirements.extend(labels.into_iter().map(|(key, value)| Requirement {
        key,
        operator: "In",
        values: vec![value],
    }));
    let mut table = IdentityTable::default();
    for id in 300..304 {
        let labels = draw.many(3, |draw| {
            let source = draw.one(&[Source::K8s, Source::Other("container".to_owned())]);
            (LabelKey::new(source, draw.one(&["app", "tier", "x.y/z"])), draw.one(&VALUES).to_owned())
        });
        let own = [NAMESPACE, CLUSTER].map(|key| (LabelKey::k8s(key), "default".to_owned()));
        let labels = Labels(labels.into_iter().chain(own).collect());
        let identity = Identity::workload(id, labels, NamedPorts::default());
        let plain = requirements.iter().all(|requirement| holds(requirement, &identity.labels));
        // A clusterwide policy without a word about namespaces means those of workloads: all here.
        assert_eq!(peer.matches(&identity), plain, "{selector:?} {}", identity.labels);
        table.insert(identity);
    }
    let mut found = table.matching(peer);
    found.sort_unstable();
    let walked: Vec<u32> = table.iter().filter(|i| selector.matches(i)).map(|i| i.id).collect();
    assert_eq!(found, walked);
}

fn holds(requirement: &Requirement, labels: &Labels) -> bool {
    let (source, name) = requirement.key.split_once(':').unwrap_or(("any", &requirement.key));
    let mut values = labels
        .0
        .iter()
        .filter(|(key, _)| key.key == name && (source == "any" || key.source.to_string() == source))
        .map(|(_, value)| value);
    match requirement.operator {
        "In" => values.any(|value| requirement.values.contains(value)),
        "NotIn" => !values.any(|value| requirement.values.contains(value)),
        "Exists" => values.next().is_some(),
        _ => values.next().is_none(),
    }
}
