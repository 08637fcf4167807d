//! Flow control from end to end, and many calls at once.

use bytes::Bytes;
use tektin_proxy::Limits;

use super::stage::*;
use crate::harness::*;

/// What the proxy and the sockets on both sides of it may hold for one stream, at most.
const HELD: usize = 8 << 20;

#[test]
fn a_client_that_does_not_read_one_call_stops_its_server_and_no_other_call() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut slow = stage.open("/a.B/Watch").await;
        let mut other = stage.open("/a.B/Watch").await;
        // The server pushes for as long as it may.
        let mut pushed = 0;
        loop {
            slow.down.reserve_capacity(16 << 10);
            let more = std::future::poll_fn(|cx| slow.down.poll_capacity(cx));
            match tokio::time::timeout(std::time::Duration::from_millis(300), more).await {
                Ok(capacity) => {
                    let octets = capacity.unwrap().unwrap().min(16 << 10);
                    slow.down.send_data(Bytes::from(vec![0; octets]), false).unwrap();
                    pushed += octets;
                }
                Err(_) => break,
            }
            assert!(pushed < HELD, "nobody stops the server");
        }
        assert!(pushed > 0);
        // What it may not send any more does not hold up the others.
        for _ in 0..200 {
            other.works().await;
        }
        // And all that was sent arrives once the client reads.
        let mut got = 0;
        while got < pushed {
            got += read(&mut slow.body).await.unwrap().unwrap().len();
        }
        assert_eq!(got, pushed);
    });
}

#[test]
fn a_server_that_does_not_read_one_call_stops_its_client_and_no_other_call() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut slow = stage.open("/a.B/Upload").await;
        let mut other = stage.open("/a.B/Watch").await;
        let mut pushed = 0;
        loop {
            slow.up.reserve_capacity(16 << 10);
            let more = std::future::poll_fn(|cx| slow.up.poll_capacity(cx));
            match tokio::time::timeout(std::time::Duration::from_millis(300), more).await {
                Ok(capacity) => {
                    let octets = capacity.unwrap().unwrap().min(16 << 10);
                    slow.up.send_data(Bytes::from(vec![0; octets]), false).unwrap();
                    pushed += octets;
                }
                Err(_) => break,
            }
            assert!(pushed < HELD, "nobody stops the client");
        }
        for _ in 0..200 {
            other.works().await;
        }
        let mut got = 0;
        while got < pushed {
            got += slow.asked.next().await.unwrap().len();
        }
        assert_eq!(got, pushed);
    });
}

#[test]
fn what_open_calls_keep_is_bounded_for_their_source() {
    run(async {
        let limits = Limits { buffered_per_source: 8 << 10, ..Limits::default() };
        let mut stage = Stage::with_limits(&[("*", None)], limits).await;
        let long = "x".repeat(5000);
        let metadata = [("x-long", long.as_str())];
        let (_first, mut up) = call(&mut stage.client, "/a.B/Slow", "application/grpc", &metadata);
        let mut first = stage.server.asked().await;
        let (_second, _up) = call(&mut stage.client, "/a.B/Slow", "application/grpc", &metadata);
        let _second = stage.server.asked().await;
        // The share is taken: the next one waits until one of the two is gone.
        let (_third, _up) = call(&mut stage.client, "/a.B/Next", "application/grpc", &[]);
        let quiet = std::time::Duration::from_millis(200);
        assert!(tokio::time::timeout(quiet, stage.server.asked()).await.is_err(), "it did not wait");
        up.send_reset(h2::Reason::CANCEL);
        assert!(read(&mut first.body).await.is_err());
        assert_eq!(stage.server.asked().await.head.uri.path(), "/a.B/Next");
    });
}

#[test]
fn a_thousand_calls_at_once_on_one_connection() {
    run(async {
        assert!(Limits::default().streams >= 1000);
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut open = Vec::new();
        for _ in 0..1000 {
            std::future::poll_fn(|cx| stage.client.poll_ready(cx)).await.unwrap();
            open.push(stage.open("/a.B/Watch").await);
        }
        for call in &mut open {
            call.works().await;
        }
        stage.proxy.switch(policy(&[("nobody.Else", None)]));
        for call in &mut open {
            assert_eq!(rest(&mut call.body).await.unwrap().1["grpc-status"], "7");
        }
        assert_eq!(stage.record(999).await.grpc.unwrap().status, Some(7));
    });
}
