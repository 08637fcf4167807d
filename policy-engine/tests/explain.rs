//! An explanation names the rule that decides, and has a reason for each other one.

use policy_engine::{
    compiled::L4Verdict,
    direction::Direction,
    documents::{Parsed, parse},
    explain::{Outcome, RequestDecision, explain},
    http::HttpRequest,
    identity::{Identity, IdentityTable, NamedPorts},
    labels::Labels,
    model::Protocol,
    naive::{Decision, Flow},
    policy_set::{Options, PolicySet},
};
use proptest::prelude::*;

#[allow(dead_code)]
#[path = "random/policies.rs"]
mod policies;
#[allow(dead_code)]
#[path = "random/world.rs"]
mod world;

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp, Protocol::Icmpv6];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_one_rule_decides(set in policies::set(), subjects in world::subjects(), peers in world::peers()) {
        let mut table = IdentityTable::with_reserved();
        subjects.iter().chain(&peers).for_each(|identity| { table.insert(identity.clone()); });
        for subject in &subjects {
            for (peer, port) in table.iter().flat_map(|peer| [53, 80, 8080].map(|port| (peer, port))) {
                let flow = Flow { subject, direction: Direction::Ingress, peer, protocol: Protocol::Tcp, port };
                let explanation = explain(&set, &flow, None);
                let deciding: Vec<_> = explanation.candidates.iter().filter(|c| c.outcome == Outcome::Decides).collect();
                match &explanation.decision {
                    Decision::Rule(
                        L4Verdict::Allow { rule } | L4Verdict::Deny { rule } | L4Verdict::Redirect { rule, .. },
                    ) if !rule.path.ends_with(')') => {
                        prop_assert_eq!(deciding.len(), 1);
                        prop_assert_eq!(&deciding[0].origin, &**rule);
                    }
                    _ => prop_assert!(deciding.is_empty(), "{:?}", deciding),
                }
            }
        }
    }
}

const POLICIES: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: front}}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET}, {path: /orders, method: POST}]}
        - ports: [{port: "443", protocol: TCP}]
    - fromEntities: [world]
    - fromEndpoints: []
    - toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
  ingressDeny:
    - fromEndpoints: [{matchLabels: {app: guest}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: other, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: other}}
  ingress: [{}]
"#;

fn workload(id: u32, app: &str) -> Identity {
    let labels = [("app".to_owned(), app.to_owned())].into();
    Identity::workload(id, Labels::workload("shop", &labels, &Default::default()), NamedPorts::default())
}

fn outcomes(peer: &Identity, port: u16) -> Vec<String> {
    let mut set = PolicySet::new(Options::default());
    for parsed in parse(POLICIES) {
        match parsed {
            Parsed::Policy(document) => assert!(set.upsert(document).is_none()),
            other => panic!("{other:?}"),
        }
    }
    let subject = workload(256, "web");
    let flow = Flow { subject: &subject, direction: Direction::Ingress, peer, protocol: Protocol::Tcp, port };
    let nothing: Vec<(String, String)> = Vec::new();
    let request = HttpRequest { method: "POST", path: "/orders", host: "web", headers: &nothing };
    let explanation = explain(&set, &flow, Some(&request));
    let mut lines: Vec<String> =
        explanation.candidates.iter().map(|c| format!("{}: {}", c.origin.path, c.outcome)).collect();
    if let Some(RequestDecision::Allowed(origin)) = explanation.request {
        lines.push(format!("request: {origin}"));
    }
    lines
}

#[test]
fn reasons_in_words() {
    assert_eq!(
        outcomes(&workload(257, "front"), 80),
        [
            "spec: selects other workloads",
            "spec.ingressDeny[0]: does not select the peer",
            "spec.ingress[0].toPorts[0]: decides",
            "spec.ingress[0].toPorts[1]: does not cover the port",
            "spec.ingress[1]: does not select the peer",
            "spec.ingress[2]: an empty list: it selects nobody",
            "spec.ingress[3].toPorts[0]: does not cover the port",
            "request: CiliumNetworkPolicy shop/web spec.ingress[0].toPorts[0].rules.http[1]",
        ]
    );
    assert_eq!(
        outcomes(&workload(258, "guest"), 8080)[1..],
        [
            "spec.ingressDeny[0]: decides",
            "spec.ingress[0]: does not select the peer",
            "spec.ingress[1]: does not select the peer",
            "spec.ingress[2]: an empty list: it selects nobody",
            "spec.ingress[3].toPorts[0]: a deny rule is stronger, however narrow this one is",
        ]
    );
}
