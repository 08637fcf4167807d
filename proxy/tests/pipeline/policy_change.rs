//! A change of policy on connections that are open.

use std::{rc::Rc, time::Duration};

use tektin_proxy::{
    Limits,
    link_proto::{Action, HeaderMatch, HttpRule, Mismatch, Outcome, Piece, PolicyUpdate},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};

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

const NEW_RULE: u32 = 123;

/// Nothing but `/other`, by a rule that was not there before.
fn other_only() -> PolicyUpdate {
    let pieces = rules(vec![path("/other")]);
    update(None, Some(pieces.into_iter().map(|piece| Piece { rule: NEW_RULE, ..piece }).collect()))
}

fn is_denied_by_the_new_rule(record: &tektin_proxy::link_proto::Record) {
    assert_eq!((record.outcome(), record.ingress_rule), (Outcome::Denied, NEW_RULE));
    assert_eq!(record.http.as_ref().unwrap().status, 403);
}

/// The next request at a server: its head, and so many octets of its body.
async fn asked(server: &mut TcpStream, body: usize) -> String {
    let mut all = Vec::new();
    while !all.windows(4).any(|octets| octets == b"\r\n\r\n") || !all.ends_with(&vec![b'b'; body]) {
        assert_ne!(server.read_buf(&mut all).await.unwrap(), 0, "ended within a request");
    }
    String::from_utf8(all).unwrap()
}

/// One place for a connection to a server, which a request of another client has.
struct Full {
    proxy: Rc<Proxy>,
    listener: TcpListener,
    first: Client,
    server: TcpStream,
}

impl Full {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = Limits { upstreams_per_thread: 1, ..Limits::default() };
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits).await;
        let mut first = proxy.connect().await;
        first.send(REQUEST).await;
        let (mut server, _) = listener.accept().await.unwrap();
        asked(&mut server, 0).await;
        Self { proxy, listener, first, server }
    }

    /// Another policy comes while this request waits; then the place is free.
    async fn overtake(&mut self, request: &str, update: PolicyUpdate) -> Client {
        let mut client = self.proxy.connect().await;
        client.send(request).await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(self.proxy.record_count(), 0, "it waits");
        self.proxy.switch(update);
        // An answer to what was allowed goes on.
        self.server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(self.first.status().await, 200);
        client
    }
}

#[test]
fn a_request_that_waits_for_a_place_is_judged_again() {
    run(async {
        for request in [
            REQUEST,
            "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nbbb",
            "POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbbb\r\n0\r\n\r\n",
        ] {
            let mut full = Full::new().await;
            let mut client = full.overtake(request, other_only()).await;
            assert_eq!(client.status().await, 403, "{request}");
            is_denied_by_the_new_rule(&full.proxy.record(1).await);
            // The client's connection goes on, and so does the one that was made for it.
            client.send("GET /other HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let (mut server, _) = full.listener.accept().await.unwrap();
            assert_eq!(asked(&mut server, 0).await, "GET /other HTTP/1.1\r\nhost: a\r\n\r\n", "{request}");
            server.write_all(OK.as_bytes()).await.unwrap();
            assert_eq!(client.status().await, 200);
        }
    });
}

#[test]
fn a_body_that_waits_for_100_continue_is_not_asked_for_by_the_verdict_of_before() {
    run(async {
        let mut full = Full::new().await;
        let request =
            "POST /public/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        let mut client = full.overtake(request, other_only()).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        is_denied_by_the_new_rule(&full.proxy.record(1).await);
        let (mut server, _) = full.listener.accept().await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0, "nothing of it comes to the server");
    });
}

#[test]
fn a_request_that_waited_goes_in_the_form_of_the_new_rule() {
    let added = HeaderMatch { name: "X-New".into(), value: "n".into(), mismatch: Mismatch::Add.into() };
    run(async move {
        let mut full = Full::new().await;
        let rule = HttpRule { header_matches: vec![added], ..path("/public.*") };
        let new = update(None, Some(rules(vec![path("/other"), rule])));
        let request = "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nbbb";
        let mut client = full.overtake(request, new).await;
        let (mut server, _) = full.listener.accept().await.unwrap();
        assert_eq!(
            asked(&mut server, 3).await,
            "POST /public/a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nx-new: n\r\n\r\nbbb"
        );
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.status().await, 200);
        let record = full.proxy.record(1).await;
        assert_eq!((record.outcome(), record.ingress_rule), (Outcome::Allowed, 2));
    });
}

#[test]
fn a_request_that_waits_for_a_connect_is_judged_again() {
    run(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // With one connection that nobody accepts the kernel answers no other.
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _filler = TcpStream::connect(address).await.unwrap();
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send(REQUEST).await;
        sleep(Duration::from_millis(100)).await;
        proxy.switch(other_only());
        assert_eq!(proxy.record_count(), 0, "it waits");
        drop(listener.accept().await.unwrap());
        assert_eq!(client.status().await, 403);
        is_denied_by_the_new_rule(&proxy.record(0).await);
        drop(client);
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0, "nothing of it comes to the server");
    });
}

/// What a server has begun to read cannot be taken back.
#[test]
fn a_request_whose_head_is_on_its_way_goes_on() {
    const LONG: usize = 8 << 20;
    run(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let listener = socket.listen(8).unwrap();
        let mut limits = Limits::default();
        limits.http1.head_octets = 2 * LONG;
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits).await;
        let mut client = proxy.connect().await;
        let long = "x".repeat(LONG);
        client.send(format!("GET /public/a HTTP/1.1\r\nHost: a\r\nX-Long: {long}\r\n\r\n")).await;
        let (mut server, _) = listener.accept().await.unwrap();
        assert_ne!(server.peek(&mut [0; 9]).await.unwrap(), 0);
        proxy.switch(other_only());
        let mut came = 0;
        let mut end = Vec::new();
        while !end.ends_with(b"\r\n\r\n") {
            let mut octets = vec![0; 1 << 20];
            let read = server.read(&mut octets).await.unwrap();
            assert_ne!(read, 0, "ended within its head");
            came += read;
            end.extend_from_slice(&octets[..read]);
            end.drain(..end.len().saturating_sub(4));
        }
        assert!(came > LONG, "{came}");
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.status().await, 200);
        assert_eq!(proxy.record(0).await.ingress_rule, 1);
    });
}
