//! What the server gets to see of requests that could be read in several ways: nothing, or the form
//! that was judged.

use tektin_proxy::link_proto::Outcome;

use crate::harness::*;

/// What a client sends, the status it gets (0: closed without a word), what the server saw.
type Case = (&'static str, u16, &'static str);

const SEEN: &str = "GET /public/a HTTP/1.1\r\nhost: a\r\n\r\n";

const CASES: &[Case] = &[
    ("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET /public/x/../a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET /x/../public/a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET //public///a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET /public/%61 HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET /%70ublic/./a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET http://a/public/a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET http://A:80/public/a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET http://a/public/a HTTP/1.0\r\n\r\n", 200, SEEN),
    ("\r\nGET /public/a HTTP/1.1\r\nHost: a\r\n\r\n", 200, SEEN),
    ("GET /public/a HTTP/1.1\r\nhOST: \ta \r\n\r\n", 200, SEEN),
    ("GET /public/a HTTP/1.0\r\nHost: a\r\n\r\n", 200, SEEN),
    (
        "GET /public/a HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n",
        200,
        SEEN,
    ),
    (
        "GET /public/a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        200,
        SEEN,
    ),
    (
        "GET /public/%3b;%3a?%2f%2e HTTP/1.1\r\nHost: a\r\n\r\n",
        200,
        "GET /public/%3B;%3A?%2f%2e HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    (
        "GET /public/a%252Fb HTTP/1.1\r\nHost: a\r\n\r\n",
        200,
        "GET /public/a%252Fb HTTP/1.1\r\nhost: a\r\n\r\n",
    ),
    // Judged in normal form, and denied.
    ("GET /public/../secret HTTP/1.1\r\nHost: a\r\n\r\n", 403, ""),
    ("GET /public/%2e%2e/secret HTTP/1.1\r\nHost: a\r\n\r\n", 403, ""),
    ("GET /public/.%2E/secret HTTP/1.1\r\nHost: a\r\n\r\n", 403, ""),
    ("GET http://a/secret HTTP/1.1\r\nHost: a\r\n\r\n", 403, ""),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 403, ""),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 403, ""),
    // Refused.
    ("GET /public/..%2fsecret HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/..\\secret HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/..%5csecret HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/%c0%ae HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/..%3b/secret HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/%252e%252e/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/..;/secret HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET public/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET http://b/public/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET https://a/public/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("CONNECT /public/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/a\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.2\r\nHost: a\r\n\r\n", 400, ""),
    ("GET  /public/a HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\nHost: a\n\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost : a\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, ""),
    (
        "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "",
    ),
    ("POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, ""),
    ("POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400, ""),
    ("POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400, ""),
    ("POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, ""),
    ("POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, ""),
    ("POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, ""),
    ("POST /public/a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
    ("GET /public/a HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", 400, ""),
    // A body that stops making sense: the server never sees the end of the request.
    (
        "POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        400,
        "POST /public/a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ),
];

#[test]
fn the_server_sees_nothing_or_the_judged_form() {
    run(async {
        for (request, status, saw) in CASES {
            let backend = Backend::start(OK).await;
            let proxy = Proxy::start(backend.address, public_only()).await;
            let mut client = proxy.connect().await;
            client.send(request).await;
            assert_eq!(client.status().await, *status, "{request:?}");
            if *status == 400 {
                assert_eq!(client.rest().await, "", "closed after a refusal: {request:?}");
                let record = proxy.record(0).await;
                assert_eq!(record.outcome(), Outcome::Refused, "{request:?}");
                assert!(!record.reason.is_empty(), "{request:?}");
            }
            if *status == 400 && !saw.is_empty() {
                assert!(saw.starts_with(&backend.saw()), "{request:?}: {:?}", backend.saw());
            } else {
                assert_eq!(backend.saw(), *saw, "{request:?}");
            }
        }
    });
}

#[test]
fn cuts_of_the_stream_make_no_difference() {
    run(async {
        for (request, status, saw) in CASES.iter().filter(|(_, _, saw)| saw.is_empty() || *saw == SEEN) {
            let backend = Backend::start(OK).await;
            let proxy = Proxy::start(backend.address, public_only()).await;
            let mut client = proxy.connect().await;
            client.0.set_nodelay(true).unwrap();
            for octets in request.as_bytes().chunks(7) {
                // After a refusal the proxy may have closed already.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, octets).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(client.status().await, *status, "{request:?}");
            assert_eq!(backend.saw(), *saw, "{request:?}");
        }
    });
}

#[test]
fn a_pipelined_denial_comes_in_order() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send([request("/public/a"), request("/secret"), request("/public/a")].concat()).await;
        for status in [200, 403, 200] {
            assert_eq!(client.status().await, status);
        }
        assert_eq!(backend.saw(), SEEN.repeat(2));
    });
}

#[test]
fn a_pipelined_refusal_comes_in_order_and_ends_the_connection() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        let good = "GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(format!("{good}{good}GET /public/a HTTP/1.1\nHost: a\n\n{good}")).await;
        assert_eq!(client.status().await, 200);
        assert_eq!(client.status().await, 200);
        let (head, body) = client.response().await;
        assert!(head.starts_with("http/1.1 400 "), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(body, "line feed without carriage return\r\n");
        assert_eq!(client.rest().await, "");
        assert_eq!(backend.saw(), SEEN.repeat(2));
        assert_eq!(proxy.record_count(), 3);
    });
}

#[test]
fn a_smuggled_request_in_a_body_is_body() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        let inner = "GET /secret HTTP/1.1\r\nHost: a\r\n\r\n";
        client
            .send(format!(
                "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
                inner.len()
            ))
            .await;
        assert_eq!(client.status().await, 200);
        assert_eq!(proxy.record_count(), 1);
    });
}
