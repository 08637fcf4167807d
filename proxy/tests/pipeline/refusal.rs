//! What is no request at all, and how a denial speaks to gRPC.

use tektin_proxy::{Limits, link_proto::Outcome};

use crate::harness::*;

#[test]
fn what_is_not_http_is_closed_with_a_record() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        for octets in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x00\x00\x00\x17\x00\x12", b"{\"a\": 1}\n"] {
            let mut client = proxy.connect().await;
            let seen = proxy.record_count();
            client.send(octets).await;
            assert_eq!(client.rest().await, "");
            let record = proxy.record(seen).await;
            assert_eq!((record.outcome(), record.reason.as_str()), (Outcome::Refused, "not HTTP"));
        }
        assert_eq!(*backend.connections.borrow(), 0);
    });
}

#[test]
fn a_grpc_client_is_told_in_its_own_words() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client
            .send("POST /pkg.Service/Method HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 0\r\n\r\n")
            .await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("grpc-status: 7\r\n"), "{head}");
        assert_eq!(body, "");
        assert_eq!(proxy.record(0).await.outcome(), Outcome::Denied);
    });
}

#[test]
fn one_client_does_not_take_all_connections() {
    run(async {
        let backend = Backend::start(OK).await;
        let limits = Limits { connections_per_source: 2, ..Limits::default() };
        let proxy = Proxy::with_limits(backend.address, public_only(), limits).await;
        let request = "GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut open = [proxy.connect().await, proxy.connect().await];
        for client in &mut open {
            client.send(request).await;
            assert_eq!(client.status().await, 200);
        }
        let mut third = proxy.connect().await;
        assert_eq!(third.rest().await, "");
        assert_eq!(proxy.record(2).await.reason, "too many connections of one source: 2 a thread");
        drop(open);
        // What has ended counts no more.
        loop {
            let next = proxy.connect().await;
            if next.0.try_write(request.as_bytes()).is_ok() && next.0.readable().await.is_ok() {
                let mut octet = [0];
                if matches!(next.0.try_read(&mut octet), Ok(1)) {
                    break;
                }
            }
        }
    });
}
