//! What a record says of a call.

use bytes::Bytes;
use http::Response;
use tektin_proxy::link_proto::Outcome;

use super::stage::*;
use crate::harness::run;

#[test]
fn messages_each_way_and_the_status_of_the_trailers() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut open = stage.open("/shop.Orders/Chat").await;
        open.works().await;
        // Two messages in one frame and a half, and a cut one.
        let two = [message(b"one"), message(&[7; 3000])].concat();
        open.up.send_data(Bytes::copy_from_slice(&two[..100]), false).unwrap();
        open.up.send_data(Bytes::copy_from_slice(&two[100..]), true).unwrap();
        let mut octets = Vec::new();
        while let Some(part) = open.asked.next().await {
            octets.extend_from_slice(&part);
        }
        assert_eq!(octets, two);
        assert_eq!(stage.proxy.record_count(), 0, "a call that is open has no record yet");
        open.down.send_trailers(status("5")).unwrap();
        let (octets, trailers) = rest(&mut open.body).await.unwrap();
        assert_eq!((octets.len(), &trailers), (0, &status("5")));
        let record = stage.record(0).await;
        let grpc = record.grpc.clone().unwrap();
        assert_eq!((grpc.service.as_str(), grpc.method.as_str()), ("shop.Orders", "Chat"));
        assert_eq!((grpc.messages_from_client, grpc.messages_from_server), (3, 1));
        assert_eq!((grpc.status, record.outcome()), (Some(5), Outcome::Allowed));
        assert!(record.latency_ns > 0 && grpc.duration_ns >= record.latency_ns);
        assert_eq!((record.http.unwrap().status, record.reason.as_str()), (200, ""));
    });
}

#[test]
fn answers_without_a_body_and_answers_of_the_proxys_own() {
    run(async {
        let mut stage = Stage::of(&[("shop.Orders", None)]).await;
        let (response, mut up) = stage.call("/shop.Orders/Get");
        up.send_data(message(b"x"), true).unwrap();
        let mut asked = stage.server.asked().await;
        let mut head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        head.headers_mut().extend(status("12"));
        asked.respond.send_response(head, true).unwrap();
        assert_eq!(response.await.unwrap().headers()["grpc-status"], "12");
        let grpc = stage.record(0).await.grpc.unwrap();
        assert_eq!((grpc.status, grpc.messages_from_client, grpc.messages_from_server), (Some(12), 1, 0));

        let (response, _up) = stage.call("/shop.Stock/Get");
        assert_eq!(response.await.unwrap().headers()["grpc-status"], "7");
        let record = stage.record(1).await;
        assert_eq!((record.outcome(), record.grpc.unwrap().status), (Outcome::Denied, Some(7)));
    });
}

#[test]
fn the_status_in_a_body_of_grpc_web() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let (response, mut up) = call(&mut stage.client, "/a.B/C", "application/grpc-web+proto", &[]);
        up.send_data(message(b"x"), true).unwrap();
        let mut asked = stage.server.asked().await;
        let mut down = asked.answer();
        down.send_data(message(b"y"), false).unwrap();
        let trailers = b"\x80\0\0\0\x10grpc-status: 3\r\n";
        down.send_data(Bytes::from_static(trailers), true).unwrap();
        let (octets, _) = rest(response.await.unwrap().body_mut()).await.unwrap();
        assert_eq!(octets, [&message(b"y")[..], trailers].concat());
        let grpc = stage.record(0).await.grpc.unwrap();
        assert_eq!((grpc.status, grpc.messages_from_client, grpc.messages_from_server), (Some(3), 1, 1));
    });
}
