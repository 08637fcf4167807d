//! What the model holds after reading: everything that a document leaves implicit.

use super::{accepted, ccnp, cnp, knp, rule, rule_in, spec};
use crate::grpc::{GrpcCall, Service};
use crate::model::{
    FqdnSelector, HeaderMatch, KafkaRequests, KafkaRule, L7, Mismatch, Operator, Peer, Peers, PortMatch,
    PortRef, Ports, Protocol, RequestRules, Selector, Subject,
};

/// `k8s:app=web,reserved:host,!x,y!=1|2`, in the order of the requirements.
fn text(selector: &Selector) -> String {
    let one = |r: &crate::model::Requirement| match &r.operator {
        Operator::In(values) => format!("{}={}", r.key, values.join("|")),
        Operator::NotIn(values) => format!("{}!={}", r.key, values.join("|")),
        Operator::Exists => r.key.to_string(),
        Operator::DoesNotExist => format!("!{}", r.key),
    };
    selector.requirements.iter().map(one).collect::<Vec<_>>().join(",")
}

fn peers(peers: &Peers) -> Vec<String> {
    let Peers::OneOf(list) = peers else { return vec!["anybody".to_owned()] };
    let one = |peer: &Peer| match peer {
        Peer::Labels(selector) => text(selector),
        Peer::Cidr { net, except } if except.is_empty() => net.to_string(),
        Peer::Cidr { net, except } => format!("{net} except {except:?}"),
        Peer::Fqdn(FqdnSelector::Name(name)) => name.clone(),
        Peer::Fqdn(FqdnSelector::Pattern(pattern)) => format!("pattern {pattern}"),
        Peer::Service(name) => format!("service {name}"),
        Peer::CidrGroup(name) => format!("group {name}"),
    };
    list.iter().map(one).collect()
}

