//! A small known world for tests: endpoint 1 is `demo/client` (identity 256), endpoint 2 `demo/web`
//! (257); rule 7 is a place in a document; both directions of both are closed by documents.

use std::sync::Arc;

use tektin_abi::maps::{Event, FlowKey, action, event_kind, hook, proto, v4_mapped};

use super::{
    kernel::{self, WallClock},
    record::FlowRecord,
    resolve::{Direction, EndpointName, Resolve},
};

pub const RULE: &str = "CiliumNetworkPolicy demo/web spec.ingress[0]";

#[derive(Debug)]
pub struct World;

impl Resolve for World {
    fn node(&self) -> Arc<str> {
        "node".into()
    }

    fn identity_labels(&self, identity: u32) -> Option<Arc<[Arc<str>]>> {
        let labels: &[&str] = match identity {
            2 => &["reserved:world"],
            256 => &["k8s:app=client", "k8s:io.kubernetes.pod.namespace=demo"],
            257 => &["k8s:app=web", "k8s:io.kubernetes.pod.namespace=demo"],
            _ => return None,
        };
        Some(labels.iter().map(|label| Arc::from(*label)).collect())
    }

    fn endpoint(&self, id: u32) -> Option<EndpointName> {
        let name = match id {
            1 => "client",
            2 => "web",
            _ => return None,
        };
        Some(EndpointName { name: name.into(), namespace: "demo".into() })
    }

    fn rule(&self, id: u32) -> Option<Arc<str>> {
        (id == 7).then(|| RULE.into())
    }

    fn default_deny(&self, endpoint: u32, direction: Direction) -> Option<Arc<str>> {
        (endpoint == 2 && direction == Direction::Ingress).then(|| "CiliumNetworkPolicy demo/web spec".into())
    }
}

/// The SYN of `demo/client` 10.0.0.1:40000 to `demo/web` 10.0.0.2:80, allowed by rule 7 at the
/// destination; no policy at the source.
pub fn syn() -> Event {
    Event {
        time_ns: 1_000,
        flow: FlowKey {
            src: v4_mapped([10, 0, 0, 1]),
            dst: v4_mapped([10, 0, 0, 2]),
            sport: 40_000,
            dport: 80,
            proto: proto::TCP,
            _pad: [0; 3],
        },
        src_identity: 256,
        dst_identity: 257,
        src_endpoint: 1,
        dst_endpoint: 2,
        egress_rule: 0,
        ingress_rule: 7,
        ifindex: 3,
        len: 74,
        kind: event_kind::NEW,
        reason: 0,
        egress_action: action::NONE,
        ingress_action: action::ALLOW,
        tcp_flags: 0x02,
        hook: hook::FROM_WORKLOAD,
        src_mac: [2, 0, 0, 0, 0, 1],
        ..Event::default()
    }
}

pub fn record() -> FlowRecord {
    kernel::record(&syn(), WallClock::now(), &World)
}
