//! Time limits.

use std::time::Duration;

use tektin_proxy::{Limits, link_proto::Outcome, worker::Stage};
use tokio::{net::TcpListener, time::sleep};

use crate::harness::*;

fn limits() -> Limits {
    Limits {
        head_time: Duration::from_millis(300),
        first_octet_time: Duration::from_millis(1000),
        idle_time: Duration::from_millis(150),
        stall_time: Duration::from_millis(100),
        response_time: Duration::from_millis(400),
        stream_idle_time: Duration::from_millis(150),
        linger_time: Duration::from_millis(100),
        ..Limits::default()
    }
}

#[test]
fn a_slow_head_is_answered_and_closed() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::with_limits(backend.address, public_only(), limits()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\n").await;
        for _ in 0..25 {
            sleep(Duration::from_millis(20)).await;
            // A header now and then does not help.
            if client.0.try_write(b"X: y\r\n").is_err() {
                break;
            }
        }
        assert_eq!(client.status().await, 408);
        assert_eq!(proxy.record(0).await.reason, "request head not complete in time");
    });
}

#[test]
fn a_silent_client_is_closed() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::with_limits(backend.address, public_only(), limits()).await;
        let mut client = proxy.connect().await;
        assert_eq!(client.rest().await, "");
        assert_eq!(proxy.record(0).await.outcome(), Outcome::Refused);
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::with_limits(backend.address, public_only(), limits()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 200);
        assert_eq!(client.rest().await, "");
        assert_eq!(proxy.record(1).await.reason, "idle for too long");
    });
}

#[test]
fn a_stalled_body_is_refused() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::with_limits(backend.address, public_only(), limits()).await;
        let mut client = proxy.connect().await;
        client.send("POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
        assert_eq!(client.status().await, 408);
        assert_eq!(proxy.record(0).await.outcome(), Outcome::Refused);
    });
}

#[test]
fn a_server_that_does_not_answer_is_a_504() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 504);
        assert_eq!(proxy.record(0).await.outcome(), Outcome::UpstreamFailed);
    });
}

#[test]
fn a_server_that_falls_silent_ends_the_response() {
    run(async {
        let backend = Backend::start("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
        let proxy = Proxy::with_limits(backend.address, public_only(), limits()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.rest().await.ends_with("abc"));
    });
}

#[test]
fn a_drain_ends_idle_connections_and_lets_requests_finish() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut server, _) = listener.accept().await.unwrap();
        proxy.worker.enter(Stage::IdleEnds);
        // One that comes while the drain is on is served once.
        let mut late = proxy.connect().await;
        late.send("GET /public/b HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut late_server, _) = listener.accept().await.unwrap();
        for server in [&mut server, &mut late_server] {
            tokio::io::AsyncWriteExt::write_all(server, OK.as_bytes()).await.unwrap();
        }
        for client in [&mut client, &mut late] {
            assert!(client.rest().await.ends_with("ok"));
        }
    });
}

#[test]
fn a_proxy_that_is_replaced_tells_with_an_answer_and_cuts_with_a_record() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut kept = proxy.connect().await;
        kept.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut server, OK.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        proxy.worker.enter(Stage::LastAnswers);
        sleep(Duration::from_millis(50)).await;
        // Still open, and its next answer is the last one, whoever gives it.
        kept.send("GET /secret HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answers = kept.rest().await.to_lowercase();
        let (first, last) = answers.split_once("http/1.1 403").expect("two answers");
        assert!(!first.contains("connection: close"), "{first}");
        assert!(last.contains("connection: close"), "{last}");

        let mut waiting = proxy.connect().await;
        waiting.send("GET /public/b HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let _silent = listener.accept().await.unwrap();
        proxy.worker.enter(Stage::Cut);
        assert_eq!(waiting.rest().await, "");
        let mut reasons = Vec::new();
        for count in 0..4 {
            reasons.push(proxy.record(count).await.reason);
        }
        let cut = reasons.iter().filter(|reason| reason.contains("time was up that a proxy has to drain"));
        assert_eq!(cut.count(), 1, "{reasons:?}");
    });
}
