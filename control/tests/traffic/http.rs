//! Requests judged one by one.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use crate::{
    netlab::{
        HOST_IS_JUDGED, LIMIT, Lab, WORLD_V4, WORLD_V6,
        clients::{read_head, url},
        eventually,
    },
    policies::{cnp, documents, http_port},
};

/// curl's words for HTTP/1.1 and for HTTP/2 without TLS, with the port at which nginx speaks it.
const H1: (&str, u16) = ("--http1.1", 80);
const H2: (&str, u16) = ("--http2-prior-knowledge", 81);

const RULES: &str = "{method: GET, path: \"/public(/.*)?\"}, \
    {method: POST, path: /orders, headers: [\"X-Token: s3cret\"]}, \
    {method: GET, path: /hosted, host: \"shop[.]example(:[0-9]+)?\"}, \
    {method: PUT, path: \"/items/[0-9]+\", headers: [\"X-Any\"]}, \
    {method: GET, path: \"/search[?]q=.*\"}";

/// (status, path, further arguments of curl)
type Case = (u16, &'static str, &'static [&'static str]);

/// What [`RULES`] says of requests.
const CASES: &[Case] = &[
    (200, "/public", &[]),
    (200, "/public/a/b", &[]),
    (403, "/publicity", &[]),
    (403, "/private", &[]),
    (403, "/PUBLIC", &[]),
    (403, "/public", &["-X", "DELETE"]),
    (200, "/orders", &["-X", "POST", "-H", "X-Token: s3cret"]),
    (403, "/orders", &["-X", "POST", "-H", "X-Token: guess"]),
    (403, "/orders", &["-X", "POST"]),
    (403, "/orders", &["-H", "X-Token: s3cret"]),
    (200, "/hosted", &["-H", "Host: shop.example"]),
    (403, "/hosted", &["-H", "Host: shop.example.evil"]),
    (403, "/hosted", &[]),
    (200, "/items/7", &["-X", "PUT", "-H", "X-Any: thing"]),
    (403, "/items/7", &["-X", "PUT"]),
    (403, "/items/x", &["-X", "PUT", "-H", "X-Any: thing"]),
    (200, "/search?q=tea", &[]),
    (403, "/search?r=tea", &[]),
    // What is judged is the path's normal form, and it is what goes on.
    (403, "/public/../private", &[]),
    (403, "/public/%2e%2e/private", &[]),
    (200, "/x/../public", &[]),
];

/// `toPorts` with these rules at nginx's two ports.
fn both_ports(rules: &str) -> String {
    format!(
        "toPorts: [{{ports: [{{port: \"80\", protocol: TCP}}, {{port: \"81\", protocol: TCP}}], \
         rules: {{http: [{rules}]}}}}]"
    )
}

#[test]
fn ingress_rules_hold_for_http1_and_http2() {
    let lab = Lab::new();
    let (web, client, stranger) = (lab.workload("web"), lab.workload("client"), lab.workload("stranger"));
    lab.nginx(&web.ns);
    let ports = both_ports(RULES);
    lab.apply(&cnp(
        "web",
        "web",
        &format!("ingress:\n- fromEndpoints: [{{matchLabels: {{app: client}}}}]\n  {ports}"),
    ));
    for (version, port) in [H1, H2] {
        for ip in web.addresses() {
            for (status, path, args) in CASES {
                let to = SocketAddr::new(ip, port);
                let reply = client.ns.expect_status(*status, to, path, &[&[version], *args].concat());
                assert_eq!(reply.version, if port == 80 { "1.1" } else { "2" });
                if *status == 403 {
                    assert!(reply.body.contains("Access denied"), "{reply:?}");
                }
            }
            // Who may not enter at all meets silence, not a 403.
            stranger.ns.expect_silence(SocketAddr::new(ip, port));
        }
    }
    let reply = client.ns.expect_status(200, web.at(80)[0], "/x/./../public//a", &[]);
    assert!(reply.body.starts_with("GET /public/a from "), "the judged form goes on: {reply:?}");
}

#[test]
fn egress_rules_hold_towards_the_world() {
    let lab = Lab::new();
    let client = lab.workload("client");
    let other = lab.workload("other");
    let nginx = lab.nginx(&lab.world);
    let ports = both_ports(RULES);
    lab.apply(&cnp("client", "client", &format!("egress:\n- toEntities: [world]\n  {ports}")));
    for (version, port) in [H1, H2] {
        for ip in [WORLD_V4, WORLD_V6] {
            let to = SocketAddr::new(ip.parse().expect("an address"), port);
            for (status, path, args) in CASES {
                client.ns.expect_status(*status, to, path, &[&[version], *args].concat());
            }
            other.ns.expect_status(200, to, "/private", &[version]);
        }
    }
    // The outside sees the workload itself, not the node.
    let log = nginx.log();
    for ip in client.addresses() {
        assert!(log.contains(&format!("{ip} HTTP/1.1 GET /public 200")), "{log}");
        assert!(log.contains(&format!("{ip} HTTP/2.0 GET /public 200")), "{log}");
    }
    assert!(
        !log.contains(&format!("{} HTTP/1.1 GET /private", client.v4)),
        "a denied request went on:\n{log}"
    );
}

#[test]
fn ingress_rules_hold_for_the_world_and_for_the_node() {
    let rule = http_port(80, "{method: GET, path: /health}");
    let policy = cnp("web", "web", &format!("ingress: [{{fromEntities: [world, host], {rule}}}]"));
    let lab = Lab::prepared(HOST_IS_JUDGED, |_| ());
    let web = lab.workload("web");
    lab.nginx(&web.ns);
    lab.apply(&policy);
    for to in web.at(80) {
        for from in [&lab.world, &lab.node] {
            from.expect_status(200, to, "/health", &[]);
            from.expect_status(403, to, "/admin", &[]);
            from.expect_silence(SocketAddr::new(to.ip(), 81));
        }
    }
}

#[test]
fn the_node_that_may_always_enter_passes_every_request() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    let nginx = lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /health}"))));
    for to in web.at(80) {
        lab.node.expect_status(200, to, "/health", &[]);
        lab.node.expect_status(200, to, "/admin", &[]);
        client.ns.expect_status(403, to, "/admin", &[]);
    }
    let node = lab.json(&["status"])["node"].clone();
    for family in ["ipv4", "ipv6"] {
        let line = format!("{} HTTP/1.1 GET /admin 200", node[family].as_str().expect("an address"));
        assert!(nginx.log().contains(&line), "{line} in\n{}", nginx.log());
    }
}

