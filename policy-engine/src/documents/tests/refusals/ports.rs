//! Ports, protocols, ICMP types and L7 rules that are refused.

use super::{Row, check, check_rules};
use crate::documents::tests::{accepted, rule_in};

#[test]
fn ports() {
    let path = "toPorts[0].ports[0].port";
    let rows: [Row; 24] = [
        ("toPorts: [{ports: [{port: 80}]}]", path, "is a number; write it in quotes: \"80\""),
        ("toPorts: [{ports: [{protocol: TCP}]}]", path, "write \"0\" for every port"),
        ("toPorts: [{ports: [{port: '0100'}]}]", path, "write \"100\""),
        ("toPorts: [{ports: [{port: '080'}]}]", path, "write \"80\""),
        ("toPorts: [{ports: [{port: '0x50'}]}]", path, "write \"80\""),
        ("toPorts: [{ports: [{port: '99999'}]}]", path, "no port"),
        ("toPorts: [{ports: [{port: a--b}]}]", path, "neither a port number nor a port name"),
        (
            "toPorts: [{ports: [{port: '80', protocol: tcp}]}]",
            "toPorts[0].ports[0].protocol",
            "write \"TCP\"",
        ),
        (
            "toPorts: [{ports: [{port: '80', protocol: ICMP}]}]",
            "toPorts[0].ports[0].protocol",
            "write an icmps rule",
        ),
        ("toPorts: [{ports: [{port: '0', protocol: GRE}]}]", "toPorts[0].ports[0].protocol", "not supported"),
        ("toPorts: [{ports: [{port: '80', protocol: HTTP}]}]", "toPorts[0].ports[0].protocol", "no protocol"),
        (
            "toPorts: [{ports: [{port: '80', endPort: 70000}]}]",
            "toPorts[0].ports[0].endPort",
            "from 0 to 65535",
        ),
        ("toPorts: [{ports: [{port: '80', endPort: '90'}]}]", "toPorts[0].ports[0].endPort", "is a string"),
        (
            "toPorts: [{ports: [{port: '80', endPort: 79}]}]",
            "toPorts[0].ports[0].endPort",
            "below the port 80",
        ),
        ("toPorts: [{ports: [{port: '0', endPort: 79}]}]", "toPorts[0].ports[0].endPort", "every port"),
        (
            "toPorts: [{ports: [{port: http, endPort: 79}]}]",
            "toPorts[0].ports[0].endPort",
            "named port \"http\"",
        ),
        ("toPorts: {ports: []}", "toPorts", "a list"),
        ("toPorts: [{port: '80'}]", "toPorts[0].port", "did you mean \"ports\"?"),
        (
            "{toPorts: [{ports: [{port: '80'}]}], icmps: [{fields: [{type: 8}]}]}",
            "icmps",
            "a rule of its own",
        ),
        ("icmps: [{fields: [{}]}]", "icmps[0].fields[0].type", "is missing"),
        ("icmps: [{fields: [{type: NoSuchType}]}]", "icmps[0].fields[0].type", "no ICMP type of IPv4"),
        ("icmps: [{fields: [{type: PacketTooBig}]}]", "icmps[0].fields[0].type", "no ICMP type of IPv4"),
        ("icmps: [{fields: [{type: '008'}]}]", "icmps[0].fields[0].type", "write 8"),
        ("icmps: [{fields: [{type: 8, family: ipv4}]}]", "icmps[0].fields[0].family", "write \"IPv4\""),
    ];
    check_rules("ingress", &rows);
    check_rules("egressDeny", &rows);
}

#[test]
fn at_most_forty_ports() {
    let list = |count: u32| -> String {
        let ports: Vec<String> = (1000..1000 + count).map(|port| format!("{{port: '{port}'}}")).collect();
        rule_in("ingress", &format!("toPorts: [{{ports: [{}]}}]", ports.join(", ")))
    };
    accepted(&list(40));
    check(&list(41), "spec.ingress[0].toPorts[0].ports", "has 41 ports; at most 40");
    let types = vec!["{type: 8}"; 41].join(", ");
    let text = rule_in("ingress", &format!("icmps: [{{fields: [{types}]}}]"));
    check(&text, "spec.ingress[0].icmps[0].fields", "at most 40");
}