fn ports(ports: &Ports) -> Vec<String> {
    let Ports::OneOf(rules) = ports else { return vec!["all".to_owned()] };
    let one = |port: &PortMatch| match &port.port {
        PortRef::Range(first, last) => format!("{first}-{last}/{:?}", port.protocol),
        PortRef::Named(name) => format!("{name}/{:?}", port.protocol),
    };
    rules.iter().map(|rule| rule.ports.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
}

const HERE: &str = "k8s:io.kubernetes.pod.namespace=default,k8s:io.cilium.k8s.policy.cluster=default";
const CLUSTER: &str = "k8s:io.cilium.k8s.policy.cluster=default";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const OF_NAMESPACE: &str = "k8s:io.cilium.k8s.namespace.labels";

#[test]
fn peers_of_a_namespace() {
    for (selector, wanted) in [
        ("{}", HERE.to_owned()),
        ("{matchLabels: {app: web}}", format!("app=web,{HERE}")),
        ("{matchLabels: {k8s:app: web, any:b: c}}", format!("b=c,k8s:app=web,{HERE}")),
        ("{matchExpressions: [{key: a, operator: NotIn, values: [x, z]}]}", format!("a!=x|z,{HERE}")),
        ("{matchLabels: {k8s:io.kubernetes.pod.namespace: b}}", format!("k8s:{NAMESPACE}=b,{CLUSTER}")),
        ("{matchLabels: {io.kubernetes.pod.namespace: b}}", format!("{NAMESPACE}=b,{CLUSTER}")),
        (
            "{matchExpressions: [{key: k8s:io.kubernetes.pod.namespace, operator: DoesNotExist}]}",
            format!("!k8s:{NAMESPACE},{CLUSTER}"),
        ),
        (
            "{matchLabels: {k8s:io.cilium.k8s.namespace.labels.team: a}}",
            format!("{OF_NAMESPACE}.team=a,{CLUSTER}"),
        ),
        (
            "{matchLabels: {io.cilium.k8s.policy.cluster: other}}",
            format!("io.cilium.k8s.policy.cluster=other,k8s:{NAMESPACE}=default"),
        ),
        ("{matchLabels: {reserved:host: ''}}", "reserved:host=".to_owned()),
        ("{matchExpressions: [{key: reserved:host, operator: DoesNotExist}]}", "!reserved:host".to_owned()),
        (
            "{matchLabels: {container:io.kubernetes.pod.namespace: x}}",
            format!("container:{NAMESPACE}=x,{HERE}"),
        ),
    ] {
        assert_eq!(
            peers(&rule("ingress", &format!("fromEndpoints: [{selector}]")).peers),
            [wanted],
            "{selector}"
        );
    }
}

#[test]
fn peers_of_a_clusterwide_policy() {
    for (subject, selector, wanted) in [
        ("{}", "{}", format!("k8s:{NAMESPACE},{CLUSTER}")),
        ("{}", "{matchLabels: {app: web}}", format!("app=web,k8s:{NAMESPACE},{CLUSTER}")),
        ("{}", "{matchLabels: {k8s:io.kubernetes.pod.namespace: b}}", format!("k8s:{NAMESPACE}=b,{CLUSTER}")),
        (
            "{}",
            "{matchLabels: {k8s:io.cilium.k8s.namespace.labels.team: a}}",
            format!("{OF_NAMESPACE}.team=a,k8s:{NAMESPACE},{CLUSTER}"),
        ),
        ("{}", "{matchLabels: {reserved:world: ''}}", "reserved:world=".to_owned()),
        ("{matchLabels: {reserved:init: ''}}", "{}", CLUSTER.to_owned()),
    ] {
        let text = format!("endpointSelector: {subject}\ningress: [{{fromEndpoints: [{selector}]}}]");
        let spec = spec(&ccnp(&text));
        assert_eq!(peers(&spec.ingress[0].peers), [wanted], "{subject} {selector}");
    }
}

#[test]
fn subjects() {
    let subject = |text: &str| match spec(text).subject {
        Subject::Endpoints(selector) => self::text(&selector),
        Subject::Nodes(selector) => format!("nodes {}", self::text(&selector)),
    };
    let own = format!("k8s:{NAMESPACE}=default");
    assert_eq!(subject(&cnp("endpointSelector: {}\ningress: [{}]")), own);
    assert_eq!(
        subject(&cnp("endpointSelector: {matchLabels: {app: a}}\ningress: [{}]")),
        format!("app=a,{own}")
    );
    let named = "endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: default}}\ningress: [{}]";
    assert_eq!(subject(&cnp(named)), own);
    assert_eq!(subject(&ccnp("endpointSelector: {}\ningress: [{}]")), "");
    assert_eq!(subject(&ccnp("nodeSelector: {matchLabels: {a: b}}\ningress: [{}]")), "nodes a=b");
    assert_eq!(subject(&knp("podSelector: {matchLabels: {app: a}}")), format!("k8s:app=a,{own}"));
}

#[test]
fn entities() {
    let entity = |name: &str| peers(&rule("egress", &format!("toEntities: [{name}]")).peers);
    assert_eq!(entity("all"), [""]);
    assert_eq!(entity("world"), ["reserved:world", "reserved:world-ipv4", "reserved:world-ipv6"]);
    assert_eq!(entity("world-ipv4"), ["reserved:world-ipv4"]);
    assert_eq!(entity("none"), ["reserved:none"]);
    assert_eq!(entity("remote-node"), ["reserved:remote-node"]);
    let members = ["host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver"];
    let mut cluster: Vec<String> = members.iter().map(|name| format!("reserved:{name}")).collect();
    cluster.push(CLUSTER.to_owned());
    assert_eq!(entity("cluster"), cluster);
    assert_eq!(entity("cluster-mesh").last().unwrap(), "k8s:io.cilium.k8s.policy.cluster");
}

#[test]
fn other_peers() {
    for (text, wanted) in [
        ("toCIDR: [10.1.2.3/8, '2001:db8::1/32']", vec!["10.0.0.0/8", "2001:db8::/32"]),
        ("toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.2.3/16]}]", vec!["10.0.0.0/8 except [10.1.0.0/16]"]),
        ("toCIDRSet: [{cidrGroupRef: g.h}]", vec!["group g.h"]),
        ("toFQDNs: [{matchName: A.Com.}, {matchPattern: '**.B.com'}]", vec!["a.com", "pattern **.b.com"]),
        ("toServices: [{k8sService: {serviceName: s, namespace: n}}]", vec!["service n/s"]),
        (
            "toNodes: [{matchLabels: {a: b}}]",
            vec!["a=b,reserved:remote-node,k8s:io.cilium.k8s.policy.cluster=default"],
        ),
        ("toGroups: [{aws: {region: r}}]", vec!["group {\"aws\":{\"region\":\"r\"}}"]),
    ] {
        assert_eq!(peers(&rule("egress", text).peers), wanted, "{text}");
    }
}

#[test]
fn empty_things() {
    for (rule_text, who, what) in [
        ("{}", vec![], vec!["all"]),
        ("toPorts: []", vec![], vec!["all"]),
        ("icmps: []", vec![], vec!["all"]),
        ("toPorts: [{ports: [{port: '80', protocol: TCP}]}]", vec!["anybody"], vec!["80-80/Tcp"]),
        ("toPorts: [{}]", vec!["anybody"], vec![""]),
        ("toPorts: [{ports: []}]", vec!["anybody"], vec![""]),
        ("{toEndpoints: [], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", vec![], vec!["80-80/Tcp"]),
        ("{toFQDNs: [], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", vec![], vec!["80-80/Tcp"]),
        ("{toServices: [], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", vec![], vec!["80-80/Tcp"]),
        ("{toGroups: [], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", vec![], vec!["80-80/Tcp"]),
        ("{toEndpoints: [], toCIDR: [1.0.0.0/8]}", vec![], vec!["all"]),
        ("{toEntities: [host], toPorts: []}", vec!["reserved:host"], vec!["all"]),
    ] {
        let rule = rule("egress", rule_text);
        assert_eq!(peers(&rule.peers), who, "{rule_text}");
        assert_eq!(ports(&rule.ports), what, "{rule_text}");
        assert_eq!(rule.origin.to_string(), "CiliumNetworkPolicy default/p spec.egress[0]");
    }
}

#[test]
fn port_forms() {
    let all = "0-65535/Tcp 0-65535/Udp 0-65535/Sctp";
    for (text, wanted) in [
        (
            "toPorts: [{ports: [{port: '80', protocol: TCP}, {port: '53', protocol: UDP}]}]",
            "80-80/Tcp 53-53/Udp",
        ),
        ("toPorts: [{ports: [{port: '80'}]}]", "80-80/Tcp 80-80/Udp 80-80/Sctp"),
        ("toPorts: [{ports: [{port: '0', protocol: ANY}]}]", all),
        ("toPorts: [{ports: [{port: '0', protocol: SCTP}]}]", "0-65535/Sctp"),
        ("toPorts: [{ports: [{port: '80', endPort: 90, protocol: TCP}]}]", "80-90/Tcp"),
        ("toPorts: [{ports: [{port: '80', endPort: 0, protocol: TCP}]}]", "80-80/Tcp"),
        ("toPorts: [{ports: [{port: Web, protocol: TCP}]}]", "web/Tcp"),
        ("icmps: [{fields: [{type: 0}, {type: EchoRequest}, {type: '3'}]}]", "0-0/Icmp 8-8/Icmp 3-3/Icmp"),
        (
            "icmps: [{fields: [{type: EchoRequest, family: IPv6}, {type: 1, family: IPv6}]}]",
            "128-128/Icmpv6 1-1/Icmpv6",
        ),
    ] {
        assert_eq!(ports(&rule("ingress", text).ports), [wanted], "{text}");
    }
}

#[track_caller]
fn l7(port_rule: &str) -> Option<L7> {
    let rule = rule("egress", &format!("toPorts: [{{ports: [{{port: '80', protocol: TCP}}], {port_rule}}}]"));
    let Ports::OneOf(mut rules) = rule.ports else { panic!("{port_rule}") };
    assert_eq!(rules[0].origin.path, "spec.egress[0].toPorts[0]");
    rules.remove(0).l7
}

#[test]
fn http_rules() {
    assert_eq!(l7("rules: {http: []}"), None);
    let text = "rules: {http: [{}, {method: GET, path: '', host: 'a\\.b', headers: [X-One, 'X-Two: a b', 'X-Three c'], \
        headerMatches: [{name: X, value: v, mismatch: ADD}, {name: Y}]}]}";
    let Some(L7::Http(RequestRules { http: rules, .. })) = l7(text) else { panic!("{text}") };
    assert_eq!((rules.len(), &rules[0].method, rules[0].headers.len()), (2, &None, 0));
    let second = &rules[1];
    assert_eq!(second.origin.path, "spec.egress[0].toPorts[0].rules.http[1]");
    assert_eq!(
        (second.method.as_deref(), second.path.as_deref(), second.host.as_deref()),
        (Some("GET"), None, Some("a\\.b"))
    );
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        second.headers,
        [header("x-one", None), header("x-two", Some("a b")), header("x-three", Some("c"))]
    );
    let wanted =
        |name: &str, value: &str, mismatch| HeaderMatch { name: name.into(), value: value.into(), mismatch };
    assert_eq!(second.header_matches, [wanted("x", "v", Mismatch::Add), wanted("y", "", Mismatch::Deny)]);
}