#[test]
fn both_ends_are_judged_in_one_pass() {
    let lab = Lab::new();
    let (web, client, free) = (lab.workload("web"), lab.workload("client"), lab.workload("free"));
    let nginx = lab.nginx(&web.ns);
    let ingress = both_ports("{path: /both}, {path: /in}");
    let egress = both_ports("{path: /both}, {path: /out}");
    lab.apply(&documents(&[
        cnp("in", "web", &format!("ingress: [{{fromEndpoints: [{{}}], {ingress}}}]")),
        cnp(
            "out",
            "client",
            &format!("egress: [{{toEndpoints: [{{matchLabels: {{app: web}}}}], {egress}}}]"),
        ),
    ]));
    for (version, port) in [H1, H2] {
        for ip in web.addresses() {
            let to = SocketAddr::new(ip, port);
            client.ns.expect_status(200, to, "/both", &[version]);
            client.ns.expect_status(403, to, "/in", &[version]);
            client.ns.expect_status(403, to, "/out", &[version]);
            free.ns.expect_status(200, to, "/in", &[version]);
            free.ns.expect_status(403, to, "/out", &[version]);
        }
    }
    // One proxy, passed once: the server sees each request once, from the client's own address.
    let log = nginx.log();
    for ip in client.addresses() {
        for version in ["HTTP/1.1", "HTTP/2.0"] {
            let line = format!("{ip} {version} GET /both 200");
            assert_eq!(log.matches(&line).count(), 1, "{line} in\n{log}");
        }
    }
}

#[test]
fn the_server_sees_the_clients_own_address() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    let nginx = lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /.*}"))));
    for from in
        [(&client.ns, client.addresses()), (&lab.world, [WORLD_V4, WORLD_V6].map(|a| a.parse().expect("IP")))]
    {
        for (to, own) in web.at(80).into_iter().zip(from.1) {
            let reply = from.0.expect_status(200, to, "/who", &[]);
            assert!(reply.headers.contains(&format!("x-client: {own}\r\n")), "{own}: {reply:?}");
            // It writes its log after the answer.
            let line = format!("{own} HTTP/1.1 GET /who 200");
            eventually("the server logs the client's address", || nginx.log().contains(&line).then_some(()));
        }
    }
}

#[test]
fn an_upgrade_passes_after_an_allowed_request() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["http:80"]);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{method: GET, path: /chat}"))));
    for to in web.at(80) {
        let upgrade = |path: &str| {
            let mut stream = client.ns.connect(to, LIMIT).expect("a connection");
            stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGVrdGluIHRyYWZmaWMgIQ==\r\n\r\n"
            )
            .expect("a request");
            let head = read_head(&mut stream).expect("a response head");
            (stream, head)
        };
        let (mut stream, head) = upgrade("/chat");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // Frames of a WebSocket, whatever they hold, are none of the proxy's business any more.
        for size in [1, 125, 70_000] {
            let sent: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut writer = stream.try_clone().expect("a second handle");
            let mut back = vec![0; size];
            std::thread::scope(|s| {
                s.spawn(|| writer.write_all(&sent).expect("sent"));
                stream.read_exact(&mut back).expect("echoed");
            });
            assert!(back == sent, "{size} octets came back changed");
        }
        let (_, head) = upgrade("/other");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
}

