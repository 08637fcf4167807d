//! gRPC calls: judged by name, and answered in their own words.

mod change;
mod ends;
mod flow;
mod records;
mod stage;
mod web;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tektin_proxy::link_proto::{Action, GrpcRule, Outcome, Piece};

use crate::{
    harness::*,
    http2::{Body, backend, client},
};

/// A redirect of all TCP ports with these calls, which get the ids 51, 52, ….
fn calls(calls: &[(&str, Option<&str>)]) -> Piece {
    let rule = |((service, method), rule): (&(&str, Option<&str>), u32)| GrpcRule {
        rule,
        service: (*service).to_owned(),
        method: method.map(str::to_owned),
    };
    let grpc = calls.iter().zip(51..).map(rule).collect();
    Piece { action: Action::Redirect.into(), grpc, rule: REDIRECT_RULE, ..all_ports() }
}

fn call(path: &str, content_type: &str) -> Request<Body> {
    let request = Request::post(format!("http://web{path}")).header("content-type", content_type);
    request.header("te", "trailers").body(Full::new(Bytes::from_static(b"\0\0\0\0\0")).boxed()).unwrap()
}

#[test]
fn calls_are_judged_by_name() {
    run(async {
        let (address, connections) = backend().await;
        let rules = calls(&[("shop.Orders", Some("Get")), ("grpc.*", None), ("*", Some("Ping"))]);
        let http = vec![tektin_proxy::link_proto::HttpRule { rule: 9, ..path("/shop\\.Stock/.*") }];
        let piece = Piece { http, ..rules };
        let proxy = Proxy::start(address, update(None, Some(vec![piece]))).await;
        let mut client = client(&proxy).await;
        for (number, (path, content_type, rule)) in [
            ("/shop.Orders/Get", "application/grpc", 51),
            ("/shop.Orders/Put", "application/grpc", 0),
            ("/shop.orders/Get", "application/grpc+proto", 0),
            ("/grpc.health.v1.Health/Watch", "application/grpc-web+proto", 52),
            ("/grpcx.A/B", "application/grpc-web-text", 0),
            ("/any.Thing/Ping", "application/grpc+json", 53),
            ("/any.Thing/Ping/x", "application/grpc", 0),
            ("/any.Thing/Ping?x", "application/grpc", 0),
            ("//any.Thing/./Ping", "application/grpc", 53),
            ("/shop.Stock/Take", "application/grpc", 9),
            // Not a call, whatever its name.
            ("/shop.Orders/Get", "application/json", 0),
        ]
        .into_iter()
        .enumerate()
        {
            let response = client.send_request(call(path, content_type)).await.unwrap();
            let (status, denied) = match (rule, content_type.starts_with("application/grpc")) {
                (0, true) => (StatusCode::OK, Some("7")),
                (0, false) => (StatusCode::FORBIDDEN, None),
                _ => (StatusCode::OK, None),
            };
            let own = response.headers().get("grpc-status").map(|value| value.to_str().unwrap());
            assert_eq!((response.status(), own), (status, denied), "{path} {content_type}");
            if denied.is_some() {
                assert_eq!(response.headers()["content-type"], content_type);
                assert_eq!(response.headers()["grpc-message"], "Access denied");
                assert!(hyper::body::Body::is_end_stream(response.body()), "{path}");
            } else {
                response.into_body().collect().await.unwrap();
            }
            let record = proxy.record(number).await;
            let outcome = if rule == 0 { Outcome::Denied } else { Outcome::Allowed };
            let by = if rule == 0 { REDIRECT_RULE } else { rule };
            assert_eq!((record.outcome(), record.ingress_rule), (outcome, by), "{path}");
            assert_eq!(record.grpc.is_some(), content_type != "application/json");
        }
        let named = proxy.record(3).await.grpc.unwrap();
        assert_eq!((named.service.as_str(), named.method.as_str()), ("grpc.health.v1.Health", "Watch"));
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_server_that_is_gone_is_unavailable() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let proxy = Proxy::start(address, update(None, Some(vec![calls(&[("*", None)])]))).await;
        let mut client = client(&proxy).await;
        let response = client.send_request(call("/a.B/C", "application/grpc+proto")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        assert_eq!(proxy.record(0).await.outcome(), Outcome::UpstreamFailed);
        let mut malformed = call("/a.B/C", "application/grpc");
        malformed.headers_mut().insert("host", "other".parse().unwrap());
        let response = client.send_request(malformed).await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "13");
        assert_eq!(proxy.record(1).await.outcome(), Outcome::Refused);
    });
}
