//! A change of policy on connections that are open.

use tektin_proxy::link_proto::{Action, Outcome, Piece};

use crate::harness::*;

const REQUEST: &str = "GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn the_next_request_is_judged_by_the_new_policy() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(REQUEST).await;
        assert_eq!(client.status().await, 200);
        proxy.switch(update(None, Some(rules(vec![path("/other")]))));
        client.send(REQUEST).await;
        assert_eq!(client.status().await, 403);
        proxy.switch(public_only());
        client.send(REQUEST).await;
        assert_eq!(client.status().await, 200);
    });
}

#[test]
fn a_connection_that_no_policy_allows_any_more_is_closed() {
    run(async {
        let backend = Backend::start(OK).await;
        let deny = Piece { action: Action::Deny.into(), rule: 66, ..all_ports() };
        for (pieces, rule) in [(vec![deny], 66), (Vec::new(), DEFAULT_DENY_RULE)] {
            let proxy = Proxy::start(backend.address, public_only()).await;
            let mut client = proxy.connect().await;
            client.send(REQUEST).await;
            assert_eq!(client.status().await, 200);
            proxy.switch(update(None, Some(pieces)));
            assert_eq!(client.rest().await, "");
            let record = proxy.record(1).await;
            assert_eq!((record.outcome(), record.ingress_rule), (Outcome::Denied, rule));
        }
    });
}

#[test]
fn an_endpoint_that_is_gone_denies() {
    run(async {
        let backend = Backend::start(OK).await;
        let mut orphan = public_only();
        orphan.endpoints.clear();
        let proxy = Proxy::start(backend.address, orphan).await;
        let mut client = proxy.connect().await;
        client.send(REQUEST).await;
        assert_eq!(client.status().await, 403);
    });
}