#[test]
fn bodies_pass_whole_whatever_their_size() {
    const SIZE: usize = 24 << 20;
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["http:80"]);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /.*}"))));
    let file = lab.dir().join("body");
    let text: Vec<u8> = (0..SIZE).map(|i| ((i * 7 + i / 4096) % 256) as u8).collect();
    std::fs::write(&file, text).expect("a body");
    let digest = lab.node.run("sha256sum", &[&file.to_string_lossy()]).stdout;
    let digest = digest.split(' ').next().expect("a digest").to_owned();
    let upload = format!("@{}", file.display());
    for to in web.at(80) {
        for chunked in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
            let args = [&["--data-binary", &upload, "-H", "Expect:"], chunked].concat();
            let seen = client.ns.expect_status(200, to, "/up", &args).mirrored();
            assert_eq!(seen["length"], SIZE, "{seen}");
            assert_eq!(seen["sha256"], digest);
        }
        let out = lab.dir().join("down");
        let reply = client.ns.curl(LIMIT, &url(to, &format!("/big/{SIZE}")), &["-o", &out.to_string_lossy()]);
        assert_eq!((reply.status, reply.exit), (200, 0), "{reply:?}");
        let down = std::fs::read(&out).expect("the download");
        assert_eq!(down.len(), SIZE);
        assert!(down.iter().enumerate().all(|(i, b)| *b == (i % 256) as u8), "octets changed on the way");
    }
}

#[test]
fn header_matches_change_the_request_that_goes_on() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["http:80"]);
    let rule = "{method: GET, path: /.*, headerMatches: [\
        {name: X-Added, value: new, mismatch: ADD}, {name: X-Role, value: guest, mismatch: REPLACE}, \
        {name: X-Debug, value: \"off\", mismatch: DELETE}, {name: X-Seen, value: \"yes\", mismatch: LOG}]}";
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, rule))));
    let args = ["-H", "X-Role: admin", "-H", "X-Debug: on", "-H", "X-Seen: no"];
    for to in web.at(80) {
        let headers = client.ns.expect_status(200, to, "/", &args).mirrored()["headers"].clone();
        assert_eq!(headers["x-added"], "new", "{headers}");
        assert_eq!(headers["x-role"], "guest", "{headers}");
        assert_eq!(headers["x-debug"], serde_json::Value::Null, "{headers}");
        assert_eq!(headers["x-seen"], "no", "{headers}");
    }
    let deny = "{method: GET, headerMatches: [{name: X-Key, value: open}]}";
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, deny))));
    for to in web.at(80) {
        client.ns.expect_status(200, to, "/", &["-H", "X-Key: open"]);
        client.ns.expect_status(403, to, "/", &["-H", "X-Key: shut"]);
        client.ns.expect_status(403, to, "/", &[]);
    }
}

#[test]
fn proxied_connections_end_at_all_ends() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", both_ports("{path: /a}"))));
    for (version, port) in [H1, H2] {
        for ip in web.addresses() {
            for _ in 0..5 {
                client.ns.expect_status(200, (ip, port).into(), "/a", &[version]);
                client.ns.expect_status(403, (ip, port).into(), "/b", &[version]);
            }
        }
    }
    // Each side has had its last segment acknowledged: no socket waits for the other.
    for ns in [&web.ns, &client.ns, &lab.node] {
        eventually("no half-closed connection is left", || {
            let states = ["last-ack", "fin-wait-1", "closing", "close-wait"];
            let waiting = states.map(|state| ns.run("ss", &["-Htn", "state", state]).stdout);
            waiting.iter().all(|lines| lines.trim().is_empty()).then_some(())
        });
    }
    let counters = lab.json(&["status"])["counters"].clone();
    for reason in ["drop_not_from_proxy", "drop_proxied_no_socket"] {
        assert_eq!(
            counters[reason].as_u64().unwrap_or(0),
            0,
            "{counters:#}\n{}",
            lab.tektin(&["observe", "--last", "200", "--verdict", "dropped", "--output", "json"]).stdout
        );
    }
}

#[test]
fn a_connection_that_is_cut_leaves_no_drops() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["http:80"]);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /big/.*}"))));
    for to in web.at(80) {
        for _ in 0..5 {
            let mut stream = client.ns.connect(to, LIMIT).expect("a connection");
            stream.write_all(b"GET /big/25165824 HTTP/1.1\r\nHost: web\r\n\r\n").expect("sent");
            // Closed with octets unread and more on their way: a reset for each of them.
            stream.read_exact(&mut [0; 4096]).expect("the first octets");
        }
    }
    eventually("both sides are gone", || {
        let open = [&web.ns, &lab.node].map(|ns| ns.run("ss", &["-Htn", "state", "established"]).stdout);
        open.iter().all(|lines| lines.trim().is_empty()).then_some(())
    });
    let counters = lab.json(&["status"])["counters"].clone();
    assert_eq!(counters["drop_proxied_no_socket"], 0, "{counters:#}");
}
