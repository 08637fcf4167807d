//! From the proxy's records to flow records.

use std::net::IpAddr;

use jiff::Timestamp;
use policy_engine::explain::{RequestKind, no_request_rule};
use tektin_proxy::link_proto as link;

use super::{
    decision::deciding,
    kernel::named_end,
    record::{
        Action, Decision, FlowRecord, Grpc, Http, Kafka, L4, Layer, Protocol, TcpFlags, Verdict,
        grpc_status_name,
    },
    resolve::{Direction, Resolve},
};

/// The record of one judged request or connection. A port or number that does not fit its type is
/// shown as 0: the proxy reads hostile bytes and is not trusted to be well-behaved.
#[must_use]
pub fn record(record: &link::Record, resolve: &dyn Resolve) -> FlowRecord {
    let verdict = match record.outcome() {
        link::Outcome::Allowed => Verdict::Forwarded,
        link::Outcome::Denied => Verdict::Denied,
        link::Outcome::Refused => Verdict::Refused,
        link::Outcome::UpstreamFailed => Verdict::Error,
    };
    let kind = if record.grpc.is_some() { RequestKind::Grpc } else { RequestKind::Http };
    let decision = |endpoint, direction, enforced, action, rule| {
        let action = if enforced { self::action(action) } else { Action::None };
        request_decision(Decision::new(resolve, endpoint, direction, action, rule), kind)
    };
    let egress = decision(
        record.src_endpoint,
        Direction::Egress,
        record.egress_enforced,
        record.egress_action(),
        record.egress_rule,
    );
    let ingress = decision(
        record.dst_endpoint,
        Direction::Ingress,
        record.ingress_enforced,
        record.ingress_action(),
        record.ingress_rule,
    );
    let port = |port: u32| u16::try_from(port).unwrap_or(0);
    FlowRecord {
        time: Timestamp::from_nanosecond(record.time_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH),
        node: resolve.node(),
        layer: Layer::L7,
        verdict,
        reason: record.reason.as_str().into(),
        source: named_end(
            resolve,
            record.src_identity,
            record.src_endpoint,
            address(&record.src_address),
            port(record.src_port),
        ),
        destination: named_end(
            resolve,
            record.dst_identity,
            record.dst_endpoint,
            address(&record.dst_address),
            port(record.dst_port),
        ),
        l4: L4 { protocol: Protocol::Tcp, flags: TcpFlags::default(), icmp: None },
        http: record.http.as_ref().map(|http| Http {
            method: http.method.clone(),
            path: http.path.clone(),
            host: http.host.clone(),
            protocol: http.protocol.clone(),
            status: u16::try_from(http.status).ok().filter(|status| *status != 0),
            latency_ns: Some(record.latency_ns).filter(|ns| *ns != 0),
        }),
        grpc: record.grpc.as_ref().map(|grpc| Grpc {
            service: grpc.service.clone(),
            method: grpc.method.clone(),
            status: grpc.status,
            status_name: grpc.status.map_or("", grpc_status_name).to_owned(),
            messages_from_client: grpc.messages_from_client,
            messages_from_server: grpc.messages_from_server,
            latency_ns: Some(grpc.duration_ns).filter(|ns| *ns != 0),
        }),
        kafka: record.kafka.as_ref().map(|kafka| Kafka {
            api_key: kafka.api_key,
            api: kafka.api_name.clone(),
            api_version: kafka.api_version,
            correlation_id: kafka.correlation_id,
            client_id: kafka.client_id.clone(),
            topics: kafka.topics.clone(),
            topics_in_all: kafka.topics_in_all,
            group: kafka.group.clone(),
            transactional_id: kafka.transactional_id.clone(),
            error_code: kafka.error_code,
            latency_ns: Some(record.latency_ns).filter(|ns| *ns != 0),
        }),
        hook: None,
        rule: deciding(verdict, &egress, &ingress),
        egress,
        ingress,
        revision: record.revision,
        length: 0,
    }
}

/// The proxy denies by the rule that asked for it where none of that rule's requests matches; that
/// it stands in an allow section tells it from a deny rule.
fn request_decision(decision: Decision, kind: RequestKind) -> Decision {
    let allows = decision.rule.contains(".ingress[") || decision.rule.contains(".egress[");
    match decision.action {
        Action::Deny if decision.rule_id != 0 && allows => {
            Decision { rule: no_request_rule(&decision.rule, kind).into(), ..decision }
        }
        _ => decision,
    }
}

fn action(action: link::Action) -> Action {
    match action {
        link::Action::Deny => Action::Deny,
        link::Action::Allow => Action::Allow,
        link::Action::Redirect => Action::Redirect,
    }
}

/// 4 or 16 octets, network order; `None` for any other length.
fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::from(octets).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
