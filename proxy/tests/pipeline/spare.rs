//! Connections to servers whose client has left, and who gets them.

use std::{cell::RefCell, rc::Rc, time::Duration};

use tektin_proxy::{Limits, link_proto::Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

use crate::harness::*;

const GET: &str = "GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST_GET: &str = "GET /public/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const POST: &str = "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";

/// On a connection of its own: the answer's status.
async fn ask(proxy: &Proxy, request: &str) -> u16 {
    let mut client = proxy.connect().await;
    client.send(request).await;
    let status = client.status().await;
    drop(client);
    // Until the proxy has seen that it left.
    tokio::time::sleep(Duration::from_millis(20)).await;
    status
}

#[test]
fn the_next_client_of_a_workload_gets_the_connection_that_one_has_left() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        for request in [LAST_GET, GET, LAST_GET, GET] {
            assert_eq!(ask(&proxy, request).await, 200);
        }
        assert_eq!(*backend.connections.borrow(), 1);
        // Not while somebody is on it.
        let (mut one, mut two) = (proxy.connect().await, proxy.connect().await);
        for client in [&mut one, &mut two] {
            client.send(GET).await;
            assert_eq!(client.status().await, 200);
        }
        assert_eq!(*backend.connections.borrow(), 2);
        // Each request is judged, whatever its connection carried before.
        let denied = "GET /private HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(ask(&proxy, denied).await, 403);
        assert!(!backend.saw().contains("private"));
    });
}

#[test]
fn a_request_that_may_not_be_sent_twice_gets_a_connection_of_its_own() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        assert_eq!(ask(&proxy, GET).await, 200);
        assert_eq!(ask(&proxy, POST).await, 200);
        assert_eq!(*backend.connections.borrow(), 2);
        // Nor is one left over from those: a load of them would only collect connections.
        assert_eq!(ask(&proxy, GET).await, 200);
        assert_eq!(ask(&proxy, POST).await, 200);
        assert_eq!(*backend.connections.borrow(), 3);
    });
}

#[test]
fn a_connection_that_somebody_logged_in_on_is_nobody_elses() {
    let with = |field: &str| format!("GET /public/a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
    let cases = [
        (OK, with("Authorization: Basic eDp5"), 1),
        (OK, with("Authorization: Bearer x"), 1),
        (OK, with("authorization: NTLM TlRMTVNTUAAB"), 2),
        (OK, with("Authorization: Negotiate YII"), 2),
        (OK, with("Proxy-Authorization: NTLM TlRMTVNTUAAB"), 2),
        ("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n", with("X: y"), 2),
    ];
    run(async move {
        for (answer, request, connections) in cases {
            let backend = Backend::start(answer).await;
            let proxy = Proxy::start(backend.address, public_only()).await;
            ask(&proxy, &request).await;
            ask(&proxy, GET).await;
            assert_eq!(*backend.connections.borrow(), connections, "{request}");
        }
    });
}

#[test]
fn nobody_gets_one_that_waited_for_too_long() {
    run(async {
        let backend = Backend::start(OK).await;
        let limits = Limits { spare_time: Duration::from_millis(1), ..Limits::default() };
        let proxy = Proxy::with_limits(backend.address, public_only(), limits).await;
        for connections in 1..=3 {
            assert_eq!(ask(&proxy, GET).await, 200);
            assert_eq!(*backend.connections.borrow(), connections);
        }
    });
}

#[test]
fn a_request_that_a_new_connection_did_not_answer_has_failed() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let connections: Rc<RefCell<usize>> = Rc::default();
        let counted = Rc::clone(&connections);
        spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                *counted.borrow_mut() += 1;
                let _ = stream.read(&mut [0; 4096]).await;
            }
        });
        assert_eq!(ask(&proxy, GET).await, 502);
        assert_eq!(*connections.borrow(), 1);
    });
}

/// Answers one request, and ends the connection without a word when another comes.
async fn answer_one(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    if stream.read(&mut buffer).await.is_ok_and(|octets| octets > 0) {
        stream.write_all(OK.as_bytes()).await.unwrap();
        let _ = stream.read(&mut buffer).await;
    }
}

#[test]
fn a_server_that_ends_the_connection_under_a_request_gets_it_on_another_one() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connections: Rc<RefCell<usize>> = Rc::default();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let counted = Rc::clone(&connections);
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *counted.borrow_mut() += 1;
                spawn_local(answer_one(stream));
            }
        });
        // The connection of another client, and one of the client's own.
        for connections_then in [1, 2, 3] {
            assert_eq!(ask(&proxy, GET).await, 200);
            assert_eq!(*connections.borrow(), connections_then);
        }
        let mut client = proxy.connect().await;
        for _ in 0..3 {
            client.send(GET).await;
            assert_eq!(client.status().await, 200);
        }
        // One record each, and none of them of a failure.
        for at in 0..6 {
            assert_eq!(proxy.record(at).await.outcome(), Outcome::Allowed);
        }
        // What may not be sent twice is not.
        client.send(POST).await;
        assert_eq!(client.status().await, 502);
        assert_eq!(proxy.record(6).await.outcome(), Outcome::UpstreamFailed);
        assert_eq!(proxy.record_count(), 7);
    });
}