#[test]
fn grpc_rules() {
    assert_eq!(l7("rules: {grpc: []}"), None);
    assert_eq!(l7("rules: {http: [], grpc: []}"), None);
    let text =
        "rules: {grpc: [{}, {service: a.B, method: Get}, {service: a.*, method: '*'}, {service: '*'}]}";
    let Some(L7::Http(RequestRules { http, grpc })) = l7(text) else { panic!("{text}") };
    let call = |service, method: Option<&str>| GrpcCall { service, method: method.map(str::to_owned) };
    let calls: Vec<GrpcCall> = grpc.iter().map(|rule| rule.call.clone()).collect();
    let wanted = [
        call(Service::Any, None),
        call(Service::Named("a.B".to_owned()), Some("Get")),
        call(Service::Within("a".to_owned()), None),
        call(Service::Any, None),
    ];
    assert_eq!((calls, http.len()), (wanted.to_vec(), 0));
    assert_eq!(grpc[3].origin.path, "spec.egress[0].toPorts[0].rules.grpc[3]");
    // Both kinds are about the same requests, so they may stand in one list of rules.
    let both = "rules: {http: [{method: GET}], grpc: [{service: a.B}]}";
    let Some(L7::Http(RequestRules { http, grpc })) = l7(both) else { panic!("{both}") };
    assert_eq!((http.len(), grpc.len()), (1, 1));
}

