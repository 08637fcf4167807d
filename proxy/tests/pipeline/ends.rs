//! Ends that nobody is to lose anything by, and ends that must not look like the whole.

use std::{
    io::{Read, Write},
    time::Duration,
};

use l7_parsers::http2::frame::Kind;
use tektin_proxy::{Limits, sends, worker::Stage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    runtime::LocalOptions,
    task::{spawn_local, yield_now},
    time::sleep,
};

use crate::{harness::*, peer::Peer};

/// Its body ends with the connection, so the connection must not end as if that was all of it.
#[test]
fn an_answer_to_an_old_client_that_is_cut_off_does_not_look_whole() {
    run(async {
        let limits = Limits { stream_idle_time: Duration::from_millis(200), ..Limits::default() };
        for (chunk, whole) in [("3\r\nabc\r\n", false), ("3\r\nabc\r\n0\r\n\r\n", true)] {
            for leaves in [Leaves::Ends, Leaves::IsSilent, Leaves::IsSilentInADrain] {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let proxy = Proxy::with_limits(address, public_only(), limits).await;
                let mut client = proxy.connect().await;
                client.send("GET /public/a HTTP/1.0\r\nHost: a\r\n\r\n").await;
                let (mut server, _) = listener.accept().await.unwrap();
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                server.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
                let mut octets = Vec::new();
                while !octets.ends_with(b"abc") {
                    assert_ne!(client.0.read_buf(&mut octets).await.unwrap(), 0);
                }
                let mut server = Some(server);
                match leaves {
                    Leaves::Ends => drop(server.take()),
                    Leaves::IsSilent => {}
                    Leaves::IsSilentInADrain => proxy.worker.enter(Stage::Cut),
                }
                let end = client.0.read_buf(&mut octets).await;
                assert_eq!(end.is_ok(), whole, "{leaves:?}: {end:?}");
            }
        }
    });
}

/// What a server does in the middle of its answer.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Ends,
    IsSilent,
    IsSilentInADrain,
}

/// The end of a body may leave together with others' writes, and its answer may be there before anybody
/// looks at what became of it.
#[test]
fn a_connection_whose_answer_is_quick_goes_on() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().event_interval(1).build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async {
        spawn_local(sends::gather());
        // Between two turns of any other task the server has its time, and is heard.
        spawn_local(async {
            loop {
                std::thread::sleep(Duration::from_millis(2));
                yield_now().await;
            }
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut octets = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(read) => octets.extend_from_slice(&buffer[..read]),
                }
                if octets.ends_with(b"\r\n0\r\n\r\n") {
                    octets.clear();
                    // Too large to wait for others' writes itself.
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{:5000}", "ok");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = proxy.connect().await;
        for _ in 0..3 {
            client.send("POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            sleep(Duration::from_millis(30)).await;
            client.send("3\r\nabc\r\n0\r\n\r\n").await;
            assert_eq!(client.status().await, 200);
        }
    });
}

#[test]
fn a_request_that_crosses_the_end_of_an_idle_connection_is_answered_to_its_end() {
    run(async {
        let limits = Limits {
            first_octet_time: Duration::from_millis(400),
            idle_time: Duration::from_millis(200),
            linger_time: Duration::from_millis(200),
            ..Limits::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits).await;
        let mut client = Peer::client(&proxy, &[]).await;
        client.wait(Kind::GoAway, 0).await;
        client.get(1, "/public/late").flush().await;
        let mut server = Peer::server(&listener, &[]).await;
        assert_eq!(server.asked().await.0, 1);
        server.headers(1, &[(":status", "200")], false).data(1, b"begun", false).flush().await;
        client.wait(Kind::Data, 1).await;
        sleep(3 * limits.linger_time).await;
        server.data(1, b"done", true).flush().await;
        let last = client.wait(Kind::Data, 1).await;
        assert_eq!((&*last.payload, last.ends()), (&b"done"[..], true));
        // Nobody has another one, so it ends now.
        while client.next().await.is_some() {}
    });
}

/// It is slow, and goes on talking meanwhile: that is no reason to forget what it has not read.
#[test]
fn a_client_that_still_reads_gets_all_of_its_last_answer() {
    run(async {
        let limits = Limits { linger_time: Duration::from_millis(100), ..Limits::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut client = socket.connect(proxy.address).await.unwrap();
        client.write_all(b"GET /public/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n";
        let answer = head.to_owned() + &"x".repeat(2_000_000);
        assert_ne!(server.read(&mut [0; 1000]).await.unwrap(), 0);
        spawn_local(async move { server.write_all(answer.as_bytes()).await });
        let mut all = Vec::new();
        let mut buffer = [0; 16 << 10];
        loop {
            match client.read(&mut buffer).await {
                Ok(0) => break,
                Ok(octets) => all.extend_from_slice(&buffer[..octets]),
                Err(error) => panic!("{error} behind {} octets", all.len()),
            }
            // Where the proxy has closed, the next read says so.
            let _ = client.try_write(b"x");
            sleep(Duration::from_millis(5)).await;
        }
        assert!(all.len() > 2_000_000, "{} octets", all.len());
    });
}
