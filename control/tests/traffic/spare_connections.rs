//! Connections to a server whose clients have left: the next one of the same workload gets them.

use std::net::IpAddr;

use crate::{
    netlab::{Lab, Namespace, WORLD_V4, WORLD_V6, eventually},
    policies::{cnp, http_port},
};

/// The proxy has two threads, each with its own.
const THREADS: usize = 2;

/// Connections that the server has with a client, as it sees it.
fn open(server: &Namespace, client: IpAddr) -> usize {
    let shown = server.run("ss", &["-Htn", "state", "established", "sport", "=", ":80"]).stdout;
    let peer = match client {
        IpAddr::V4(ip) => format!("{ip}:"),
        IpAddr::V6(ip) => format!("[{ip}]:"),
    };
    shown.lines().filter(|line| line.split_whitespace().any(|word| word.starts_with(&peer))).count()
}

#[test]
fn clients_of_one_workload_take_each_others_connections() {
    let lab = Lab::new();
    let (web, one, two) = (lab.workload("web"), lab.workload("one"), lab.workload("two"));
    let nginx = lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /public.*}"))));
    let world = [WORLD_V4, WORLD_V6].map(|address| address.parse().expect("an address"));
    let clients = [(&one.ns, one.addresses()), (&two.ns, two.addresses()), (&lab.world, world)];
    for (at, to) in web.at(80).into_iter().enumerate() {
        for (number, (client, own)) in clients.iter().enumerate() {
            for round in 0..10 {
                let path = format!("/public/{at}/{number}/{round}");
                client.expect_status(200, to, &path, &["-H", "Connection: close"]);
                client.expect_status(403, to, "/private", &[]);
                assert!((1..=THREADS).contains(&open(&web.ns, own[at])), "{:?}", own[at]);
            }
        }
        // The server has always been told who asks.
        let log = eventually("the server logs all", || {
            let log = nginx.log();
            log.contains(&format!("/public/{at}/2/9 ")).then_some(log)
        });
        for (number, (_, own)) in clients.iter().enumerate() {
            for round in 0..10 {
                let line = format!("{} HTTP/1.1 GET /public/{at}/{number}/{round} 200", own[at]);
                assert!(log.contains(&line), "{line}\n{log}");
            }
        }
        for (_, own) in clients {
            eventually("nobody takes them any more", || (open(&web.ns, own[at]) == 0).then_some(()));
        }
    }
}

#[test]
fn a_client_that_comes_from_the_same_port_again_is_served() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /public.*}"))));
    let port = ["--local-port", "40000", "-H", "Connection: close"];
    for to in web.at(80) {
        for _ in 0..3 {
            client.ns.expect_status(200, to, "/public", &port);
            // Its own connection cannot have the client's port: what was left has it.
            client.ns.expect_status(200, to, "/public", &[&port[..], &["-X", "POST", "-d", "x"]].concat());
            client.ns.expect_status(403, to, "/private", &port);
        }
    }
}