#[test]
fn layer_seven() {
    const HTTP: &str = "toPorts[0].rules.http[0]";
    macro_rules! http {
        ($rule:literal) => {
            concat!("toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [", $rule, "]}}]")
        };
    }
    let field = |name: &str| format!("{HTTP}.{name}");
    for (rule, path, reason) in [
        (http!("{path: '('}"), field("path"), "no regular expression"),
        (http!("{path: '(?=a)'}"), field("path"), "no regular expression"),
        (http!("{path: '(a)\\1'}"), field("path"), "no regular expression"),
        (http!("{host: '[a'}"), field("host"), "no regular expression"),
        (http!("{methods: GET}"), field("methods"), "did you mean \"method\"?"),
        (http!("{headers: ['X:y']}"), field("headers[0]"), "write \"X: y\""),
        (http!("{headers: ['X:']}"), field("headers[0]"), "write \"X\""),
        (http!("{headers: ['']}"), field("headers[0]"), "no header name"),
        (http!("{headerMatches: [{value: x}]}"), field("headerMatches[0].name"), "is missing"),
        (
            http!("{headerMatches: [{name: x, mismatch: log}]}"),
            field("headerMatches[0].mismatch"),
            "write \"LOG\"",
        ),
    ] {
        check(&rule_in("ingress", rule), &format!("spec.ingress[0].{path}"), reason);
    }
    check_rules(
        "ingress",
        &[
            (
                "toPorts: [{ports: [{port: '80', protocol: UDP}], rules: {http: [{}]}}]",
                "toPorts[0].ports[0]",
                "need TCP",
            ),
            ("toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]", "toPorts[0].ports[0]", "need TCP"),
            (
                "toPorts: [{ports: [{port: '0', protocol: TCP}], rules: {http: [{}]}}]",
                "toPorts[0].ports[0]",
                "every port",
            ),
            (
                "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {}}]",
                "toPorts[0].rules",
                "names no protocol",
            ),
            (
                "toPorts: [{ports: [{port: '80', protocol: UDP}], rules: {grpc: [{}]}}]",
                "toPorts[0].ports[0]",
                "need TCP",
            ),
            (
                "toPorts: [{rules: {http: [{}], grpc: [{}], kafka: []}}]",
                "toPorts[0].rules",
                "one protocol, not http and grpc and kafka",
            ),
            (
                "toPorts: [{rules: {grpc: [{}, {service: 'a*'}]}}]",
                "toPorts[0].rules.grpc[1].service",
                "no service",
            ),
            (
                "toPorts: [{rules: {grpc: [{service: a.B/Get}]}}]",
                "toPorts[0].rules.grpc[0].service",
                "is a path",
            ),
            ("toPorts: [{rules: {grpc: [{service: ''}]}}]", "toPorts[0].rules.grpc[0].service", "no service"),
            (
                "toPorts: [{rules: {grpc: [{method: 'Get*'}]}}]",
                "toPorts[0].rules.grpc[0].method",
                "no method",
            ),
            ("toPorts: [{rules: {grpc: [{method: [Get]}]}}]", "toPorts[0].rules.grpc[0].method", ""),
            (
                "toPorts: [{rules: {grpc: [{services: a.B}]}}]",
                "toPorts[0].rules.grpc[0].services",
                "did you mean \"service\"?",
            ),
            ("toPorts: [{rules: {http: [], dns: []}}]", "toPorts[0].rules", "one protocol, not http and dns"),
            (
                "toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}]",
                "toPorts[0].rules",
                "only in egress",
            ),
            ("toPorts: [{rules: {l7: []}}]", "toPorts[0].rules.l7", "needs l7proto"),
            (
                "toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: []}]",
                "toPorts[0].serverNames",
                "is empty",
            ),
            (
                "toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [a.com], rules: {http: [{}]}}]",
                "toPorts[0].serverNames",
                "terminatingTLS",
            ),
            (
                "toPorts: [{ports: [{port: '80', protocol: TCP}], listener: {name: l, envoyConfig: {name: c}}}]",
                "toPorts[0].listener",
                "only in egress",
            ),
            ("toPorts: [{terminatingTLS: {}}]", "toPorts[0].terminatingTLS.secret", "is missing"),
        ],
    );
    check_rules(
        "egress",
        &[
            ("toPorts: [{rules: {dns: [{matchPattern: '*'}]}}]", "toPorts[0].ports", "port 53"),
            (
                "toPorts: [{ports: [{port: '53', endPort: 54}], rules: {dns: [{matchName: a}]}}]",
                "toPorts[0].ports[0]",
                "one by one",
            ),
            (
                "toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: '*'}]}}]",
                "toPorts[0].rules.dns[0].matchName",
                "matchPattern",
            ),
            (
                "toPorts: [{listener: {name: l, envoyConfig: {name: c}}, rules: {http: [{}]}}]",
                "toPorts[0].listener",
                "does not go with L7 rules",
            ),
            (
                "toPorts: [{listener: {name: l, priority: 101, envoyConfig: {name: c}}}]",
                "toPorts[0].listener.priority",
                "1 to 100",
            ),
        ],
    );
}

#[test]
fn kafka() {
    const KAFKA: &str = "toPorts[0].rules.kafka[0]";
    for (rule, field, reason) in [
        ("{role: producer}", "role", "\"produce\""),
        ("{apiKey: prodce}", "apiKey", "\"produce\""),
        ("{role: produce, apiKey: fetch}", "role", "does not go with apiKey"),
        ("{apiVersion: x}", "apiVersion", "no version"),
        ("{apiVersion: 1}", "apiVersion", "write it in quotes: \"1\""),
        ("{topic: 'a b'}", "topic", "no topic"),
        ("{topic: 'a*b'}", "topic", "no topic"),
        ("{groups: []}", "groups", "is empty"),
        ("{groups: g}", "groups", "list"),
        ("{groups: ['g*g']}", "groups[0]", "at its end"),
        ("{transactionalIds: ['']}", "transactionalIds[0]", "no name"),
        ("{clientId: x}", "clientId", "did you mean \"clientID\"?"),
    ] {
        let text =
            format!("toPorts: [{{ports: [{{port: '9092', protocol: TCP}}], rules: {{kafka: [{rule}]}}}}]");
        check(&rule_in("ingress", &text), &format!("spec.ingress[0].{KAFKA}.{field}"), reason);
    }
}
