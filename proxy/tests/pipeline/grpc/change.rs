//! A change of policy and the calls that are open.

use bytes::Bytes;
use h2::Reason;
use tektin_proxy::link_proto::{Action, Outcome, Piece, PolicyUpdate};

use super::stage::*;
use crate::harness::*;

const CHANGED: &str = "it was allowed when it began, and ended by a change of policy";

#[test]
fn a_call_that_is_no_longer_allowed_ends_and_no_other() {
    run(async {
        let mut stage = Stage::of(&[("shop.Orders", None), ("shop.Stock", None)]).await;
        let mut kept = stage.open("/shop.Orders/Watch").await;
        let mut lost = stage.open("/shop.Stock/Watch").await;
        let (unanswered, _up) = stage.call("/shop.Stock/Slow");
        let mut slow = stage.server.asked().await;
        kept.works().await;
        lost.works().await;

        stage.proxy.switch(policy(&[("shop.Orders", Some("Watch"))]));
        let (octets, trailers) = rest(&mut lost.body).await.unwrap();
        assert_eq!((octets.len(), trailers["grpc-status"].to_str().unwrap()), (0, "7"));
        assert_eq!(trailers["grpc-message"], "Access denied: the policy has changed");
        // The server is told, in both directions, and so is the client's side.
        assert_eq!(read(&mut lost.asked.body).await.unwrap_err().reason(), Some(Reason::CANCEL));
        assert_eq!(std::future::poll_fn(|cx| lost.up.poll_reset(cx)).await.unwrap(), Reason::NO_ERROR);
        let denied = unanswered.await.unwrap();
        assert_eq!(
            (denied.status().as_u16(), &denied.headers()["grpc-status"]),
            (200, &"7".parse().unwrap())
        );
        assert!(denied.body().is_end_stream());
        assert_eq!(read(&mut slow.body).await.unwrap_err().reason(), Some(Reason::CANCEL));
        for number in 0..2 {
            let record = stage.record(number).await;
            let grpc = record.grpc.clone().unwrap();
            assert_eq!((record.outcome(), record.reason.as_str()), (Outcome::Denied, CHANGED));
            assert_eq!((record.ingress_action(), record.ingress_rule), (Action::Deny, REDIRECT_RULE));
            let messages = if grpc.method == "Watch" { (1, 1) } else { (0, 0) };
            assert_eq!((grpc.messages_from_client, grpc.messages_from_server), messages);
            assert_eq!(grpc.status, Some(7));
        }
        kept.works().await;
        kept.down.send_trailers(status("0")).unwrap();
        assert_eq!(rest(&mut kept.body).await.unwrap().1, status("0"));
        let grpc = stage.record(2).await.grpc.unwrap();
        assert_eq!((grpc.status, grpc.messages_from_client, grpc.messages_from_server), (Some(0), 2, 2));
    });
}

#[test]
fn policies_that_still_allow_it_disturb_nothing() {
    run(async {
        let mut stage = Stage::of(&[("shop.Orders", None)]).await;
        let mut open = stage.open("/shop.Orders/Watch").await;
        open.works().await;
        for allowed in [&[("shop.Orders", None)][..], &[("*", None)], &[("shop.*", Some("Watch"))]] {
            stage.proxy.switch(policy(allowed));
            open.works().await;
        }
        // Denied at the other end, whose policy had no say before.
        let egress = vec![super::calls(&[("shop.Stock", None)])];
        stage.proxy.switch(update(Some(egress), None));
        assert_eq!(rest(&mut open.body).await.unwrap().1["grpc-status"], "7");
    });
}

#[test]
fn the_end_of_a_whole_connection_is_told_in_its_calls() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut open = stage.open("/shop.Orders/Watch").await;
        open.works().await;
        let deny = Piece { action: Action::Deny.into(), rule: 77, ..all_ports() };
        stage.proxy.switch(update(None, Some(vec![deny])));
        assert_eq!(rest(&mut open.body).await.unwrap().1["grpc-status"], "7");
        let (first, second) = (stage.record(0).await, stage.record(1).await);
        assert_eq!([first.outcome(), second.outcome()], [Outcome::Denied; 2]);
        assert_eq!([first.ingress_rule, second.ingress_rule], [77; 2]);
        // The connection has ended, at the client and at the server.
        assert!(open.asked.body.data().await.unwrap().is_err());
        while std::future::poll_fn(|cx| stage.client.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}

/// Ends a web call, after these octets of its answer: what its client gets.
async fn web_call_ended(content_type: &str, octets: &'static [u8]) -> Result<Vec<u8>, h2::Error> {
    let mut stage = Stage::of(&[("*", None)]).await;
    let (response, _up) = call(&mut stage.client, "/a.B/C", content_type, &[]);
    let mut asked = stage.server.asked().await;
    let mut down = asked.answer();
    down.send_data(Bytes::from_static(octets), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut got = read(&mut body).await.unwrap().unwrap().to_vec();
    assert_eq!(got, octets);
    stage.proxy.switch(policy(&[("nobody.Else", None)]));
    let ended = rest(&mut body).await;
    assert_eq!(stage.record(0).await.grpc.unwrap().status, Some(7));
    ended.map(|(octets, trailers)| {
        assert!(trailers.is_empty());
        got.extend(octets);
        got
    })
}

#[test]
fn web_clients_find_the_end_in_the_body() {
    run(async {
        let lines = "grpc-status: 7\r\ngrpc-message: Access denied: the policy has changed\r\n";
        let frame = [&[0x80, 0, 0, 0, lines.len() as u8], lines.as_bytes()].concat();
        let binary = web_call_ended("application/grpc-web+proto", b"\0\0\0\0\x01x").await.unwrap();
        assert_eq!(binary, [b"\0\0\0\0\x01x", &frame[..]].concat());
        let text = web_call_ended("application/grpc-web-text", b"AAAAAAF4").await.unwrap();
        let mut messages = l7_parsers::grpc::Messages::new(l7_parsers::grpc::Form::WebText);
        messages.read(&text);
        assert_eq!((messages.whole(), messages.status()), (1, Some(7)));
        // In the middle of a message there is no place for it.
        let cut = web_call_ended("application/grpc-web+proto", b"\0\0\0\0\x09x").await;
        assert_eq!(cut.unwrap_err().reason(), Some(Reason::CANCEL));
    });
}

#[test]
fn revisions_that_do_not_touch_a_connection_do_not_judge_its_calls() {
    let cache = &mut tektin_proxy::policy::RuleCache::default();
    let first = tektin_proxy::policy::Snapshot::default().apply(&policy(&[("*", None)]), cache).unwrap();
    let steered = tektin_abi::maps::SteeredValue {
        src_identity: CLIENT,
        dst_identity: SERVER,
        src_endpoint: CLIENT_ENDPOINT,
        dst_endpoint: SERVER_ENDPOINT,
        ..Default::default()
    };
    let next = PolicyUpdate { revision: 8, ..PolicyUpdate::default() };
    assert!(first.apply(&next, cache).unwrap().governing(&steered) == first.governing(&steered));
    let other = policy(&[("a.B", None)]);
    assert!(first.apply(&other, cache).unwrap().governing(&steered) != first.governing(&steered));
}
