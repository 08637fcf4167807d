//! Packets between two workloads of one node: past its stack where nobody watches there, through it
//! where somebody does, judged alike.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    netlab::{LIMIT, Lab, Namespace, clients::SILENCE, clients::echoes, eventually},
    policies::{cnp, port},
};

const FIREWALL: &str =
    "table inet watch { chain forward { type filter hook forward priority 0; policy accept; counter; }; }";

/// Packets that the namespace's stack has forwarded, of both families.
fn forwarded(node: &Namespace) -> u64 {
    let read = |file: &str| node.run("cat", &[file]).success().stdout.clone();
    let (v4, v6) = (read("/proc/self/net/snmp"), read("/proc/self/net/snmp6"));
    let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|name| name == "ForwDatagrams").expect("a column");
    let v4: u64 = values.split(' ').nth(at).expect("a value").parse().expect("a number");
    let v6 = v6.lines().find(|line| line.starts_with("Ip6OutForwDatagrams")).expect("a line");
    v4 + v6.split_whitespace().last().expect("a value").parse::<u64>().expect("a number")
}

/// Whether a new connection to `to` went through the node's stack.
fn through_the_stack(lab: &Lab, from: &Namespace, to: SocketAddr) -> bool {
    let before = forwarded(&lab.node);
    from.expect_open(to);
    forwarded(&lab.node) != before
}

fn status(lab: &Lab) -> String {
    let status = lab.json(&["status"]);
    let features = status["features"].as_array().expect("a list");
    let direct = features.iter().find(|feature| feature["name"] == "direct delivery").expect("a feature");
    direct["note"].as_str().expect("a text").to_owned()
}

#[test]
fn the_short_way_ends_where_a_packet_filter_comes_and_begins_when_it_goes() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:80", "echo:81"]);
    lab.apply(&cnp("in", "web", &format!("ingress: [{{{}}}]", port(80, "TCP"))));
    for to in web.at(80) {
        assert!(!through_the_stack(&lab, &client.ns, to), "{to}");
    }
    let before = forwarded(&lab.node);
    client.ns.expect_silence(web.at(81)[0]);
    assert_eq!(forwarded(&lab.node), before);
    let mut stream = client.ns.connect(web.at(80)[0], LIMIT).expect("a connection");
    assert!(echoes(&mut stream, "first", LIMIT).expect("an echo"));

    lab.node.run("nft", &[FIREWALL]).success();
    eventually("the packet filter sees new connections", || {
        through_the_stack(&lab, &client.ns, web.at(80)[0]).then_some(())
    });
    assert!(status(&lab).contains("nftables chain inet watch forward"), "{}", status(&lab));
    let before = forwarded(&lab.node);
    assert!(echoes(&mut stream, "second", LIMIT).expect("an echo"), "the old one goes on");
    assert!(forwarded(&lab.node) > before, "and is seen as well");
    client.ns.expect_silence(web.at(81)[0]);

    lab.node.run("nft", &["delete table inet watch"]).success();
    eventually("back on the short way", || {
        (!through_the_stack(&lab, &client.ns, web.at(80)[1])).then_some(())
    });
}

#[test]
fn the_setting_decides() {
    let lab = Lab::prepared(&["--local-delivery", "stack"], |_| ());
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:80"]);
    assert!(through_the_stack(&lab, &client.ns, web.at(80)[0]));
    assert!(status(&lab).contains("switched off"), "{}", status(&lab));

    let lab = Lab::prepared(&["--local-delivery", "direct"], |lab| {
        lab.node.run("nft", &[FIREWALL]).success();
    });
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:80"]);
    assert!(!through_the_stack(&lab, &client.ns, web.at(80)[0]), "whoever watches");
}

#[test]
fn an_address_that_is_given_to_another_workload_brings_no_old_connection() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:80"]);
    let to = web.at(80)[0];
    let mut stream = client.ns.connect(to, LIMIT).expect("a connection");
    assert!(echoes(&mut stream, "first", LIMIT).expect("an echo"));
    lab.tektin(&["endpoint", "delete", "web"]).success();
    let ns = lab.namespace("heir");
    let ip = to.ip().to_string();
    lab.tektin(&["endpoint", "add", "heir", "--netns", ns.name(), "--label", "app=heir", "--ip", &ip])
        .success();
    lab.apply(&cnp("none", "heir", "ingress: [{fromEndpoints: [{matchLabels: {app: nobody}}]}]"));
    let received = |ns: &Namespace| {
        let text = ns.run("cat", &["/proc/self/net/snmp"]).success().stdout.clone();
        let values = text.lines().filter(|line| line.starts_with("Ip:")).nth(1).expect("values").to_owned();
        values.split(' ').nth(3).expect("InReceives").parse::<u64>().expect("a number")
    };
    let before = received(&ns);
    stream.set_read_timeout(Some(SILENCE.max(Duration::from_millis(500)))).expect("a limit");
    stream.write_all(b"still there?").expect("a full pipe");
    assert!(stream.read(&mut [0; 16]).is_err(), "nobody answers");
    assert_eq!(received(&ns), before, "and nobody hears it");
}
