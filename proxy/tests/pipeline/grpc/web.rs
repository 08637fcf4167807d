//! gRPC-Web over HTTP/1, as browsers speak it.

use std::rc::Rc;

use tektin_proxy::{Limits, link_proto::Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::stage::policy;
use crate::harness::*;

/// A call of one message.
const CALL: &[u8] = b"POST /a.B/C HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 6\r\n\r\n\0\0\0\0\x01x";
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web+proto\r\n";

/// A client whose call is at its server.
struct Stage {
    proxy: Rc<Proxy>,
    client: Client,
    server: TcpStream,
    listener: TcpListener,
}

impl Stage {
    async fn called() -> Self {
        Self::with_limits(Limits::default()).await
    }

    async fn with_limits(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Proxy::with_limits(address, policy(&[("*", None)]), limits).await;
        let mut client = proxy.connect().await;
        client.send(CALL).await;
        let (mut server, _) = listener.accept().await.unwrap();
        read_call(&mut server).await;
        Self { proxy, client, server, listener }
    }

    /// Sends a part of the answer, and sees it arrive.
    async fn answers(&mut self, part: impl AsRef<[u8]>, end: &[u8]) -> Vec<u8> {
        self.server.write_all(part.as_ref()).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(end) {
            let mut octet = [0];
            self.client.0.read_exact(&mut octet).await.unwrap();
            got.push(octet[0]);
        }
        got
    }

    fn denies(&self) {
        self.proxy.switch(policy(&[("nobody.Else", None)]));
    }
}

async fn read_call(server: &mut TcpStream) {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n\0\0\0\0\x01x") {
        let mut octet = [0];
        server.read_exact(&mut octet).await.unwrap();
        got.push(octet[0]);
    }
}

#[test]
fn its_record_has_messages_and_status() {
    run(async {
        let mut stage = Stage::called().await;
        let frames = b"\0\0\0\0\x02ab\0\0\0\0\0\x80\0\0\0\x10grpc-status: 5\r\n";
        let head = format!("{HEAD}Content-Length: {}\r\n\r\n", frames.len());
        stage.answers([head.as_bytes(), frames].concat(), b"grpc-status: 5\r\n").await;
        let record = stage.proxy.record(0).await;
        let grpc = record.grpc.clone().unwrap();
        assert_eq!((grpc.status, grpc.messages_from_client, grpc.messages_from_server), (Some(5), 1, 2));
        assert!(grpc.duration_ns >= record.latency_ns && record.latency_ns > 0);
        // Trailers-only, on the connection that goes on.
        stage.client.send(CALL).await;
        read_call(&mut stage.server).await;
        stage.answers(format!("{HEAD}grpc-status: 12\r\nContent-Length: 0\r\n\r\n"), b"\r\n\r\n").await;
        let record = stage.proxy.record(1).await;
        assert_eq!((record.outcome(), record.grpc.unwrap().status), (Outcome::Allowed, Some(12)));
        stage.denies();
        stage.client.send(CALL).await;
        let (head, _) = stage.client.response().await;
        assert!(head.contains("grpc-status: 7\r\n"), "{head}");
        let record = stage.proxy.record(2).await;
        assert_eq!((record.outcome(), record.grpc.unwrap().status), (Outcome::Denied, Some(7)));
    });
}

#[test]
fn a_change_of_policy_ends_an_answer_between_two_messages() {
    run(async {
        let mut stage = Stage::called().await;
        let chunk = b"6\r\n\0\0\0\0\x01y\r\n";
        let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
        stage.answers([head.as_bytes(), chunk].concat(), chunk).await;
        // What still allows it changes nothing.
        stage.proxy.switch(policy(&[("a.B", None)]));
        stage.answers(chunk, chunk).await;
        stage.denies();
        let rest = stage.client.rest().await;
        assert!(
            rest.contains("grpc-status: 7\r\ngrpc-message: Access denied: the policy has changed\r\n"),
            "{rest}"
        );
        assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
        assert_eq!(stage.server.read(&mut [0]).await.unwrap_or(0), 0, "the server's connection has ended");
        let record = stage.proxy.record(0).await;
        assert_eq!(record.outcome(), Outcome::Denied);
        assert_eq!(record.reason, "it was allowed when it began, and ended by a change of policy");
        let grpc = record.grpc.unwrap();
        assert_eq!((grpc.status, grpc.messages_from_client, grpc.messages_from_server), (Some(7), 1, 2));
    });
}

