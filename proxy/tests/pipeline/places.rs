//! More clients than there may be connections to servers.

use std::time::Duration;

use tektin_proxy::{Limits, link_proto::Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::*;

const REQUEST: &str = "GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n";

const POST: &str = "POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

fn limits(upstreams_per_thread: usize) -> Limits {
    Limits { upstreams_per_thread, connect_time: Duration::from_millis(400), ..Limits::default() }
}

async fn asked(server: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(server.read_buf(&mut head).await.unwrap(), 0, "ended within a head");
    }
}

async fn exchange(client: &mut Client, server: &mut TcpStream) {
    client.send(REQUEST).await;
    asked(server).await;
    server.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(client.status().await, 200);
}

async fn first_exchange(client: &mut Client, listener: &TcpListener) -> TcpStream {
    client.send(REQUEST).await;
    let (mut server, _) = listener.accept().await.unwrap();
    asked(&mut server).await;
    server.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(client.status().await, 200);
    server
}

#[test]
fn the_one_that_was_idle_for_longest_goes() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits(2)).await;
        let (mut a, mut b, mut c) = (proxy.connect().await, proxy.connect().await, proxy.connect().await);
        let mut to_a = first_exchange(&mut a, &listener).await;
        let mut to_b = first_exchange(&mut b, &listener).await;
        exchange(&mut a, &mut to_a).await;
        let mut to_c = first_exchange(&mut c, &listener).await;
        assert_eq!(to_b.read(&mut [0; 9]).await.unwrap(), 0, "the oldest one is closed");
        exchange(&mut a, &mut to_a).await;
        exchange(&mut c, &mut to_c).await;
        // Its client notices nothing.
        let mut to_b = first_exchange(&mut b, &listener).await;
        assert_eq!(to_a.read(&mut [0; 9]).await.unwrap(), 0);
        // A client that leaves has one to spare.
        drop(c);
        tokio::time::sleep(Duration::from_millis(20)).await;
        exchange(&mut a, &mut to_c).await;
        exchange(&mut b, &mut to_b).await;
        // Or takes it along where nobody may have it.
        a.send(POST).await;
        asked(&mut to_c).await;
        to_c.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(a.status().await, 200);
        drop(a);
        assert_eq!(to_c.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(proxy.record_count(), 10);
    });
}

#[test]
fn a_request_under_way_is_not_cut_for_another() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits(1)).await;
        let (mut first, mut second) = (proxy.connect().await, proxy.connect().await);
        first.send(REQUEST).await;
        let (mut server, _) = listener.accept().await.unwrap();
        asked(&mut server).await;
        second.send(REQUEST).await;
        assert_eq!(second.status().await, 503);
        let record = proxy.record(0).await;
        assert_eq!(record.outcome(), Outcome::UpstreamFailed);
        assert!(record.reason.starts_with("no room for another"), "{}", record.reason);
        // Whoever still waits when the answer is there gets the place.
        second.send(REQUEST).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(first.status().await, 200);
        let (mut next, _) = listener.accept().await.unwrap();
        asked(&mut next).await;
        next.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(second.status().await, 200);
    });
}
