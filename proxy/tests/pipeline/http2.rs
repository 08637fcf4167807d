//! HTTP/2 with prior knowledge.

mod further;
mod peers;

use std::{convert::Infallible, rc::Rc};

use bytes::Bytes;
use futures::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{SendRequest, handshake},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tektin_proxy::link_proto::Outcome;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::spawn_local,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::*;

pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// Echoes bodies as they come, with a trailer behind them, and says what it was asked for.
async fn echo(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = hyper::Error>>, Infallible> {
    let asked = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().with_trailers(async {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        Some(Ok(trailers))
    });
    Ok(Response::builder().header("x-asked", asked).body(body).unwrap())
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

pub(crate) async fn backend() -> (std::net::SocketAddr, Rc<std::cell::Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Rc::new(std::cell::Cell::new(0));
    let counted = Rc::clone(&connections);
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.set(counted.get() + 1);
            spawn_local(http2::Builder::new(Local).serve_connection(TokioIo::new(stream), service_fn(echo)));
        }
    });
    (address, connections)
}

pub(crate) async fn client(proxy: &Proxy) -> SendRequest<Body> {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    sender
}

fn get(path: &str) -> Request<Body> {
    let body = Full::new(Bytes::from(path.to_owned())).boxed();
    Request::post(format!("http://web{path}")).body(body).unwrap()
}

#[test]
fn each_stream_is_judged() {
    run(async {
        let (address, connections) = backend().await;
        let proxy = Proxy::start(address, public_only()).await;
        let client = client(&proxy).await;
        let paths = [
            "/public/1",
            "/secret",
            "/public/x/../2",
            "/public/../secret",
            "/public/3",
            "/a/%2e%2e/public/4",
        ];
        let answers = join_all(paths.map(|path| {
            let mut client = client.clone();
            async move { client.send_request(get(path)).await.unwrap() }
        }))
        .await;
        let asked: Vec<_> = answers
            .iter()
            .map(|answer| answer.headers().get("x-asked").map(|asked| asked.to_str().unwrap()))
            .collect();
        assert_eq!(
            asked,
            [
                Some("POST http://web/public/1"),
                None,
                Some("POST http://web/public/2"),
                None,
                Some("POST http://web/public/3"),
                Some("POST http://web/public/4")
            ]
        );
        for (answer, path) in answers.into_iter().zip(paths) {
            let denied = !answer.headers().contains_key("x-asked");
            assert_eq!(answer.status() == StatusCode::FORBIDDEN, denied);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, if denied { "Access denied\r\n" } else { path });
        }
        assert_eq!(connections.get(), 1);
        let record = proxy.record(0).await;
        assert_eq!(record.http.unwrap().protocol, "HTTP/2");
        proxy.record(5).await;
    });
}

#[test]
fn the_next_stream_is_judged_by_the_new_policy() {
    run(async {
        let (address, _) = backend().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = client(&proxy).await;
        assert_eq!(client.send_request(get("/public/a")).await.unwrap().status(), StatusCode::OK);
        proxy.switch(update(None, Some(rules(vec![path("/other")]))));
        assert_eq!(client.send_request(get("/public/a")).await.unwrap().status(), StatusCode::FORBIDDEN);
        proxy.switch(update(None, Some(Vec::new())));
        assert!(client.send_request(get("/other")).await.is_err(), "the connection should have ended");
    });
}

#[test]
fn bodies_stream_both_ways_at_once() {
    run(async {
        let (address, _) = backend().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = client(&proxy).await;
        let (frames, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        let request = Request::post("http://web/public/echo")
            .body(BodyExt::boxed(StreamBody::new(ReceiverStream::new(receiver))))
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        let mut body = response.into_body();
        for text in ["one", "two", "three"] {
            frames.send(Ok(Frame::data(Bytes::from(text)))).await.unwrap();
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), text);
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-role", "admin".parse().unwrap());
        frames.send(Ok(Frame::trailers(trailers))).await.unwrap();
        drop(frames);
        // The server's own arrive; the client's, which no rule was asked about, never came to it.
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!((trailers.len(), trailers["grpc-status"].as_bytes()), (1, &b"0"[..]));
        assert!(body.frame().await.is_none());
    });
}

#[test]
fn grpc_is_denied_with_status_7_and_no_body() {
    run(async {
        let (address, _) = backend().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = client(&proxy).await;
        let mut request = get("/pkg.Service/Method");
        request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
        let response = client.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "7");
        assert!(hyper::body::Body::is_end_stream(response.body()));
        assert_eq!(proxy.record(0).await.outcome(), Outcome::Denied);
    });
}

#[test]
fn contradictions_are_refused() {
    run(async {
        let (address, connections) = backend().await;
        let proxy = Proxy::start(address, update(None, Some(rules(vec![method(".*")])))).await;
        let mut client = client(&proxy).await;
        let refused = |build: fn(&mut Request<Body>)| {
            let mut request = get("/public/a");
            build(&mut request);
            request
        };
        let cases = [
            refused(|request| drop(request.headers_mut().insert("host", "other".parse().unwrap()))),
            refused(|request| {
                request.headers_mut().append("host", "web".parse().unwrap());
                request.headers_mut().append("host", "web".parse().unwrap());
            }),
            refused(|request| *request.uri_mut() = "http://web/a%2fb".parse().unwrap()),
            refused(|request| *request.uri_mut() = "http://user@web/a".parse().unwrap()),
            refused(|request| *request.uri_mut() = "ftp://web/a".parse().unwrap()),
        ];
        for request in cases {
            let asked = format!("{request:?}");
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{asked}");
        }
        assert_eq!(connections.get(), 0);
        assert_eq!(proxy.record(4).await.outcome(), Outcome::Refused);
    });
}
