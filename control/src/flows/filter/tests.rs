use super::*;
use crate::flows::testing;

/// A request of `demo/client` (10.0.0.1) to `demo/web` (10.0.0.2:80): GET /v1/items?x=1, 404.
fn request() -> FlowRecord {
    let http = Http {
        method: "GET".into(),
        path: "/v1/items?x=1".into(),
        host: "web.demo".into(),
        protocol: "HTTP/1.1".into(),
        status: Some(404),
        latency_ns: None,
    };
    FlowRecord { layer: Layer::L7, http: Some(http), ..testing::record() }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

#[track_caller]
fn check(expected: bool, filter: FlowFilter) {
    assert_eq!(Filter::new(&filter).unwrap().matches(&request()), expected, "{filter:?}");
}

#[test]
fn nothing_asked_is_everything() {
    check(true, FlowFilter::default());
}

#[test]
fn endpoints_by_name_and_namespace() {
    let of = |list: &[&str]| FlowFilter { endpoint: strings(list), ..FlowFilter::default() };
    check(true, of(&["web"]));
    check(true, of(&["demo/client"]));
    check(true, of(&["nobody", "web"]));
    check(false, of(&["other/web"]));
    check(false, of(&["we"]));
    check(true, FlowFilter { from_endpoint: strings(&["client"]), ..FlowFilter::default() });
    check(false, FlowFilter { from_endpoint: strings(&["web"]), ..FlowFilter::default() });
    check(true, FlowFilter { to_endpoint: strings(&["web"]), ..FlowFilter::default() });
    check(false, FlowFilter { to_endpoint: strings(&["client"]), ..FlowFilter::default() });
}

#[test]
fn labels_by_source_key_and_value() {
    let of = |label: &str| FlowFilter { label: strings(&[label]), ..FlowFilter::default() };
    check(true, of("app=web"));
    check(true, of("k8s:app=client"));
    check(true, of("any:app"));
    check(true, of("app"));
    check(false, of("container:app=web"));
    check(false, of("app="));
    check(false, of("ap"));
    check(false, FlowFilter { from_label: strings(&["app=web"]), ..FlowFilter::default() });
    check(false, FlowFilter { to_label: strings(&["app=client"]), ..FlowFilter::default() });
    assert!(matches!(Filter::new(&of("=x")), Err(FilterError::Label(_))));
}

#[test]
fn addresses_ports_identities_and_protocols() {
    let net = |text: &str| vec![parse_prefix(text).unwrap()];
    check(true, FlowFilter { ip: net("10.0.0.2"), ..FlowFilter::default() });
    check(true, FlowFilter { from_ip: net("10.0.0.0/31"), ..FlowFilter::default() });
    check(false, FlowFilter { to_ip: net("10.0.0.1"), ..FlowFilter::default() });
    check(false, FlowFilter { ip: net("::/0"), ..FlowFilter::default() });
    assert_eq!(parse_prefix("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    parse_prefix("10.0.0").unwrap_err();

    check(true, FlowFilter { port: vec![443, 80], ..FlowFilter::default() });
    check(false, FlowFilter { port: vec![40_000], ..FlowFilter::default() });
    check(true, FlowFilter { identity: vec![257], ..FlowFilter::default() });
    check(false, FlowFilter { identity: vec![258], ..FlowFilter::default() });
    for (protocol, expected) in [("tcp", true), ("6", true), ("http", true), ("HTTP", true), ("udp", false)] {
        check(expected, FlowFilter { protocol: strings(&[protocol]), ..FlowFilter::default() });
    }
    let odd = FlowFilter { protocol: strings(&["grcp"]), ..FlowFilter::default() };
    assert!(matches!(Filter::new(&odd), Err(FilterError::Protocol(_))));
}

#[test]
fn requests_by_method_path_host_and_status() {
    check(true, FlowFilter { method: strings(&["get"]), ..FlowFilter::default() });
    check(false, FlowFilter { method: strings(&["POST"]), ..FlowFilter::default() });
    check(true, FlowFilter { path: strings(&["/v1/.*"]), ..FlowFilter::default() });
    // The whole path must match.
    check(false, FlowFilter { path: strings(&["/v1"]), ..FlowFilter::default() });
    check(false, FlowFilter { path: strings(&["x|/v2"]), ..FlowFilter::default() });
    check(true, FlowFilter { host: strings(&["WEB.demo"]), ..FlowFilter::default() });
    check(true, FlowFilter { status: strings(&["4xx"]), ..FlowFilter::default() });
    check(true, FlowFilter { status: strings(&["404", "500"]), ..FlowFilter::default() });
    check(false, FlowFilter { status: strings(&["5xx"]), ..FlowFilter::default() });

    let refuse = |filter: &FlowFilter| Filter::new(filter).is_err();
    assert!(refuse(&FlowFilter { path: strings(&["a)|(b"]), ..FlowFilter::default() }));
    for status in ["9xx", "abc", "99", "xx"] {
        assert!(refuse(&FlowFilter { status: strings(&[status]), ..FlowFilter::default() }), "{status}");
    }
}

#[test]
fn packets_are_no_requests() {
    let packet = testing::record();
    for filter in [
        FlowFilter { path: strings(&[".*"]), ..FlowFilter::default() },
        FlowFilter { method: strings(&["GET"]), ..FlowFilter::default() },
        FlowFilter { protocol: strings(&["http"]), ..FlowFilter::default() },
        FlowFilter { layer: vec![Layer::L7], ..FlowFilter::default() },
    ] {
        assert!(!Filter::new(&filter).unwrap().matches(&packet), "{filter:?}");
    }
}

#[test]
fn verdicts_and_times_and_all_together() {
    check(true, FlowFilter { verdict: vec![Verdict::Dropped, Verdict::Forwarded], ..FlowFilter::default() });
    check(false, FlowFilter { verdict: vec![Verdict::Denied], ..FlowFilter::default() });
    let time = request().time;
    let second = jiff::SignedDuration::from_secs(100);
    check(
        true,
        FlowFilter { since: Some(time - second), until: Some(time + second), ..FlowFilter::default() },
    );
    check(false, FlowFilter { since: Some(time + second), ..FlowFilter::default() });
    check(false, FlowFilter { until: Some(time - second), ..FlowFilter::default() });
    // Each kind must hold.
    check(false, FlowFilter { port: vec![80], verdict: vec![Verdict::Denied], ..FlowFilter::default() });
}

#[test]
fn a_misspelt_field_is_refused() {
    serde_json::from_str::<FlowFilter>(r#"{"verdikt": ["dropped"]}"#).unwrap_err();
    let filter: FlowFilter = serde_json::from_str(r#"{"verdict": ["dropped"]}"#).unwrap();
    assert_eq!(filter.verdict, [Verdict::Dropped]);
}
