//! The server's side of the proxy.

use tektin_proxy::link_proto::{HeaderMatch, HttpRule, Mismatch, Outcome};
use tokio::net::TcpListener;

use crate::harness::*;

const REQUEST: &str = "GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_server_that_refuses_connections_is_a_502() {
    run(async {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(REQUEST).await;
        assert_eq!(client.status().await, 502);
        let record = proxy.record(0).await;
        assert_eq!(record.outcome(), Outcome::UpstreamFailed);
        assert!(record.reason.starts_with("cannot connect"), "{}", record.reason);
        assert_eq!(record.ingress_rule, 1);
    });
}

#[test]
fn what_the_server_closes_is_closed_towards_the_client() {
    run(async {
        let backend =
            Backend::start("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(REQUEST).await;
        let (head, _) = client.response().await;
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_server_that_left_between_two_requests_is_dialled_again() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = proxy.connect().await;
        for _ in 0..3 {
            client.send(REQUEST).await;
            let (mut server, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut server, &mut buffer).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut server, OK.as_bytes()).await.unwrap();
            assert_eq!(client.status().await, 200);
        }
    });
}

#[test]
fn nothing_is_added_to_messages() {
    run(async {
        let backend = Backend::start("HTTP/1.1 404 Gone Fishing\r\nX: y\r\nContent-Length: 0\r\n\r\n").await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a?b=c HTTP/1.1\r\nHost: a:8080\r\nAccept: */*\r\nCookie: q\r\n\r\n").await;
        let (head, _) = client.response().await;
        assert_eq!(head, "http/1.1 404 gone fishing\r\nx: y\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(
            backend.saw(),
            "GET /public/a?b=c HTTP/1.1\r\nhost: a:8080\r\naccept: */*\r\ncookie: q\r\n\r\n"
        );
    });
}

#[test]
fn rules_change_headers_as_they_say() {
    let header = |name: &str, value: &str, mismatch: Mismatch| HeaderMatch {
        name: name.into(),
        value: value.into(),
        mismatch: mismatch.into(),
    };
    run(async move {
        let backend = Backend::start(OK).await;
        let rule = HttpRule {
            header_matches: vec![
                header("X-Add", "new", Mismatch::Add),
                header("X-Replace", "new", Mismatch::Replace),
                header("X-Delete", "new", Mismatch::Delete),
                header("X-Log", "new", Mismatch::Log),
            ],
            ..HttpRule::default()
        };
        let proxy = Proxy::start(backend.address, update(None, Some(rules(vec![rule])))).await;
        let mut client = proxy.connect().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nX-Replace: old\r\nX-Delete: old\r\nX-Log: old\r\n\r\n")
            .await;
        assert_eq!(client.status().await, 200);
        let saw = backend.saw();
        assert!(saw.contains("x-add: new\r\n") && saw.contains("x-replace: new\r\n"), "{saw}");
        assert!(
            !saw.contains("x-replace: old") && !saw.contains("x-delete") && saw.contains("x-log: old\r\n"),
            "{saw}"
        );
        assert!(proxy.record(0).await.reason.contains("X-Log"), "{}", proxy.record(0).await.reason);
    });
}

#[test]
fn answers_without_a_body_keep_what_they_say_of_one() {
    run(async {
        for (request, answer) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"),
            ("HEAD", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n"),
            ("GET", "HTTP/1.1 304 Not Modified\r\nETag: z\r\n\r\n"),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ] {
            let backend = Backend::start(answer).await;
            let proxy = Proxy::start(backend.address, update(None, Some(rules(vec![path("/")])))).await;
            let mut client = proxy.connect().await;
            client.send(format!("{request} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
            let got = client.rest().await.to_ascii_lowercase().replace("connection: close\r\n", "");
            assert_eq!(got, answer.to_ascii_lowercase(), "{request}");
        }
    });
}
