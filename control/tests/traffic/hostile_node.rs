//! Nodes whose own settings stand in the way of transparent proxying.

use crate::{
    netlab::{HOST_IS_JUDGED, LIMIT, Lab, WORLD_V4, WORLD_V6, clients::Reach},
    policies::{cnp, documents, http_port, port},
};

/// Requests at ingress, at egress and at both, with and without a proxy, over both families.
fn traffic_is_judged_as_everywhere(lab: &Lab) {
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    let nginx = lab.nginx(&web.ns);
    lab.nginx(&lab.world);
    lab.serve(&web.ns, &["echo:7", "udp:53"]);
    let (both, world, tcp, udp) = (
        http_port(80, "{path: /a}, {path: /in}"),
        http_port(80, "{path: /a}"),
        port(7, "TCP"),
        port(53, "UDP"),
    );
    lab.apply(&documents(&[
        cnp("in", "web", &format!("ingress: [{{{both}}}, {{{tcp}}}, {{{udp}}}]")),
        cnp("out", "client", &format!("egress: [{{toEntities: [world], {world}}}, {{toEndpoints: [{{}}], {world}}}, {{toEndpoints: [{{}}], {tcp}}}, {{toEndpoints: [{{}}], {udp}}}]")),
    ]));
    for (ip, outside) in web.addresses().into_iter().zip([WORLD_V4, WORLD_V6]) {
        let outside: std::net::IpAddr = outside.parse().expect("an address");
        client.ns.expect_status(200, (ip, 80).into(), "/a", &[]);
        client.ns.expect_status(403, (ip, 80).into(), "/in", &[]);
        client.ns.expect_status(200, (outside, 80).into(), "/a", &[]);
        client.ns.expect_status(403, (outside, 80).into(), "/b", &[]);
        for from in [&lab.world, &lab.node] {
            from.expect_status(200, (ip, 80).into(), "/in", &[]);
            from.expect_status(403, (ip, 80).into(), "/b", &[]);
        }
        client.ns.expect_open((ip, 7).into());
        client.ns.expect_silence((ip, 8).into());
        assert_eq!(client.ns.udp((ip, 53).into(), LIMIT), Reach::Answered);
    }
    for ip in client.addresses() {
        assert!(nginx.log().contains(&format!("{ip} HTTP/1.1 GET /a 200")), "{}", nginx.log());
    }
}

#[test]
fn with_source_marks_in_route_checks() {
    let lab = Lab::prepared(HOST_IS_JUDGED, |lab| {
        lab.node.sysctl("net/ipv4/conf/all/src_valid_mark", "1");
        lab.node.sysctl("net/ipv4/tcp_fwmark_accept", "1");
    });
    traffic_is_judged_as_everywhere(&lab);
}

#[test]
fn with_strict_reverse_path_filtering() {
    let lab = Lab::prepared(HOST_IS_JUDGED, |lab| {
        for which in ["all", "default"] {
            lab.node.sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "1");
        }
        lab.node.sysctl("net/ipv4/conf/all/src_valid_mark", "1");
    });
    traffic_is_judged_as_everywhere(&lab);
}

#[test]
fn with_a_stateful_firewall_on_the_node() {
    let lab = Lab::prepared(HOST_IS_JUDGED, |lab| {
        // What distributions and container runtimes put there: connection tracking for everything,
        // and what it thinks invalid is dropped, in all three directions.
        let rules = "table inet firewall {
            chain forward {
                type filter hook forward priority 0; policy drop;
                ct state invalid counter drop
                ct state established,related counter accept
                ct state { new, untracked } accept
            }
            chain input {
                type filter hook input priority 0; policy accept;
                ct state invalid counter drop
                ct state established,related accept
            }
            chain output {
                type filter hook output priority 0; policy accept;
                ct state invalid counter drop
            }
        }";
        let file = lab.dir().join("firewall.nft");
        std::fs::write(&file, rules).expect("a ruleset");
        lab.node.run("nft", &["-f", &file.to_string_lossy()]).success();
        lab.node.sysctl("net/ipv4/conf/all/src_valid_mark", "1");
        lab.node.sysctl("net/ipv4/conf/all/rp_filter", "1");
    });
    traffic_is_judged_as_everywhere(&lab);
    let rules = lab.node.run("nft", &["list", "table", "inet", "firewall"]).success().stdout.clone();
    let idle = |rule: &str| rules.matches(&format!("{rule} counter packets 0 ")).count();
    assert_eq!(idle("ct state invalid"), 3, "nothing of ours is invalid to it:\n{rules}");
    assert_eq!(idle("ct state established,related"), 0, "it did watch the traffic:\n{rules}");
}
