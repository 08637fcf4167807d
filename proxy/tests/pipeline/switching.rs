//! Protocol switches: WebSocket and CONNECT after an allowed request, and never anything else.

use std::time::Duration;

use tektin_proxy::link_proto::Outcome;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::*;

const UPGRADE: &str = "GET /public/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

async fn read_some(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = vec![0; 4096];
    let octets = stream.read(&mut buffer).await.unwrap();
    buffer.truncate(octets);
    buffer
}

#[test]
fn raw_octets_pass_after_a_switch() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = proxy.connect().await;
        // The first frame comes with the request: it must not pass before the server has switched.
        client.send([UPGRADE.as_bytes(), b"\x81\x01a\n"].concat()).await;
        let (mut server, _) = listener.accept().await.unwrap();
        let head = String::from_utf8(read_some(&mut server).await).unwrap();
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        assert!(head.ends_with("\r\n\r\n"), "{head:?}");
        let mut early = [0];
        let waited = tokio::time::timeout(Duration::from_millis(50), server.read(&mut early)).await;
        assert!(waited.is_err(), "octets before the switch");

        server.write_all(SWITCH.as_bytes()).await.unwrap();
        let (head, _) = client.response().await;
        assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
        assert_eq!(read_some(&mut server).await, b"\x81\x01a\n");
        server.write_all(b"\x00\xffback").await.unwrap();
        assert_eq!(read_some(&mut client.0).await, b"\x00\xffback");
        client.send(b"GET /secret HTTP/1.1\r\n\r\n").await;
        assert_eq!(read_some(&mut server).await, b"GET /secret HTTP/1.1\r\n\r\n");
        assert_eq!(proxy.record(0).await.http.unwrap().status, 101);
    });
}

#[test]
fn without_a_switch_the_stream_stays_http() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(format!("{UPGRADE}GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(client.status().await, 200);
        assert_eq!(client.status().await, 403);
        assert!(!backend.saw().contains("secret"));
    });
}

#[test]
fn a_denied_upgrade_does_not_switch() {
    run(async {
        let backend = Backend::start(SWITCH).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(UPGRADE.replace("/public/ws", "/secret")).await;
        assert_eq!(client.status().await, 403);
        client.send("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 403);
        assert_eq!(backend.saw(), "");
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_an_upstream_failure() {
    run(async {
        for (request, switch) in [
            ("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n", SWITCH.to_owned()),
            (UPGRADE, SWITCH.replace("websocket", "h2c")),
            (UPGRADE, SWITCH.replace("Upgrade: websocket\r\n", "")),
        ] {
            let backend = Backend::start(switch.leak()).await;
            let proxy = Proxy::start(backend.address, public_only()).await;
            let mut client = proxy.connect().await;
            client.send(request).await;
            assert_eq!(client.status().await, 502, "{request}");
            assert_eq!(proxy.record(0).await.outcome(), Outcome::UpstreamFailed);
        }
    });
}

#[test]
fn a_tunnel_ends_when_its_request_is_no_longer_allowed() {
    run(async {
        let backend = Backend::start(SWITCH).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(UPGRADE).await;
        assert_eq!(client.status().await, 101);
        // Still allowed: nothing happens.
        proxy.switch(update(None, Some(rules(vec![path("/public/ws")]))));
        let mut octet = [0];
        assert!(tokio::time::timeout(Duration::from_millis(50), client.0.read(&mut octet)).await.is_err());
        proxy.switch(update(None, Some(rules(vec![path("/other")]))));
        assert_eq!(client.rest().await, "");
        assert_eq!(proxy.record(1).await.outcome(), Outcome::Denied);
    });
}

#[test]
fn connect_is_a_request_like_any_other() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy =
            Proxy::start(listener.local_addr().unwrap(), update(None, Some(rules(vec![method("CONNECT")]))))
                .await;
        let mut client = proxy.connect().await;
        client.send("CONNECT far:443 HTTP/1.1\r\nHost: far:443\r\n\r\n").await;
        let (mut server, _) = listener.accept().await.unwrap();
        let head = String::from_utf8(read_some(&mut server).await).unwrap();
        assert!(head.starts_with("CONNECT far:443 HTTP/1.1\r\n"), "{head}");
        server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert_eq!(client.status().await, 200);
        client.send(b"\x16\x03").await;
        assert_eq!(read_some(&mut server).await, b"\x16\x03");
    });
}
