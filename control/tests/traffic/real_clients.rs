//! The same answers for whatever program asks: nghttp, nghttpd, netcat, socat, Python, and curl on
//! its way from HTTP/1 to HTTP/2.

use std::net::SocketAddr;

use crate::{
    netlab::{LIMIT, Lab, Namespace, clients::url, eventually, process::Finished},
    policies::{cnp, documents, http_port, port},
    scripts::python,
};

/// A shell line in a namespace.
fn shell(ns: &Namespace, line: &str) -> Finished {
    ns.run("sh", &["-c", line])
}

#[test]
fn nghttp_and_nghttpd() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    let root = lab.dir().join("htdocs");
    std::fs::create_dir(&root).expect("a folder");
    for (name, text) in [("a", "from a"), ("b", "from b")] {
        std::fs::write(root.join(name), text).expect("a file");
    }
    let mut server = web.ns.command("nghttpd");
    server.args(["--no-tls", "-d", &root.to_string_lossy(), "80"]);
    lab.background(server);
    lab.listening(&web.ns, 80);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{method: GET, path: /a}"))));
    for to in web.at(80) {
        // Three streams of one connection, two answers.
        let seen = client.ns.run("nghttp", &["-v", &url(to, "/a"), &url(to, "/b"), &url(to, "/a?x")]);
        let log = &seen.success().stdout;
        assert_eq!(log.matches(":status: 200").count(), 1, "{log}");
        assert_eq!(log.matches(":status: 403").count(), 2, "{log}");
        assert!(log.contains("from a") && !log.contains("from b"), "{log}");
    }
}

#[test]
fn an_upgrade_to_http2_is_no_way_around() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    // This server says yes to every upgrade and then sends back what it gets.
    lab.serve(&web.ns, &["http:80"]);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{method: GET, path: /a}"))));
    for to in web.at(80) {
        for (status, path) in [("200", "/a"), ("403", "/b")] {
            let reply = client.ns.curl(LIMIT, &url(to, path), &["--http2"]);
            assert_eq!((reply.status.to_string().as_str(), reply.exit), (status, 0), "{path}: {reply:?}");
        }
        let form = "%{http_code}\\n";
        let (a, b) = (url(to, "/a"), url(to, "/b"));
        let seen = client.ns.run(
            "curl",
            &[
                "-sS",
                "--globoff",
                "-m",
                "20",
                "--http2",
                "-o",
                "/dev/null",
                "-o",
                "/dev/null",
                "-w",
                form,
                &a,
                &b,
            ],
        );
        assert_eq!(seen.success().stdout, "200\n403\n", "{seen:?}");
    }
}

#[test]
fn netcat_and_socat() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    for listen in ["TCP6-LISTEN:7,fork,reuseaddr", "UDP6-LISTEN:7,fork,reuseaddr"] {
        let mut server = web.ns.command("socat");
        server.args([listen, "PIPE"]);
        lab.background(server);
    }
    lab.listening(&web.ns, 7);
    let say = |ns: &Namespace, ip: &std::net::IpAddr, options: &str| {
        shell(ns, &format!("echo hello | nc {options} {ip} 7"))
    };
    for ip in web.addresses() {
        assert_eq!(say(&foe.ns, &ip, "-N -w 20").success().stdout, "hello\n");
    }
    let (tcp, udp) = (port(7, "TCP"), port(7, "UDP"));
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {tcp}}}]"),
    ));
    for ip in web.addresses() {
        assert_eq!(say(&client.ns, &ip, "-N -w 20").success().stdout, "hello\n");
        let silent = say(&foe.ns, &ip, "-v -N -w 1");
        assert!(silent.stderr.contains("timed out") && silent.stdout.is_empty(), "{silent:?}");
        assert_eq!(say(&client.ns, &ip, "-u -w 1").stdout, "", "no UDP");
    }
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {udp}}}]"),
    ));
    for ip in web.addresses() {
        assert_eq!(say(&client.ns, &ip, "-u -w 2").stdout, "hello\n");
        let silent = say(&client.ns, &ip, "-v -N -w 1");
        assert!(silent.stderr.contains("timed out"), "{silent:?}");
    }
}

#[test]
fn pipelined_and_ambiguous_requests_from_python() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    let nginx = lab.nginx(&web.ns);
    lab.apply(&documents(&[cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /a}")))]));
    let script = "
import re, socket, sys
s = socket.create_connection((sys.argv[1], 80), timeout=30)
s.sendall(sys.argv[2].encode().decode('unicode_escape').encode('latin-1'))
s.shutdown(socket.SHUT_WR)
got = b''
while piece := s.recv(65536):
    got += piece
print([status.decode() for status in re.findall(rb'HTTP/1[.][01] ([0-9]+)', got)])
";
    let send = |to: SocketAddr, bytes: &str| {
        let finished = python(&lab, &client.ns, script, &[&to.ip().to_string(), bytes]);
        finished.success().stdout.trim().to_owned()
    };
    for to in web.at(80) {
        let get = |path: &str| format!("GET {path} HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n");
        // Requests that come in one segment are judged one by one, and answered in their order.
        assert_eq!(send(to, &[get("/a"), get("/b"), get("/a")].concat()), "['200', '403', '200']");
        // A request that two servers could cut in two ways goes to no server.
        let smuggled = "POST /a HTTP/1.1\\r\\nHost: web\\r\\nContent-Length: 6\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\nGET /b HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n";
        assert_eq!(send(to, smuggled), "['400']");
        let twice =
            "GET /a HTTP/1.1\\r\\nHost: web\\r\\nContent-Length: 0\\r\\nContent-Length: 5\\r\\n\\r\\nGET /b";
        assert_eq!(send(to, twice), "['400']");
    }
    assert!(!nginx.log().contains("/b"), "{}", nginx.log());
    assert_eq!(nginx.log().matches("GET /a").count(), 4, "{}", nginx.log());
}

#[test]
fn a_clients_port_serves_again_at_once() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /a}"))));
    let mut port = 40404;
    for ip in web.addresses() {
        let mut times = 0;
        while times < 3 {
            let again = ["--local-port", &port.to_string(), "-H", "Connection: close"];
            client.ns.expect_status(200, (ip, 80).into(), "/a", &again);
            // The proxy closed first, so its side of the old connection lingers.
            let waits = |ns: &Namespace| {
                let waiting = ns.run("ss", &["-Htn", "state", "time-wait"]).stdout;
                waiting.contains(&format!(":{port}")).then_some(())
            };
            eventually("the proxy's side waits", || waits(&lab.node));
            times += 1;
            // Where both closed at once the client's side lingers, too, and it needs another port itself.
            if waits(&client.ns).is_some() {
                (port, times) = (port + 1, 0);
                assert!(port < 40420, "the client closes first");
            }
        }
    }
}
