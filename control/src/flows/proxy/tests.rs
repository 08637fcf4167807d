use super::*;
use crate::flows::testing::{RULE, World};

/// GET /v1 of `demo/client` to `demo/web`, allowed by rule 7 at the destination.
fn allowed() -> link::Record {
    link::Record {
        time_ns: 1_700_000_000_000_000_000,
        src_identity: 256,
        dst_identity: 257,
        src_endpoint: 1,
        dst_endpoint: 2,
        src_address: vec![10, 0, 0, 1],
        dst_address: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2],
        src_port: 40_000,
        dst_port: 80,
        outcome: link::Outcome::Allowed.into(),
        ingress_action: link::Action::Allow.into(),
        ingress_rule: 7,
        ingress_enforced: true,
        http: Some(link::Http {
            protocol: "HTTP/1.1".into(),
            method: "GET".into(),
            path: "/v1?x=1".into(),
            host: "web".into(),
            status: 200,
        }),
        revision: 3,
        latency_ns: 5_000,
        ..link::Record::default()
    }
}

#[test]
fn an_allowed_request() {
    let record = record(&allowed(), &World);
    assert_eq!((record.layer, record.verdict), (Layer::L7, Verdict::Forwarded));
    assert_eq!(&*record.rule, RULE);
    assert_eq!(record.time.to_string(), "2023-11-14T22:13:20Z");
    assert_eq!(record.destination.ip, Some("10.0.0.2".parse().unwrap()));
    let http = record.http.unwrap();
    assert_eq!((http.status, http.latency_ns), (Some(200), Some(5_000)));
    // Not enforced, whatever the action's default says.
    assert_eq!((record.egress.action, &*record.egress.rule), (Action::None, "no policy"));
}

#[test]
fn a_kafka_request() {
    let kafka = link::Kafka {
        api_key: 0,
        api_name: "Produce".into(),
        api_version: 9,
        correlation_id: 4,
        client_id: "shop".into(),
        topics: vec!["orders".into(), "stock".into()],
        topics_in_all: 2,
        error_code: 29,
        ..link::Kafka::default()
    };
    let record = record(&link::Record { http: None, kafka: Some(kafka), ..allowed() }, &World);
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["kafka"]["api"], "Produce");
    assert_eq!(json["kafka"]["topics"], serde_json::json!(["orders", "stock"]));
    assert_eq!((&json["kafka"]["error_code"], &json["kafka"]["latency_ns"]), (&29.into(), &5_000.into()));
    assert_eq!(crate::flows::table::what(&record), "Produce v9 orders stock error 29");
    let wanted = |protocol: &str| {
        let filter =
            crate::flows::filter::FlowFilter { protocol: vec![protocol.into()], ..Default::default() };
        crate::flows::filter::Filter::new(&filter).unwrap().matches(&record)
    };
    assert!(wanted("kafka") && wanted("tcp") && !wanted("http"));
}

#[test]
fn a_call_has_a_line_and_a_filter_of_its_own() {
    let grpc = link::Grpc {
        service: "shop.Orders".into(),
        method: "Watch".into(),
        status: Some(7),
        messages_from_client: 1,
        messages_from_server: 7,
        duration_ns: 9_000,
    };
    let call = link::Record { grpc: Some(grpc), kafka: None, ..allowed() };
    let told = record(&call, &World);
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(
        json["grpc"],
        serde_json::json!({
            "service": "shop.Orders", "method": "Watch", "status": 7, "status_name": "PERMISSION_DENIED",
            "messages_from_client": 1, "messages_from_server": 7, "latency_ns": 9000
        })
    );
    assert_eq!(crate::flows::table::what(&told), "shop.Orders/Watch PERMISSION_DENIED 1+7");
    let wanted = |protocol: &str| {
        let filter =
            crate::flows::filter::FlowFilter { protocol: vec![protocol.into()], ..Default::default() };
        crate::flows::filter::Filter::new(&filter).unwrap().matches(&told)
    };
    assert!(wanted("grpc") && wanted("http") && wanted("tcp") && !wanted("kafka"));
    let denied = link::Record {
        outcome: link::Outcome::Denied.into(),
        ingress_action: link::Action::Deny.into(),
        ..call
    };
    assert_eq!(*record(&denied, &World).rule, *format!("{RULE} (no gRPC or HTTP rule matches)"));
}

#[test]
fn a_denied_request_names_default_deny() {
    let denied = link::Record {
        outcome: link::Outcome::Denied.into(),
        ingress_action: link::Action::Deny.into(),
        ingress_rule: 0,
        ..allowed()
    };
    let record = record(&denied, &World);
    assert_eq!(record.verdict, Verdict::Denied);
    assert_eq!(*record.rule, *"default deny (CiliumNetworkPolicy demo/web spec)");
}

#[test]
fn a_request_that_no_rule_matches_names_the_rule_that_wanted_one() {
    let denied = link::Record {
        outcome: link::Outcome::Denied.into(),
        ingress_action: link::Action::Deny.into(),
        ..allowed()
    };
    assert_eq!(*record(&denied, &World).rule, *format!("{RULE} (no HTTP rule matches)"));
}

#[test]
fn a_refused_connection_has_a_reason_and_no_rule() {
    let refused = link::Record {
        outcome: link::Outcome::Refused.into(),
        reason: "bare LF in the head".into(),
        http: None,
        kafka: None,
        ..allowed()
    };
    let record = record(&refused, &World);
    assert_eq!((record.verdict, &*record.rule), (Verdict::Refused, ""));
    assert_eq!(&*record.reason, "bare LF in the head");
}

#[test]
fn nonsense_of_the_proxy_is_harmless() {
    let odd = link::Record {
        src_address: vec![1, 2, 3],
        src_port: 70_000,
        time_ns: u64::MAX,
        outcome: 99,
        ingress_action: 99,
        ..allowed()
    };
    let record = record(&odd, &World);
    assert_eq!((record.source.ip, record.source.port), (None, 0));
}
