//! HTTP/2 peers that know the protocol too well.

use std::time::Duration;

use l7_parsers::http2::frame::{ErrorCode, Kind, Setting, flag, put_settings};
use tektin_proxy::Limits;
use tokio::{net::TcpListener, time::sleep};

use crate::{harness::*, peer::Peer};

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An answer to HEAD has no body, whoever gives it (RFC 9110 §9.3.2): clients take one for a broken stream.
#[test]
fn a_denial_of_head_has_no_body() {
    run(async {
        let (_listener, address) = listener().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = Peer::client(&proxy, &[]).await;
        client.request(1, "HEAD", "/secret", &[], true);
        client.flush().await;
        let answer = client.wait(Kind::Headers, 1).await;
        assert_eq!(answer.status(), "403");
        assert!(answer.ends(), "a body behind it: {:?}", client.lull(Duration::from_millis(100)).await);
    });
}

/// What was on its way to a server whose stream is given up must not follow the reset.
#[test]
fn nothing_follows_a_reset_to_the_server() {
    run(async {
        let (listener, address) = listener().await;
        let limits = Limits { response_time: Duration::from_millis(300), ..Limits::default() };
        let proxy = Proxy::with_limits(address, public_only(), limits).await;
        // The client takes no body, so that its stream is there after the answer.
        let mut client = Peer::client(&proxy, &[(Setting::InitialWindowSize, 0)]).await;
        client.post(1, "/public/a");
        client.flush().await;
        // The stream has room, the connection has not.
        let mut server = Peer::server(&listener, &[(Setting::InitialWindowSize, 1 << 20)]).await;
        server.wait(Kind::Headers, 1).await;
        client.data(1, &vec![b'x'; 100_000], true);
        client.flush().await;
        assert_eq!(client.wait(Kind::Headers, 1).await.status(), "504");
        server.wait(Kind::RstStream, 1).await;
        server.widen(0, 1 << 20);
        server.flush().await;
        let behind = server.lull(Duration::from_millis(200)).await;
        assert!(behind.iter().all(|seen| seen.stream != 1), "{behind:?}");
    });
}

/// Answers to PINGs are taken in time by who takes nothing else: its source's memory stays held.
#[test]
fn pings_are_no_reading() {
    run(async {
        let (listener, address) = listener().await;
        let limits = Limits { stall_time: Duration::from_millis(200), ..Limits::default() };
        let proxy = Proxy::with_limits(address, public_only(), limits).await;
        let mut client = Peer::client(&proxy, &[(Setting::InitialWindowSize, 0)]).await;
        client.get(1, "/public/a");
        client.flush().await;
        let mut server = Peer::server(&listener, &[]).await;
        server.wait(Kind::Headers, 1).await;
        server.headers(1, &[(":status", "200")], false);
        server.data(1, &[b'x'; 20_000], true);
        server.flush().await;
        client.wait(Kind::Headers, 1).await;
        for _ in 0..200 {
            client.frame(Kind::Ping, 0, 0, b"any more");
            if !client.flush().await || client.next().await.is_none() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(proxy.record_count(), 2, "the connection goes on");
        assert_eq!(proxy.record(1).await.reason, "HTTP/2: client does not read");
    });
}

/// A connection so busy that each read ends within a frame is not slow.
#[test]
fn a_frame_that_is_cut_by_each_read_is_not_late() {
    run(async {
        let (_listener, address) = listener().await;
        let limits = Limits { head_time: Duration::from_secs(2), ..Limits::default() };
        let proxy = Proxy::with_limits(address, public_only(), limits).await;
        let mut client = Peer::client(&proxy, &[]).await;
        let mut stream = 1;
        while stream < 200 {
            client.get(stream, "/secret");
            stream += 2;
            client.get(stream, "/secret");
            // Up to the middle of the last frame; its rest comes with the next ones.
            let rest = client.out.split_off(client.out.len() - 3);
            assert!(client.flush().await, "stream {stream}");
            client.out = rest;
            stream += 2;
            sleep(Duration::from_millis(50)).await;
        }
        client.flush().await;
        assert_eq!(client.wait(Kind::Headers, stream - 2).await.status(), "403");
    });
}

/// An interim answer of a few octets, whose fields stand in the table, is many in the proxy's memory.
#[test]
fn interim_answers_are_not_kept_for_who_does_not_read() {
    const BIG: usize = 3900;
    run(async {
        let (listener, address) = listener().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = Peer::client(&proxy, &[]).await;
        client.get(1, "/public/a");
        client.flush().await;
        let mut server = Peer::server(&listener, &[]).await;
        server.wait(Kind::Headers, 1).await;
        // A field of nearly the whole table, which is then one octet.
        let mut first = b"\x08\x03103\x40\x01x\x7f".to_vec();
        first.extend_from_slice(&[((BIG - 127) & 0x7f | 0x80) as u8, ((BIG - 127) >> 7) as u8]);
        first.resize(first.len() + BIG, b'v');
        server.frame(Kind::Headers, flag::END_HEADERS, 1, &first);
        for _ in 0..900 {
            server.frame(Kind::Headers, flag::END_HEADERS, 1, &[&b"\x08\x03103"[..], &[0xbe; 16]].concat());
        }
        // Some 27 KB, which are 56 MB.
        let before = resident();
        let _ = tokio::time::timeout(Duration::from_secs(2), server.flush()).await;
        sleep(Duration::from_millis(300)).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 40 << 20, "{} MB more", grown >> 20);
    });
}

