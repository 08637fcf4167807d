//! Bodies in both directions.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::spawn_local,
    time::sleep,
};

use crate::harness::*;

#[test]
fn trailers_of_a_request_end_at_the_proxy() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client
            .send(
                "POST /public/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                 4;ext=1\r\nabcd\r\n2\r\nef\r\n0\r\nX-Sum: 9\r\n\r\n",
            )
            .await;
        assert_eq!(client.status().await, 200);
        let saw = backend.saw();
        assert!(saw.contains("transfer-encoding: chunked\r\n"), "{saw}");
        assert!(!saw.contains("ext") && !saw.contains("railer") && !saw.contains("sum"), "{saw}");
        let body = saw.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body, "4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n");
    });
}

#[test]
fn chunked_response_passes() {
    run(async {
        let backend = Backend::start(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let answer = client.rest().await.to_ascii_lowercase();
        assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
        assert!(!answer.contains("content-length"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_answer() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.0.shutdown().await.unwrap();
        assert!(client.rest().await.ends_with("ok"));
    });
}

#[test]
fn the_server_decides_about_100_continue() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = proxy.connect().await;
        client
            .send("POST /public/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            .await;
        let (mut server, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let octets = server.read(&mut buffer).await.unwrap();
        let head = String::from_utf8_lossy(&buffer[..octets]).into_owned();
        assert!(head.contains("expect: 100-continue") && head.ends_with("\r\n\r\n"), "{head}");
        // The client waits for the server, not for the proxy.
        let mut early = [0; 1];
        let waited = tokio::time::timeout(Duration::from_millis(50), client.0.read(&mut early)).await;
        assert!(waited.is_err(), "100 before the server said so");
        server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let (head, _) = client.response().await;
        assert!(head.starts_with("http/1.1 100 "), "{head}");
        client.send("data").await;
        let octets = server.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..octets], b"data");
        server.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(client.status().await, 200);
    });
}

#[test]
fn a_final_answer_instead_of_100_continue_passes() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = proxy.connect().await;
        client
            .send("POST /public/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            .await;
        let (mut server, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let _ = server.read(&mut buffer).await.unwrap();
        server
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.status().await, 413);
    });
}

#[test]
fn a_denied_request_is_not_asked_for_its_body() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client
            .send("POST /secret HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            .await;
        assert_eq!(client.status().await, 403);
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_small_denied_body_keeps_the_connection_and_a_large_one_ends_it() {
    run(async {
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client.send("POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").await;
        assert_eq!(client.status().await, 403);
        client.send("x".repeat(1000)).await;
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.status().await, 200);
        client.send("POST /secret HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n").await;
        assert_eq!(client.status().await, 403);
        let mut sent = 0;
        while sent < 10_000_000 {
            match tokio::time::timeout(Duration::from_secs(5), client.0.write(&[0; 8192])).await {
                Ok(Ok(octets)) => sent += octets,
                Ok(Err(_)) => break,
                Err(_) => panic!("neither read nor closed"),
            }
        }
        assert!(sent < 10_000_000, "the whole body was read");
    });
}

/// A body goes at the pace of the slower side: nobody stores it.
#[test]
fn backpressure_reaches_the_sender() {
    const WHOLE: usize = 64 << 20;
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = proxy.connect().await;
        let sent = Rc::new(Cell::new(0));
        let sending = Rc::clone(&sent);
        spawn_local(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = server.read(&mut buffer).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {WHOLE}\r\n\r\n");
            server.write_all(head.as_bytes()).await.unwrap();
            while sending.get() < WHOLE {
                match server.write(&[7; 16 << 10][..(WHOLE - sending.get()).min(16 << 10)]).await {
                    Ok(octets) => sending.set(sending.get() + octets),
                    Err(_) => return,
                }
            }
        });
        client.send("GET /public/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut last = usize::MAX;
        while last != sent.get() || sent.get() == 0 {
            last = sent.get();
            sleep(Duration::from_millis(200)).await;
        }
        // What fits into the sockets' buffers and the proxy's, with a client that reads nothing.
        assert!(last < WHOLE / 2, "{last} octets are stored somewhere");
        let mut read = 0;
        let mut buffer = vec![0; 64 << 10];
        while read < WHOLE {
            let octets = client.0.read(&mut buffer).await.unwrap();
            assert_ne!(octets, 0);
            read += octets;
        }
    });
}

#[test]
fn a_megabyte_up_and_down_is_unchanged() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let client = proxy.connect().await;
        let body: Rc<Vec<u8>> =
            Rc::new((0..1 << 20).map(|at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect());
        let expected = Rc::clone(&body);
        spawn_local(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            let mut buffer = vec![0; 32 << 10];
            loop {
                let octets = server.read(&mut buffer).await.unwrap();
                got.extend_from_slice(&buffer[..octets]);
                let head = got.windows(4).position(|window| window == b"\r\n\r\n");
                if head.is_some_and(|head| got.len() == head + 4 + expected.len()) {
                    break;
                }
            }
            assert!(got.ends_with(&expected));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", expected.len());
            server.write_all(head.as_bytes()).await.unwrap();
            server.write_all(&expected).await.unwrap();
            let _ = server.read(&mut buffer).await;
        });
        let (mut reading, mut writing) = client.0.into_split();
        let sent = Rc::clone(&body);
        spawn_local(async move {
            let head =
                format!("POST /public/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len());
            writing.write_all(head.as_bytes()).await.unwrap();
            writing.write_all(&sent).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut got = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        while !got.ends_with(&body) || got.len() < body.len() {
            let octets = reading.read(&mut buffer).await.unwrap();
            assert_ne!(octets, 0);
            got.extend_from_slice(&buffer[..octets]);
        }
        assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn a_server_that_knows_no_expectations_gets_the_body_all_the_same() {
    run(async {
        // Answers only once it has the body, and never with 100.
        let backend = Backend::start(OK).await;
        let proxy = Proxy::start(backend.address, public_only()).await;
        let mut client = proxy.connect().await;
        client
            .send("POST /public/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            .await;
        let (head, _) = client.response().await;
        assert!(head.starts_with("http/1.1 100 "), "{head}");
        client.send("body").await;
        assert_eq!(client.status().await, 200);
        assert!(backend.saw().ends_with("\r\n\r\nbody"), "{}", backend.saw());
    });
}
