//! More requests at a time than a server takes on one connection.

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use l7_parsers::http2::frame::{Kind, PREFACE, Setting};
use tektin_proxy::{Limits, link_proto::Outcome};
use tokio::{
    io::AsyncReadExt,
    net::TcpListener,
    sync::mpsc,
    task::spawn_local,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Local, client, echo};
use crate::{
    harness::*,
    peer::{Peer, Stage},
};

const ONE: &[(Setting, u32)] = &[(Setting::MaxConcurrentStreams, 1)];

/// With a request on stream 1, which is all that the server takes on that connection.
async fn busy(limits: Limits) -> Stage {
    let mut stage = Stage::with(limits, ONE).await;
    stage.server.headers(1, &[(":status", "200")], false).flush().await;
    assert_eq!(stage.client.status(1).await, "200");
    stage
}

impl Stage {
    async fn end_first(&mut self) {
        self.client.data(1, b"", true).flush().await;
        while !self.server.wait(Kind::Data, 1).await.ends() {}
        self.server.data(1, b"", true).flush().await;
        while !self.client.wait(Kind::Data, 1).await.ends() {}
    }

    async fn is_answered(&mut self, server: &mut Peer, stream: u32) {
        server.headers(stream, &[(":status", "204")], true).flush().await;
        assert_eq!(self.client.wait(Kind::Headers, stream).await.status(), "204");
    }
}

#[test]
fn a_request_need_not_wait_for_a_stream_to_end() {
    run(async {
        let limits = Limits { idle_time: Duration::from_millis(1500), ..Limits::default() };
        let mut stage = busy(limits).await;
        for (stream, next) in [(3, 5), (7, 9)] {
            stage.client.get(stream, "/public/a").flush().await;
            let mut further = Peer::server(&stage.listener, ONE).await;
            assert_eq!(further.asked().await.0, stream);
            stage.is_answered(&mut further, stream).await;
            // It takes the next one, too; then, as nobody needs it, it goes.
            stage.client.get(next, "/public/a").flush().await;
            assert_eq!(further.asked().await.0, next);
            stage.is_answered(&mut further, next).await;
            while further.next().await.is_some() {}
        }
        // The first one has not noticed.
        stage.end_first().await;
        assert_eq!(stage.proxy.record_count(), 5);
    });
}

#[test]
fn a_connection_that_nobody_serves_gets_no_request() {
    run(async {
        let mut stage = busy(Limits::default()).await;
        stage.client.get(3, "/public/3").flush().await;
        // A server that knows one connection at a time leaves the other one in its queue.
        let (mut unserved, _) = stage.listener.accept().await.unwrap();
        unserved.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        stage.end_first().await;
        let mut server = stage.server;
        assert_eq!(server.asked().await.0, 3);
        server.headers(3, &[(":status", "204")], true).flush().await;
        assert_eq!(stage.client.wait(Kind::Headers, 3).await.status(), "204");
    });
}

#[test]
fn where_no_further_connection_can_be_had_a_request_waits() {
    run(async {
        // Neither at first, nor after the time in which one is looked for.
        let limits =
            Limits { upstreams_per_thread: 1, connect_time: Duration::from_secs(1), ..Limits::default() };
        for time in [0, 1300] {
            let mut stage = busy(limits).await;
            stage.client.get(3, "/public/3").flush().await;
            sleep(Duration::from_millis(time)).await;
            stage.end_first().await;
            assert_eq!(stage.server.asked().await.0, 3);
            stage.server.headers(3, &[(":status", "204")], true).flush().await;
            assert_eq!(stage.client.wait(Kind::Headers, 3).await.status(), "204");
            assert_eq!(stage.proxy.record(1).await.outcome(), Outcome::Allowed);
        }
    });
}

#[test]
fn a_further_connection_that_ends_at_once_is_tried_again_after_a_while() {
    run(async {
        // The proxy looks at its clock each quarter of the shortest of its times.
        let limits = Limits { linger_time: Duration::from_millis(200), ..Limits::default() };
        let mut stage = busy(limits).await;
        stage.client.get(3, "/public/3").flush().await;
        drop(stage.listener.accept().await.unwrap());
        assert!(timeout(Duration::from_millis(300), stage.listener.accept()).await.is_err());
        let mut further = Peer::server(&stage.listener, ONE).await;
        assert_eq!(further.asked().await.0, 3);
        stage.is_answered(&mut further, 3).await;
    });
}

#[test]
fn there_are_eight_at_most() {
    run(async {
        let mut stage = busy(Limits::default()).await;
        for stream in (3..41).step_by(2) {
            stage.client.get(stream, "/public/a");
        }
        stage.client.flush().await;
        let mut servers = Vec::new();
        for number in 1..8 {
            let mut further = Peer::server(&stage.listener, ONE).await;
            assert_eq!(further.asked().await.0, 1 + 2 * number);
            servers.push(further);
        }
        assert!(timeout(Duration::from_millis(300), stage.listener.accept()).await.is_err());
        // Whichever has a stream to give takes the next request.
        for (server, ends, next) in [(5, 13, 17), (0, 3, 19), (5, 17, 21)] {
            stage.is_answered(&mut servers[server], ends).await;
            assert_eq!(servers[server].asked().await.0, next);
        }
    });
}

#[test]
fn long_calls_beyond_the_limit_of_a_server_go_on() {
    const CALLS: usize = 50;
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Rc::new(std::cell::Cell::new(0));
        let counted = Rc::clone(&connections);
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.set(counted.get() + 1);
                let mut server = http2::Builder::new(Local);
                server.max_concurrent_streams(10);
                spawn_local(server.serve_connection(TokioIo::new(stream), service_fn(echo)));
            }
        });
        let proxy = Proxy::start(address, public_only()).await;
        let client = client(&proxy).await;
        let call = || {
            let (frames, receiver) = mpsc::channel(1);
            let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(receiver)));
            let request = http::Request::post("http://web/public/call")
                .header("content-type", "application/grpc")
                .body(body)
                .unwrap();
            let mut client = client.clone();
            async move { (client.send_request(request).await.unwrap().into_body(), frames) }
        };
        // With its answer comes what the server takes.
        let mut open = vec![call().await];
        open.extend(join_all((1..CALLS).map(|_| call())).await);
        for (body, frames) in &mut open {
            frames.send(Ok(Frame::data(bytes::Bytes::from("there?")))).await.unwrap();
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "there?");
        }
        assert_eq!(connections.get(), CALLS / 10);
    });
}
