//! What is legal and probably not meant, and what is not enforced yet.

use super::{accepted, ccnp, cnp, knp, rule_in};
use crate::model::{Document, Note};

fn has(notes: &[Note], path: &str, text: &str) -> bool {
    notes.iter().any(|note| note.path == path && note.text.contains(text))
}

#[track_caller]
fn warns(document: &str, path: &str, text: &str) {
    let Document { warnings, .. } = accepted(document);
    assert!(has(&warnings, path, text), "{document}\n{path}: {text}\n{warnings:?}");
}

#[test]
fn warnings() {
    for (section, rule, path, text) in [
        ("ingress", "fromEndpoints: []", "fromEndpoints", "selects nobody"),
        ("ingress", "{fromEndpoints: [], fromCIDR: [1.0.0.0/8]}", "fromEndpoints", "selects nobody"),
        ("egress", "{toFQDNs: [], toPorts: [{ports: [{port: '80'}]}]}", "toFQDNs", "selects nobody"),
        ("egress", "toServices: []", "toServices", "selects nobody"),
        ("ingress", "toPorts: [{}]", "toPorts[0]", "matches nothing"),
        ("ingress", "toPorts: [{ports: []}]", "toPorts[0]", "matches nothing"),
        ("ingress", "toPorts: [{rules: {http: [{}]}}]", "toPorts[0]", "matches nothing"),
        ("ingress", "icmps: [{}]", "icmps[0]", "matches nothing"),
        (
            "ingress",
            "fromEndpoints: [{matchExpressions: [{key: reserved:host, operator: DoesNotExist}]}]",
            "fromEndpoints[0]",
            "all namespaces and the world",
        ),
        (
            "ingress",
            "fromEndpoints: [{matchLabels: {pod-template-hash: x}}]",
            "fromEndpoints[0].matchLabels[\"pod-template-hash\"]",
            "never matches",
        ),
        (
            "ingress",
            "fromEndpoints: [{matchLabels: {kubernetes.io/os: linux}}]",
            "fromEndpoints[0].matchLabels[\"kubernetes.io/os\"]",
            "never matches",
        ),
        (
            "ingress",
            "fromEndpoints: [{matchLabels: {k8s.app: web}}]",
            "fromEndpoints[0].matchLabels[\"k8s.app\"]",
            "write \"k8s:app\"",
        ),
    ] {
        warns(&rule_in(section, rule), &format!("spec.{section}[0].{path}"), text);
    }
    let no_rule = cnp("endpointSelector: {}\nenableDefaultDeny: {egress: true}\ningress: [{}]");
    warns(&no_rule, "spec.enableDefaultDeny.egress", "does nothing");
    let deny = cnp("endpointSelector: {}\ningressDeny: [{fromEntities: [world]}]");
    warns(&deny, "spec.ingressDeny", "switch default deny on");
    let log = cnp("endpointSelector: {}\nlog: {value: x}\ningress: [{}]");
    warns(&log, "spec.log.value", "flow records");
    warns(&knp("podSelector: {}\npolicyTypes: [Egress]\ningress: [{}]"), "spec.ingress", "is ignored");
    warns(&knp("policyTypes: [Egress]"), "spec.podSelector", "every pod");
    warns(&knp("podSelector: {}\ningress: [{from: }]"), "spec.ingress[0].from", "has no value");
    let clusterwide =
        ccnp("endpointSelector: {}\ningress: [{}]").replace("{name: p}", "{name: p, namespace: x}");
    warns(&clusterwide, "metadata.namespace", "does nothing");
}

#[test]
fn usual_documents_have_no_warnings() {
    for text in [
        cnp("endpointSelector: {}\ningress: [{}]\negress: [{}]"),
        cnp(
            "endpointSelector: {}\nenableDefaultDeny: {ingress: false}\ningressDeny: [{fromEntities: [world]}]",
        ),
        rule_in("ingress", "fromEndpoints: [{matchLabels: {reserved:host: ''}}]"),
        rule_in(
            "ingress",
            "fromEndpoints: [{matchLabels: {app.kubernetes.io/name: x, k8s:io.kubernetes.pod.namespace: y}}]",
        ),
        rule_in("ingress", "toPorts: []"),
        knp("podSelector: {}\ningress: [{}]"),
    ] {
        assert_eq!(accepted(&text).warnings, [], "{text}");
    }
}

#[test]
fn not_enforced() {
    let tcp = "ports: [{port: '443', protocol: TCP}]";
    let tls = "terminatingTLS: {secret: {name: s}}, originatingTLS: {secret: {name: s}}";
    for (rule, path, what) in [
        ("toFQDNs: [{matchName: a.com}]".to_owned(), "toFQDNs[0]", "DNS names"),
        ("toServices: [{k8sService: {serviceName: s}}]".to_owned(), "toServices[0]", "services"),
        ("toGroups: [{aws: {region: r}}]".to_owned(), "toGroups[0]", "groups"),
        ("toCIDRSet: [{cidrGroupRef: g}]".to_owned(), "toCIDRSet[0].cidrGroupRef", "CIDR groups"),
        ("toCIDRSet: [{cidrGroupSelector: {}}]".to_owned(), "toCIDRSet[0].cidrGroupSelector", "CIDR groups"),
        ("toNodes: [{}]".to_owned(), "toNodes[0]", "nodes"),
        ("authentication: {mode: required}".to_owned(), "authentication", "authentication"),
        (
            "toPorts: [{ports: [{port: '53'}], rules: {dns: [{}]}}]".replace("{}", "{matchPattern: '*'}"),
            "toPorts[0].rules.dns",
            "DNS rules",
        ),
        (
            format!("toPorts: [{{{tcp}, rules: {{l7proto: r2d2, l7: [{{cmd: READ}}]}}}}]"),
            "toPorts[0].rules.l7proto",
            "L7 protocols",
        ),
        (format!("toPorts: [{{{tcp}, serverNames: ['*.a.com']}}]"), "toPorts[0].serverNames", "server names"),
        (format!("toPorts: [{{{tcp}, {tls}}}]"), "toPorts[0].originatingTLS", "TLS"),
        (
            format!("toPorts: [{{{tcp}, listener: {{name: l, envoyConfig: {{name: c}}}}}}]"),
            "toPorts[0].listener",
            "listeners",
        ),
        (
            format!(
                "toPorts: [{{{tcp}, rules: {{http: [{{headerMatches: [{{name: x, secret: {{name: s}}}}]}}]}}}}]"
            ),
            "toPorts[0].rules.http[0].headerMatches[0].secret",
            "secrets",
        ),
    ] {
        let document = accepted(&rule_in("egress", &rule));
        let path = format!("spec.egress[0].{path}");
        assert!(
            has(&document.not_enforced, &path, "not enforced yet: "),
            "{path}: {:?}",
            document.not_enforced
        );
        assert!(has(&document.not_enforced, &path, what), "{path}: {:?}", document.not_enforced);
    }
    let host = accepted(&ccnp("nodeSelector: {}\ningress: [{}]"));
    assert!(has(&host.not_enforced, "spec.nodeSelector", "hosts"));
    let off = accepted(&rule_in("egress", "authentication: {mode: disabled}"));
    assert_eq!(off.not_enforced, []);
}