#[test]
fn other_l7_rules() {
    assert_eq!(l7("rules: {dns: [{matchName: A.b}]}"), Some(L7::Dns(vec![FqdnSelector::Name("a.b".into())])));
    assert_eq!(l7("rules: {l7proto: r2d2}"), Some(L7::Other("r2d2".into())));
    assert_eq!(l7("serverNames: [a.com]"), Some(L7::Sni(vec!["a.com".into()])));
    assert_eq!(l7("terminatingTLS: {secret: {name: s}}"), Some(L7::Other("tls".into())));
    assert_eq!(l7("listener: {name: l, envoyConfig: {name: c}}"), Some(L7::Other("listener l".into())));
    let both = "terminatingTLS: {secret: {name: s}}, serverNames: [a.com], rules: {http: [{}]}";
    assert!(matches!(l7(both), Some(L7::Http(_))));
}

#[test]
fn default_deny() {
    let on = |text: &str| {
        let spec = spec(&cnp(&format!("endpointSelector: {{}}\n{text}")));
        (spec.default_deny_ingress, spec.default_deny_egress)
    };
    assert_eq!(on("ingress: [{}]"), (true, false));
    assert_eq!(on("ingressDeny: [{}]\negress: []"), (true, false));
    assert_eq!(on("egressDeny: [{}]\nenableDefaultDeny: {egress: false}"), (false, false));
    assert_eq!(on("ingress: [{}]\nenableDefaultDeny: {egress: true}"), (true, false));
    assert_eq!(on("ingress: [{}]\negress: [{}]\nenableDefaultDeny: {ingress: false}"), (false, true));
}

#[test]
fn spec_and_specs() {
    let text =
        cnp("endpointSelector: {}\ningress: [{}]") + "specs:\n- {endpointSelector: {}, egress: [{}]}\n";
    let origins: Vec<String> = accepted(&text).specs.iter().map(|spec| spec.origin.path.clone()).collect();
    assert_eq!(origins, ["spec", "specs[0]"]);
    let document = accepted(&rule_in("ingress", "{}").replace("{name: p}", "{name: p, namespace: ''}"));
    assert_eq!(document.id.to_string(), "CiliumNetworkPolicy default/p");
}

