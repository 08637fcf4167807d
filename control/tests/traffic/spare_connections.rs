//! Connections to a server whose clients have left: the next one of the same workload gets them.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use crate::{
    netlab::{LIMIT, Lab, Namespace, WORLD_V4, WORLD_V6, eventually},
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

/// Asks from this port, and reads to the end before it closes: the port is free again at once.
fn ask(client: &Namespace, from: SocketAddr, to: SocketAddr, request: &str) -> String {
    client.inside(|| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&from.into()).unwrap_or_else(|error| panic!("{from}: {error}"));
        socket.connect_timeout(&to.into(), LIMIT).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        write!(stream, "{request} HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .expect("the request goes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer to its end");
        answer
    })
}

#[test]
fn a_client_that_comes_from_the_same_port_again_is_served() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /public.*}"))));
    for (to, own) in web.at(80).into_iter().zip(client.addresses()) {
        let from = SocketAddr::new(own, 40_000);
        for _ in 0..3 {
            // Its own connection cannot have the client's port: what was left has it.
            for (request, status) in
                [("GET /public", "200"), ("POST /public", "200"), ("GET /private", "403")]
            {
                let answer = ask(&client.ns, from, to, request);
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            }
        }
    }
}