#[test]
fn a_change_of_policy_before_and_within_an_answer() {
    run(async {
        let mut before = Stage::called().await;
        before.denies();
        let (head, body) = before.client.response().await;
        assert!(head.starts_with("http/1.1 200 ") && head.contains("grpc-status: 7\r\n"), "{head}");
        assert_eq!((head.contains("connection: close\r\n"), body.as_str()), (true, ""));
        assert_eq!(before.proxy.record(0).await.grpc.unwrap().status, Some(7));

        let mut within = Stage::called().await;
        let part = format!("{HEAD}Content-Length: 100\r\n\r\n\0\0\0\0\x5fhalf");
        within.answers(part, b"half").await;
        within.denies();
        assert_eq!(within.client.rest().await, "", "no octet that could be taken for the message");
        assert_eq!(within.proxy.record(0).await.grpc.unwrap().status, Some(7));
    });
}

#[test]
fn an_answer_that_is_not_grpcs_does_not_look_whole_when_it_is_cut_off() {
    run(async {
        let mut stage = Stage::called().await;
        let chunk = b"6\r\n\0\0\0\0\x01y\r\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
        stage.answers([head.as_bytes(), chunk].concat(), chunk).await;
        stage.denies();
        assert_eq!(stage.client.rest().await, "");
        assert_eq!(stage.proxy.record(0).await.outcome(), Outcome::Denied);
    });
}

#[test]
fn a_client_that_leaves_has_cancelled() {
    run(async {
        let mut stage = Stage::called().await;
        let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
        stage.answers(head, b"\r\n\r\n").await;
        socket2::SockRef::from(&stage.client.0).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        let Stage { proxy, client, mut server, listener } = stage;
        drop(client);
        assert_eq!(server.read(&mut [0]).await.unwrap_or(0), 0);
        let record = proxy.record(0).await;
        assert_eq!(
            (record.reason.as_str(), record.grpc.unwrap().status),
            ("cancelled by the client", Some(1))
        );
        drop(listener);
    });
}

/// The head of an open call is kept, as it may have to be judged again.
#[test]
fn a_source_whose_open_calls_take_its_share_begins_no_other() {
    run(async {
        let Stage { proxy, mut client, mut server, listener } =
            Stage::with_limits(Limits { buffered_per_source: 1, ..Limits::default() }).await;
        let mut second = proxy.connect().await;
        second.send(CALL).await;
        let (head, body) = second.response().await;
        assert!(head.starts_with("http/1.1 200 ") && head.contains("grpc-status: 14\r\n"), "{head}");
        assert_eq!(body, "");
        let record = proxy.record(0).await;
        assert_eq!(record.outcome(), Outcome::Refused);
        assert_eq!(record.reason, "the open calls of this source take all that may be kept of it");
        assert_eq!(record.grpc.unwrap().status, Some(14));
        // Once the first one has its answer there is room again, also on the connection of the refused one.
        server
            .write_all(format!("{HEAD}grpc-status: 0\r\nContent-Length: 0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(client.status().await, 200);
        assert_eq!(proxy.record(1).await.outcome(), Outcome::Allowed);
        second.send(CALL).await;
        let (mut server, _) = listener.accept().await.unwrap();
        read_call(&mut server).await;
    });
}

/// A request that is no call is judged once: nothing of it is kept, and it needs no share.
#[test]
fn a_request_that_is_no_call_passes_beside_open_calls() {
    run(async {
        let backend = Backend::start(OK).await;
        let limits = Limits { buffered_per_source: 0, ..Limits::default() };
        let proxy = Proxy::with_limits(backend.address, public_only(), limits).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 200);
        assert_eq!(proxy.record(0).await.outcome(), Outcome::Allowed);
    });
}
