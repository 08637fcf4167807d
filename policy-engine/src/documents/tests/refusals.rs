//! Tables of refused documents: the text, the place of the problem, a part of its reason.

mod ports;

use super::{ccnp, cnp, knp, refused, rule_in};

type Row = (&'static str, &'static str, &'static str);

#[track_caller]
fn check(document: &str, path: &str, reason: &str) {
    let error = refused(document);
    let found = error.problems.iter().any(|p| p.path == path && p.reason.contains(reason));
    assert!(found, "wanted {path}: …{reason}…\nof\n{document}\ngot\n{error}");
}

#[track_caller]
fn check_rules(section: &str, rows: &[Row]) {
    for (rule, path, reason) in rows {
        let path =
            if path.is_empty() { format!("spec.{section}[0]") } else { format!("spec.{section}[0].{path}") };
        check(&rule_in(section, rule), &path, reason);
    }
}

#[test]
fn ingress_peers() {
    check_rules(
        "ingress",
        &[
            ("fromEndpoint: [{}]", "fromEndpoint", "did you mean \"fromEndpoints\"?"),
            ("toEndpoints: [{}]", "toEndpoints", "in ingress write fromEndpoints"),
            ("toFQDNs: []", "toFQDNs", "egress"),
            (
                "{fromEndpoints: [{}], fromEntities: [all]}",
                "",
                "one kind of peer, not fromEndpoints and fromEntities",
            ),
            ("fromEndpoints: {}", "fromEndpoints", "is a mapping; a list"),
            ("fromEndpoints:", "fromEndpoints", "has no value"),
            ("fromEndpoints: [~]", "fromEndpoints[0]", "has no value"),
            ("fromRequires: [{}]", "fromRequires", "selectors of fromEndpoints"),
            ("fromCIDR: [192.168.1.5]", "fromCIDR[0]", "write \"192.168.1.5/32\""),
            ("fromCIDR: [10.0.0.0/33]", "fromCIDR[0]", "from 0 to 32"),
            ("fromCIDR: [8]", "fromCIDR[0]", "write it in quotes: \"8\""),
            (
                "fromCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/8]}]",
                "fromCIDRSet[0].except[0]",
                "within 10.0.0.0/8",
            ),
            ("fromCIDRSet: [{cidr: 10.0.0.0/8, except: ['::/0']}]", "fromCIDRSet[0].except[0]", "within"),
            ("fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/4]}]", "fromCIDRSet[0].except[0]", "within"),
            ("fromCIDRSet: [{except: [10.0.0.0/8]}]", "fromCIDRSet[0]", "exactly one of"),
            (
                "fromCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: g}]",
                "fromCIDRSet[0]",
                "cidr and cidrGroupRef are there",
            ),
            ("fromCIDRSet: [{cidrGroupRef: G}]", "fromCIDRSet[0].cidrGroupRef", "lower-case"),
            ("fromEntities: [everybody]", "fromEntities[0]", "write one of all, world"),
            ("fromEntities: [World]", "fromEntities[0]", "write \"world\""),
            ("authentication: {}", "authentication.mode", "is missing"),
            ("authentication: {mode: always}", "authentication.mode", "write one of disabled"),
        ],
    );
}

#[test]
fn egress_peers() {
    check_rules(
        "egress",
        &[
            ("fromEndpoints: [{}]", "fromEndpoints", "in egress write toEndpoints"),
            ("{toCIDR: [1.1.1.1/32], toFQDNs: [{matchName: a.b}]}", "", "toCIDR and toFQDNs"),
            ("toFQDNs: [{matchName: 'exa mple.com'}]", "toFQDNs[0].matchName", "no DNS name"),
            ("toFQDNs: [{matchName: '*.example.com'}]", "toFQDNs[0].matchName", "write it as matchPattern"),
            ("toFQDNs: [{matchPattern: 'a..b'}]", "toFQDNs[0].matchPattern", "no DNS name"),
            ("toFQDNs: [{matchName: a.com, matchPattern: '*.com'}]", "toFQDNs[0]", "both are there"),
            ("toFQDNs: [{}]", "toFQDNs[0]", "none is there"),
            ("toServices: [{}]", "toServices[0]", "names no service"),
            (
                "toServices: [{k8sServiceSelector: {}}]",
                "toServices[0].k8sServiceSelector.selector",
                "is missing",
            ),
            ("toRequires: [a]", "toRequires", "selectors of toEndpoints"),
        ],
    );
}

#[test]
fn deny_rules() {
    check_rules(
        "ingressDeny",
        &[
            (
                "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]",
                "toPorts[0].rules",
                "only an allow rule",
            ),
            ("authentication: {mode: required}", "authentication", "no sense in a deny rule"),
            ("icmps: [{fields: [{type: 300}]}]", "icmps[0].fields[0].type", "0 to 255"),
        ],
    );
    check_rules("egressDeny", &[("toFQDNs: [{matchName: a.com}]", "toFQDNs", "does not work in deny rules")]);
}

#[test]
fn selectors() {
    check_rules(
        "ingress",
        &[
            ("fromEndpoints: [{matchLabel: {a: b}}]", "fromEndpoints[0].matchLabel", "\"matchLabels\""),
            (
                "fromEndpoints: [{matchLabels: {a: 1}}]",
                "fromEndpoints[0].matchLabels[\"a\"]",
                "write it in quotes: \"1\"",
            ),
            (
                "fromEndpoints: [{matchLabels: {a: true}}]",
                "fromEndpoints[0].matchLabels[\"a\"]",
                "write it in quotes: \"true\"",
            ),
            (
                "fromEndpoints: [{matchLabels: {a: 'not a label!'}}]",
                "fromEndpoints[0].matchLabels[\"a\"]",
                "no label value",
            ),
            (
                "fromEndpoints: [{matchLabels: {'a b': c}}]",
                "fromEndpoints[0].matchLabels[\"a b\"]",
                "no label key",
            ),
            (
                "fromEndpoints: [{matchLabels: {'$host': ''}}]",
                "fromEndpoints[0].matchLabels[\"$host\"]",
                "no label key",
            ),
            (
                "fromEndpoints: [{matchLabels: {app: a, any:app: b}}]",
                "fromEndpoints[0].matchLabels[\"app\"]",
                "stands twice, with different values",
            ),
            (
                "fromEndpoints: [{matchLabels: {'a:b:c': ''}}]",
                "fromEndpoints[0].matchLabels[\"a:b:c\"]",
                "more than one colon",
            ),
            (
                "fromEndpoints: [{matchExpressions: [{operator: Exists}]}]",
                "fromEndpoints[0].matchExpressions[0].key",
                "is missing",
            ),
            (
                "fromEndpoints: [{matchExpressions: [{key: a, operator: Equals, values: [b]}]}]",
                "fromEndpoints[0].matchExpressions[0].operator",
                "write one of In, NotIn, Exists, DoesNotExist",
            ),
            (
                "fromEndpoints: [{matchExpressions: [{key: a, operator: In}]}]",
                "fromEndpoints[0].matchExpressions[0].values",
                "at least one value",
            ),
            (
                "fromEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]",
                "fromEndpoints[0].matchExpressions[0].values",
                "must be left out",
            ),
        ],
    );
}

#[test]
fn specs() {
    let some = "ingress: [{}]";
    let rows: [(String, &str, &str); 14] = [
        (cnp(some), "spec.endpointSelector", "is missing; write {}"),
        (cnp(&format!("endpointSelector:\n{some}")), "spec.endpointSelector", "has no value"),
        (ccnp(&format!("endpointSelector: {{}}\nnodeSelector: {{}}\n{some}")), "spec", "not both"),
        (cnp(&format!("nodeSelector: {{}}\n{some}")), "spec.nodeSelector", "CiliumClusterwideNetworkPolicy"),
        (cnp("endpointSelector: {}"), "spec", "has no rule"),
        (cnp("endpointSelector: {}\ningress: []\negressDeny: []"), "spec", "has no rule"),
        (cnp("endpointSelector: {}\ningres: [{}]"), "spec.ingres", "did you mean \"ingress\"?"),
        (
            cnp(&format!("endpointSelector: {{}}\nenableDefaultDeny: {{egress: 'no'}}\n{some}")),
            "spec.enableDefaultDeny.egress",
            "true or false",
        ),
        (
            cnp(&format!("endpointSelector: {{}}\nlabels: [{{value: x}}]\n{some}")),
            "spec.labels[0].key",
            "is missing",
        ),
        (
            cnp(&format!("endpointSelector: {{}}\nlog: {{value: {}}}\n{some}", "x".repeat(33))),
            "spec.log.value",
            "at most 32",
        ),
        (
            cnp(&format!(
                "endpointSelector: {{matchLabels: {{k8s:io.kubernetes.pod.namespace: other}}}}\n{some}"
            )),
            "spec.endpointSelector",
            "another namespace than the policy's own, \"default\"",
        ),
        (
            cnp(&format!(
                "endpointSelector: {{matchExpressions: [{{key: io.kubernetes.pod.namespace, operator: NotIn, values: [default]}}]}}\n{some}"
            )),
            "spec.endpointSelector",
            "another namespace",
        ),
        (
            ccnp(
                "nodeSelector: {}\ningress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]}]",
            ),
            "spec.ingress[0].toPorts[0].rules",
            "hosts",
        ),
        (
            ccnp(
                "nodeSelector: {}\negress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]}]",
            ),
            "spec.egress[0].toPorts[0].rules",
            "only DNS rules",
        ),
    ];
    for (text, path, reason) in rows {
        check(&text, path, reason);
    }
}

#[test]
fn heads() {
    let good = cnp("endpointSelector: {}\ningress: [{}]");
    for (from, to, path, reason) in [
        ("{name: p}", "{}", "metadata.name", "is missing"),
        ("{name: p}", "", "metadata.name", "is missing"),
        ("{name: p}", "{generateName: p-}", "metadata.name", "is missing"),
        ("{name: p}", "{name: P}", "metadata.name", "lower-case"),
        ("{name: p}", "{name: 1}", "metadata.name", "write it in quotes: \"1\""),
        ("{name: p}", "{name: p, namespace: a.b}", "metadata.namespace", "lower-case"),
        ("{name: p}", "{name: p, lables: {}}", "metadata.lables", "did you mean \"labels\"?"),
        ("{name: p}", "{name: p, labels: {a: 1}}", "metadata.labels[\"a\"]", "write it in quotes"),
        ("cilium.io/v2", "cilium.io/v1", "apiVersion", "write cilium.io/v2"),
        ("kind: CiliumNetworkPolicy", "kind: CiliumNetworkPolicies", "kind", "no policy that Tektin reads"),
        ("kind: CiliumNetworkPolicy", "kind: AdminNetworkPolicy", "kind", "no policy that Tektin reads"),
        ("kind: CiliumNetworkPolicy", "kind: NetworkPolicy", "apiVersion", "write networking.k8s.io/v1"),
        ("kind: CiliumNetworkPolicy", "", "kind", "is missing"),
        ("spec:", "spek:", "spek", "did you mean \"spec\"?"),
        ("spec:", "specs: []\nx:", "spec", "needs spec or specs"),
    ] {
        assert!(good.contains(from));
        check(&good.replacen(from, to, 1), path, reason);
    }
    check("just a text", "", "no Kubernetes object");
}

#[test]
fn network_policies() {
    let no_spec = knp("{}").replace("{}", "");
    check(&no_spec, "spec", "is missing");
    let rows: [Row; 21] = [
        ("ingress: [{from: [{ipBlock: {cidr: }}]}]", "spec.ingress[0].from[0].ipBlock.cidr", "has no value"),
        (
            "ingress: [{from: [{podSelector: {matchExpressions: [{key: , operator: Exists}]}}]}]",
            "spec.ingress[0].from[0].podSelector.matchExpressions[0].key",
            "has no value",
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.300/8}}]}]",
            "spec.ingress[0].from[0].ipBlock.cidr",
            "no IPv4",
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]",
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "within",
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]",
            "spec.ingress[0].from[0].ipBlock.except[0]",
            "all of the block",
        ),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]",
            "spec.ingress[0].from[0].ipBlock",
            "a peer of its own",
        ),
        ("ingress: [{from: [{}]}]", "spec.ingress[0].from[0]", "names nobody"),
        ("ingress: [{to: [{podSelector: {}}]}]", "spec.ingress[0].to", "in ingress write from"),
        ("egress: [{from: [{podSelector: {}}]}]", "spec.egress[0].from", "in egress write to"),
        (
            "ingress: [{ports: [{port: 80, protocol: HTTP}]}]",
            "spec.ingress[0].ports[0].protocol",
            "write one of TCP, UDP, SCTP",
        ),
        (
            "ingress: [{ports: [{port: '80'}]}]",
            "spec.ingress[0].ports[0].port",
            "write the number 80 without quotes",
        ),
        ("ingress: [{ports: [{port: HTTP}]}]", "spec.ingress[0].ports[0].port", "no port name"),
        ("ingress: [{ports: [{port: 0}]}]", "spec.ingress[0].ports[0].port", "from 1 to 65535"),
        ("ingress: [{ports: [{endPort: 80}]}]", "spec.ingress[0].ports[0].endPort", "needs port"),
        (
            "ingress: [{ports: [{port: 80, endPort: 79}]}]",
            "spec.ingress[0].ports[0].endPort",
            "below the port 80",
        ),
        ("ingress: [{ports: [{port: http, endPort: 79}]}]", "spec.ingress[0].ports[0].endPort", "named port"),
        ("policyTypes: [ingress]", "spec.policyTypes[0]", "write \"Ingress\""),
        ("policyTypes: [Ingress, Egress, Egress]", "spec.policyTypes", "at most the two"),
        (
            "ingress: [{from: [{podSelector: {matchLabels: {k8s:app: a}}}]}]",
            "spec.ingress[0].from[0].podSelector.matchLabels[\"k8s:app\"]",
            "no label key",
        ),
        ("ingressDeny: [{}]", "spec.ingressDeny", "unknown field"),
        ("endpointSelector: {}", "spec.endpointSelector", "unknown field"),
    ];
    for (text, path, reason) in rows {
        check(&knp(&format!("podSelector: {{}}\n{text}")), path, reason);
    }
}

#[test]
fn all_problems_are_told() {
    let error = refused(&cnp("endpointSelector: {}\ningress: [{fromCIDR: [1.1.1.1]}, {toPort: []}]"));
    assert_eq!(error.problems.len(), 2);
    let text = error.to_string();
    let start = "document 1 (CiliumNetworkPolicy default/p): spec.ingress[";
    assert!(text.lines().all(|line| line.starts_with(start)), "{text}");
}