/// Octets of this process's memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Requests that wait for a server hold their heads: not as many as a table's entry can make.
#[test]
fn heads_that_wait_are_bounded() {
    const BIG: usize = 3900;
    run(async {
        // Takes connections, and says nothing on them: no request can be sent.
        let (listener, address) = listener().await;
        let limits = Limits { upstreams_per_thread: 1, ..Limits::default() };
        let proxy = Proxy::with_limits(address, public_only(), limits).await;
        let mut client = Peer::client(&proxy, &[]).await;
        client.get(1, "/public/a");
        client.flush().await;
        let mut server = Peer::server(&listener, &[(Setting::MaxConcurrentStreams, 1)]).await;
        server.wait(Kind::Headers, 1).await;
        let mut entry = b"\x40\x01x\x7f".to_vec();
        entry.extend_from_slice(&[((BIG - 127) & 0x7f | 0x80) as u8, ((BIG - 127) >> 7) as u8]);
        entry.resize(entry.len() + BIG, b'v');
        let head = |more: &[u8]| [&b"\x82\x86\x01\x03web\x04\x09/public/b"[..], more].concat();
        let ended = flag::END_HEADERS | flag::END_STREAM;
        let before = resident();
        client.frame(Kind::Headers, ended, 3, &head(&entry));
        for stream in (5..2000).step_by(2) {
            client.frame(Kind::Headers, ended, stream, &head(&[0xbe; 15]));
        }
        client.flush().await;
        let mut refused = 0;
        for seen in client.lull(Duration::from_millis(500)).await {
            if seen.kind == Kind::RstStream {
                assert_eq!(seen.payload, (ErrorCode::RefusedStream as u32).to_be_bytes());
                refused += 1;
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 48 << 20, "{} MB more", grown >> 20);
        assert!(refused > 500, "{refused}");
    });
}

/// What a client keeps out of tables the proxy keeps out of them, too (RFC 7541 §6.2.3).
#[test]
fn what_is_never_indexed_stays_so() {
    run(async {
        let (listener, address) = listener().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = Peer::client(&proxy, &[]).await;
        let head = b"\x82\x86\x11\x03web\x14\x0e/public/x/../a\x10\x01x\x01y\x00\x01z\x01y";
        client.frame(Kind::Headers, flag::END_HEADERS | flag::END_STREAM, 1, head);
        client.flush().await;
        let mut server = Peer::server(&listener, &[]).await;
        let asked = server.wait(Kind::Headers, 1).await;
        assert_eq!(asked.secret, [":authority", ":path", "x"], "{asked:?}");
    });
}

/// A window that SETTINGS make negative is paid back before anything more is sent (RFC 9113 §6.9.2).
#[test]
fn a_negative_window_is_paid_back() {
    run(async {
        let (listener, address) = listener().await;
        let proxy = Proxy::start(address, public_only()).await;
        let mut client = Peer::client(&proxy, &[(Setting::InitialWindowSize, 10)]).await;
        client.get(1, "/public/a");
        client.flush().await;
        let mut server = Peer::server(&listener, &[]).await;
        server.wait(Kind::Headers, 1).await;
        server.headers(1, &[(":status", "200")], false);
        server.data(1, &[b'x'; 100], true);
        server.flush().await;
        assert_eq!(client.wait(Kind::Data, 1).await.payload.len(), 10);
        put_settings(&mut client.out, &[(Setting::InitialWindowSize, 3)]);
        client.widen(1, 7);
        client.flush().await;
        assert!(client.lull(Duration::from_millis(100)).await.iter().all(|seen| seen.kind != Kind::Data));
        client.widen(1, 5);
        client.flush().await;
        assert_eq!(client.wait(Kind::Data, 1).await.payload.len(), 5);
        client.widen(1, 1000);
        client.flush().await;
        let last = client.wait(Kind::Data, 1).await;
        assert_eq!((last.payload.len(), last.ends()), (85, true));
    });
}
