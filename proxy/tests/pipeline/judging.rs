//! Which requests pass.

use tektin_proxy::link_proto::{Action, HeaderPresence, HttpRule, Outcome, Piece};

use crate::harness::*;

#[test]
fn allowed_and_denied_on_one_connection() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;

        client.send("GET /public/a HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(client.response().await.1, "ok");
        client.send("GET /secret HTTP/1.1\r\nHost: web\r\n\r\n").await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("http/1.1 403 "), "{head}");
        assert!(head.contains("content-type: text/plain\r\n"));
        assert_eq!(body, "Access denied\r\n");
        client.send("GET /public/b HTTP/1.1\r\nHost: web\r\n\r\n").await;
        assert_eq!(client.status().await, 200);

        assert_eq!(
            backend.saw(),
            "GET /public/a HTTP/1.1\r\nhost: web\r\n\r\nGET /public/b HTTP/1.1\r\nhost: web\r\n\r\n"
        );
        assert_eq!(*backend.connections.borrow(), 1);
        let denied = proxy.record(1).await;
        assert_eq!(denied.outcome(), Outcome::Denied);
        assert_eq!((denied.ingress_action(), denied.ingress_rule), (Action::Deny, REDIRECT_RULE));
        assert_eq!(denied.reason, "", "the rule says it: a redirect that denies had no rule that matched");
        assert!(!denied.egress_enforced);
        let http = denied.http.unwrap();
        assert_eq!((http.method.as_str(), http.path.as_str(), http.host.as_str()), ("GET", "/secret", "web"));
        assert_eq!(http.status, 403);
        let allowed = proxy.record(0).await;
        assert_eq!((allowed.outcome(), allowed.ingress_rule, allowed.revision), (Outcome::Allowed, 1, 7));
        assert!(allowed.latency_ns > 0);
        assert_eq!((allowed.src_identity, allowed.dst_identity), (CLIENT, SERVER));
    });
}

#[test]
fn rules_look_at_method_path_host_and_headers() {
    let header =
        |name: &str, value: Option<&str>| HeaderPresence { name: name.into(), value: value.map(Into::into) };
    let cases: [(HttpRule, &str, u16); 12] = [
        (method("GET"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (method("GET"), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 403),
        (method("GET"), "GETX / HTTP/1.1\r\nHost: a\r\n\r\n", 403),
        (path("/a"), "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (path("/a"), "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n", 403),
        (path("/a"), "GET /x/../%61 HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (
            HttpRule { host: Some("a\\.b".into()), ..HttpRule::default() },
            "GET / HTTP/1.1\r\nHost: a.b\r\n\r\n",
            200,
        ),
        (
            HttpRule { host: Some("a\\.b".into()), ..HttpRule::default() },
            "GET / HTTP/1.1\r\nHost: a.b.c\r\n\r\n",
            403,
        ),
        (
            HttpRule { headers: vec![header("X-Token", None)], ..HttpRule::default() },
            "GET / HTTP/1.1\r\nHost: a\r\nx-token: 1\r\n\r\n",
            200,
        ),
        (
            HttpRule { headers: vec![header("X-Token", Some("1"))], ..HttpRule::default() },
            "GET / HTTP/1.1\r\nHost: a\r\nx-token: 2\r\n\r\n",
            403,
        ),
        // A header that this hop takes out was never there.
        (
            HttpRule { headers: vec![header("X-Token", None)], ..HttpRule::default() },
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-token\r\nX-Token: 1\r\n\r\n",
            403,
        ),
        (HttpRule::default(), "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ];
    run(async move {
        let backend = Backend::start(OK).await;
        for (rule, request, status) in cases {
            let proxy = Proxy::start(backend.address, update(None, Some(rules(vec![rule.clone()])))).await;
            let mut client = proxy.connect().await;
            client.send(request).await;
            assert_eq!(client.status().await, status, "{rule:?} {request:?}");
        }
    });
}

#[test]
fn both_ends_must_allow() {
    run(async {
        let backend = Backend::start(OK).await;
        let both = update(Some(rules(vec![method("GET")])), Some(rules(vec![path("/in")])));
        let proxy = Proxy::start(backend.address, both).await;
        let mut client = proxy.connect().await;
        for (request, status) in [("GET /in", 200), ("GET /out", 403), ("PUT /in", 403)] {
            client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
            assert_eq!(client.status().await, status, "{request}");
        }
        let by_ingress = proxy.record(1).await;
        assert_eq!((by_ingress.egress_action(), by_ingress.egress_rule), (Action::Allow, 1));
        assert_eq!((by_ingress.ingress_action(), by_ingress.ingress_rule), (Action::Deny, REDIRECT_RULE));
        let by_egress = proxy.record(2).await;
        assert_eq!((by_egress.egress_action(), by_egress.egress_rule), (Action::Deny, REDIRECT_RULE));
        assert_eq!((by_egress.ingress_action(), by_egress.ingress_rule), (Action::Allow, 1));
    });
}

#[test]
fn no_piece_is_a_denial_and_a_plain_allow_passes_everything() {
    run(async {
        let backend = Backend::start(OK).await;
        let nothing = Proxy::start(backend.address, update(None, Some(Vec::new()))).await;
        let mut client = nothing.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 403);
        assert_eq!(nothing.record(0).await.ingress_rule, DEFAULT_DENY_RULE);

        let allow = Piece { action: Action::Allow.into(), rule: 5, ..all_ports() };
        let everything = Proxy::start(backend.address, update(None, Some(vec![allow]))).await;
        let mut client = everything.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 200);
        assert_eq!(everything.record(0).await.ingress_rule, 5);
    });
}
