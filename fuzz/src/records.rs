//! What the targets about flow records share.

use std::sync::Arc;

use tektin::entrances::{
    Direction, EndpointName, Filter, FlowFilter, FlowLine, FlowRecord, Resolve, Style, compact, table,
};

/// Knows the names of some numbers.
pub struct World;

impl Resolve for World {
    fn node(&self) -> Arc<str> {
        "node".into()
    }

    fn identity_labels(&self, identity: u32) -> Option<Arc<[Arc<str>]>> {
        identity.is_multiple_of(3).then(|| ["k8s:app=web".into(), format!("k8s:n={identity}").into()].into())
    }

    fn endpoint(&self, id: u32) -> Option<EndpointName> {
        (id % 2 == 1).then(|| EndpointName { name: format!("e{id}").into(), namespace: "demo".into() })
    }

    fn rule(&self, id: u32) -> Option<Arc<str>> {
        (id % 2 == 1).then(|| format!("CiliumNetworkPolicy demo/p spec.ingress[{id}]").into())
    }

    fn default_deny(&self, endpoint: u32, _: Direction) -> Option<Arc<str>> {
        endpoint.is_multiple_of(2).then(|| "CiliumNetworkPolicy demo/p spec".into())
    }
}

/// A record goes to the command line as JSON and from there to a terminal or a script, and a filter
/// for what it says finds it.
pub fn shown_and_read_again(record: FlowRecord) {
    let record = Arc::new(record);
    for line in [compact::line(&record, Style::Plain), table::line(&record, Style::Plain)] {
        let speaks = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!line.contains(speaks), "{line:?}");
    }
    let line = FlowLine::Flow(record.clone());
    let json = serde_json::to_string(&line).expect("JSON");
    assert_eq!(serde_json::from_str::<FlowLine>(&json).expect("the same JSON"), line, "{json}");

    let wanted = FlowFilter {
        verdict: vec![record.verdict],
        layer: vec![record.layer],
        identity: vec![record.source.identity],
        port: vec![record.destination.port],
        ip: record.source.ip.map(Into::into).into_iter().collect(),
        from_label: record.source.labels.iter().map(ToString::to_string).collect(),
        since: Some(record.time),
        ..FlowFilter::default()
    };
    let matches = |wanted: &FlowFilter| Filter::new(wanted).expect("a filter").matches(&record);
    assert!(matches(&wanted) && matches(&FlowFilter::default()));
    assert!(!matches(&FlowFilter { until: Some(record.time), ..wanted.clone() }));
    let other = record.destination.port ^ 1;
    assert!(!matches(&FlowFilter { port: vec![other], ..wanted }));
}
