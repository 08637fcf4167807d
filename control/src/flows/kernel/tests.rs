use tektin_abi::maps::action;

use super::*;
use crate::flows::testing::{RULE, World, syn};

fn of(event: Event) -> FlowRecord {
    record(&event, WallClock::now(), &World)
}

#[test]
fn an_allowed_flow_names_both_ends_and_its_rule() {
    let record = of(syn());
    assert_eq!(record.verdict, Verdict::Forwarded);
    assert_eq!(&*record.rule, RULE);
    assert_eq!((record.egress.action, &*record.egress.rule), (Action::None, "no policy"));
    assert_eq!((record.ingress.action, record.ingress.rule_id), (Action::Allow, 7));
    assert_eq!((&*record.source.name, &*record.source.namespace), ("client", "demo"));
    assert_eq!(record.source.ip, Some("10.0.0.1".parse().unwrap()));
    assert_eq!((record.source.port, record.destination.port), (40_000, 80));
    assert_eq!(record.source.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
    assert_eq!(record.destination.mac, None);
    assert_eq!(record.l4, L4 { protocol: Protocol::Tcp, flags: TcpFlags(2), icmp: None });
    assert_eq!(record.hook, Some(Hook::FromWorkload));
    assert_eq!(&*record.reason, "");
}

#[test]
fn rules_of_both_ends_are_named_with_their_direction() {
    let record = of(Event { egress_action: action::REDIRECT, egress_rule: 7, ..syn() });
    assert_eq!(record.verdict, Verdict::Redirected);
    assert_eq!(*record.rule, *format!("egress: {RULE}; ingress: {RULE}"));
}

#[test]
fn without_policies_that_is_the_reason() {
    let record = of(Event { ingress_action: action::NONE, ingress_rule: 0, ..syn() });
    assert_eq!((record.verdict, &*record.rule), (Verdict::Forwarded, "no policy"));
    let foreign = of(Event { dst_endpoint: 0, ingress_action: action::NONE, ingress_rule: 0, ..syn() });
    assert_eq!(&*foreign.ingress.rule, "");
}

#[test]
fn default_deny_names_its_documents() {
    let drop =
        Event { kind: event_kind::DROP, reason: drop::DEFAULT_DENY, ingress_action: action::DENY, ..syn() };
    let record = of(Event { ingress_rule: 0, ..drop });
    assert_eq!(record.verdict, Verdict::Dropped);
    assert_eq!(*record.rule, *"default deny (CiliumNetworkPolicy demo/web spec)");
    assert_eq!(&*record.reason, "no rule allows it");

    let gone = of(Event { ingress_rule: 99, reason: drop::POLICY_DENY, ..drop });
    assert_eq!(*gone.rule, *"rule 0x00000063");
}

#[test]
fn a_drop_before_policy_shows_no_decision() {
    let spoofed = Event {
        kind: event_kind::DROP,
        reason: drop::SPOOFED_SOURCE_IP,
        egress_action: action::DENY,
        ingress_action: action::DENY,
        ..syn()
    };
    let record = of(spoofed);
    assert_eq!(record.verdict, Verdict::Dropped);
    assert_eq!((record.egress, record.ingress), (Decision::not_asked(), Decision::not_asked()));
    assert_eq!(*record.rule, *"");
    assert_eq!(&*record.reason, "source address is not the workload's own");
}

#[test]
fn what_is_not_plainly_a_pass_is_a_drop() {
    assert_eq!(of(Event { kind: 99, ..syn() }).verdict, Verdict::Dropped);
    assert_eq!(of(Event { ingress_action: 99, ..syn() }).verdict, Verdict::Dropped);
    let changed = Event { kind: event_kind::CHANGED, ..syn() };
    assert_eq!(of(changed).verdict, Verdict::Forwarded);
    assert_eq!(of(Event { reason: drop::NEEDS_PROXY_MIDSTREAM, ..changed }).verdict, Verdict::Dropped);
}

#[test]
fn icmp_has_type_and_code_and_no_ports() {
    let mut echo = Event { tcp_flags: 0, icmp_type: 8, ..syn() };
    echo.flow.proto = proto::ICMP;
    let record = of(echo);
    assert_eq!(record.l4.icmp, Some(Icmp { kind: 8, code: 0 }));
    assert_eq!((record.source.port, record.destination.port), (0, 0));
}

#[test]
fn kernel_time_becomes_wall_time() {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let ns =
        u64::try_from(monotonic.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(monotonic.tv_nsec).unwrap();
    let record = of(Event { time_ns: ns, ..syn() });
    let away = Timestamp::now().duration_since(record.time).abs();
    assert!(away < jiff::SignedDuration::from_secs(2), "{away}");
}

#[test]
fn json_goes_there_and_back() {
    let record = of(syn());
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<FlowRecord>(&json).unwrap(), record);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["l4"]["protocol"], "tcp");
    assert_eq!(value["verdict"], "forwarded");
    assert_eq!(value["source"]["ip"], "10.0.0.1");
    let mut odd = syn();
    odd.flow.proto = 89;
    let odd = of(odd);
    let again: FlowRecord = serde_json::from_str(&serde_json::to_string(&odd).unwrap()).unwrap();
    assert_eq!(again.l4.protocol, Protocol::Other(89));
}