#[test]
fn network_policy_types() {
    let on = |text: &str| {
        let spec = spec(&knp(&format!("podSelector: {{}}\n{text}")));
        (spec.default_deny_ingress, spec.ingress.len(), spec.default_deny_egress, spec.egress.len())
    };
    assert_eq!(on(""), (true, 0, false, 0));
    assert_eq!(on("policyTypes: []\negress: []"), (true, 0, false, 0));
    assert_eq!(on("egress: [{}]"), (true, 0, true, 1));
    assert_eq!(on("policyTypes: [Egress]\ningress: [{}]"), (false, 0, true, 0));
    assert_eq!(on("policyTypes: [Ingress]\negress: [{}]\ningress: [{}, {}]"), (true, 2, false, 0));
}

#[test]
fn network_policy_rules() {
    for (text, who, what) in [
        ("{}", "anybody", "all"),
        ("{from: [], ports: []}", "anybody", "all"),
        ("{ports: [{port: 80}]}", "anybody", "80-80/Tcp"),
        ("{ports: [{protocol: UDP}]}", "anybody", "0-65535/Udp"),
        ("{ports: [{port: web, protocol: SCTP}]}", "anybody", "web/Sctp"),
        ("{ports: [{port: 80, endPort: 90}]}", "anybody", "80-90/Tcp"),
        ("{from: [{podSelector: {}}]}", HERE, "all"),
        (
            "{from: [{ipBlock: {cidr: 10.1.1.1/8, except: [10.1.0.0/16]}}]}",
            "10.0.0.0/8 except [10.1.0.0/16]",
            "all",
        ),
        ("{from: [{namespaceSelector: {}}]}", &format!("k8s:{NAMESPACE},{CLUSTER}"), "all"),
        (
            "{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}, podSelector: {matchLabels: {a: b}}}]}",
            &format!("k8s:a=b,{OF_NAMESPACE}.kubernetes.io/metadata.name=x,{CLUSTER}"),
            "all",
        ),
        (
            "{from: [{namespaceSelector: {matchExpressions: [{key: t, operator: NotIn, values: [u]}]}}]}",
            &format!("{OF_NAMESPACE}.t!=u,{CLUSTER}"),
            "all",
        ),
    ] {
        let document = accepted(&knp(&format!("podSelector: {{}}\ningress: [{text}]")));
        assert_eq!(document.warnings, [], "{text}");
        let rule = &document.specs[0].ingress[0];
        assert_eq!(
            (peers(&rule.peers), ports(&rule.ports)),
            (vec![who.to_owned()], vec![what.to_owned()]),
            "{text}"
        );
    }
    let spec = spec(&knp("podSelector: {}\ningress: [{ports: [{port: 1}, {port: 2}]}]"));
    let Ports::OneOf(rules) = &spec.ingress[0].ports else { panic!() };
    assert_eq!(rules[1].origin.to_string(), "NetworkPolicy default/p spec.ingress[0].ports[1]");
    assert_eq!(rules[1].ports[0].protocol, Protocol::Tcp);
}

#[test]
fn kafka_rules() {
    let Some(L7::Kafka(rules)) = l7(
        "rules: {kafka: [{role: Produce, topic: t-*, transactionalIds: [x, 'y*']}, {role: consume, groups: ['*']}, \
         {apiKey: offsets, apiVersion: '3', clientID: c, topic: ''}, {apiKey: ShareFetch}, {}]}",
    ) else {
        panic!("Kafka rules");
    };
    let paths: Vec<&str> = rules.iter().map(|rule| rule.origin.path.as_str()).collect();
    assert!(paths[1].ends_with("toPorts[0].rules.kafka[1]"), "{paths:?}");
    let none = |at: usize, requests| KafkaRule {
        origin: rules[at].origin.clone(),
        requests,
        api_version: None,
        client_id: None,
        topic: None,
        groups: None,
        transactional_ids: None,
    };
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        rules,
        [
            KafkaRule {
                topic: Some("t-*".into()),
                transactional_ids: names(&["x", "y*"]),
                ..none(0, KafkaRequests::Produce)
            },
            KafkaRule { groups: names(&["*"]), ..none(1, KafkaRequests::Consume) },
            KafkaRule {
                api_version: Some(3),
                client_id: Some("c".into()),
                ..none(2, KafkaRequests::ApiKey(2))
            },
            none(3, KafkaRequests::ApiKey(78)),
            none(4, KafkaRequests::Any),
        ]
    );
}
