//! Servers that send frames which bring no answer closer.

use l7_parsers::http2::frame::{ErrorCode, Kind, Setting, flag};
use tektin_proxy::link_proto::Outcome;
use tokio::net::TcpListener;

use crate::{
    harness::*,
    peer::{Peer, Stage},
};

const FLOOD: usize = 3000;
const GOAWAY: &[u8] = &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

impl Stage {
    /// A request that another connection takes.
    async fn goes_on(&mut self) {
        self.client.get(3, "/public/3").flush().await;
        let mut next = Peer::server(&self.listener, &[]).await;
        assert_eq!(next.asked().await, (3, "/public/3".to_owned()));
        next.headers(3, &[(":status", "204")], true).flush().await;
        let answer = self.client.wait(Kind::Headers, 3).await;
        assert_eq!(answer.status(), "204");
    }
}

/// The GOAWAY that a peer gets, if it is for too much.
async fn is_told(peer: &mut Peer) {
    let told = peer.wait(Kind::GoAway, 0).await;
    assert_eq!(told.payload[4..8], (ErrorCode::EnhanceYourCalm as u32).to_be_bytes());
}

#[test]
fn frames_for_nothing_end_the_connection_to_the_server() {
    run(async {
        let one = 1_u32.to_be_bytes();
        for (name, kind, payload) in [
            ("PING", Kind::Ping, &b"are you?"[..]),
            ("SETTINGS", Kind::Settings, &[]),
            ("WINDOW_UPDATE", Kind::WindowUpdate, &one),
            ("GOAWAY", Kind::GoAway, GOAWAY),
            ("unknown", Kind::Unknown(77), &[]),
        ] {
            let mut stage = Stage::new().await;
            for _ in 0..FLOOD {
                stage.server.frame(kind, 0, 0, payload);
            }
            stage.server.flush().await;
            assert_eq!(stage.client.status(1).await, "502", "{name}");
            let record = stage.proxy.record(0).await;
            assert_eq!(record.outcome(), Outcome::UpstreamFailed);
            assert_eq!(record.reason, format!("the server breaks HTTP/2: too many {name} frames"));
            is_told(&mut stage.server).await;
            stage.goes_on().await;
            assert_eq!(stage.proxy.record_count(), 2, "{name}");
        }
    });
}

#[test]
fn frames_of_a_stream_are_no_better() {
    run(async {
        for (name, kind, flags, payload) in [
            ("empty DATA", Kind::Data, 0, &b""[..]),
            ("RST_STREAM", Kind::RstStream, 0, &[0, 0, 0, 0]),
            ("PRIORITY", Kind::Priority, 0, &[0, 0, 0, 0, 0]),
            // Behind the end of it, which may be so where a stream was given up.
            ("HEADERS", Kind::Headers, flag::END_HEADERS | flag::END_STREAM, b"\x88"),
        ] {
            let mut stage = Stage::new().await;
            stage.server.headers(1, &[(":status", "200")], false).flush().await;
            assert_eq!(stage.client.status(1).await, "200");
            if kind == Kind::Headers {
                stage.client.frame(Kind::RstStream, 0, 1, &(ErrorCode::Cancel as u32).to_be_bytes());
                stage.client.flush().await;
                stage.server.wait(Kind::RstStream, 1).await;
            }
            for _ in 0..FLOOD {
                stage.server.frame(kind, flags, 1, payload);
            }
            stage.server.flush().await;
            // The record of the request was written with its answer.
            let record = stage.proxy.record(1).await;
            assert_eq!(record.outcome(), Outcome::UpstreamFailed);
            assert_eq!(record.reason, format!("the server breaks HTTP/2: too many {name} frames"));
            is_told(&mut stage.server).await;
            stage.goes_on().await;
        }
    });
}

#[test]
fn streams_of_another_connection_do_not_notice() {
    run(async {
        let mut stage = Stage::new().await;
        stage.server.headers(1, &[(":status", "200")], false);
        stage.server.frame(Kind::GoAway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).flush().await;
        assert_eq!(stage.client.status(1).await, "200");
        stage.client.get(3, "/public/3").flush().await;
        let mut second = Peer::server(&stage.listener, &[]).await;
        assert_eq!(second.asked().await.0, 3);
        for _ in 0..FLOOD {
            second.frame(Kind::Ping, 0, 0, b"are you?");
        }
        second.flush().await;
        assert_eq!(stage.client.status(3).await, "502");
        assert!(stage.client.news().await.unwrap().ends());
        // Of both directions.
        stage.client.data(1, b"asked", true).flush().await;
        let asked = stage.server.wait(Kind::Data, 1).await;
        assert_eq!((asked.payload.as_slice(), asked.ends()), (&b"asked"[..], true));
        stage.server.data(1, b"answered", true).flush().await;
        let answer = stage.client.news().await.unwrap();
        assert_eq!((answer.payload.as_slice(), answer.ends()), (&b"answered"[..], true));
    });
}

/// As gRPC's own peers do: a WINDOW_UPDATE and a PING for each message that comes.
#[test]
fn who_measures_with_each_small_message_floods_nobody() {
    async fn measure(peer: &mut Peer) {
        let message = peer.wait(Kind::Data, 1).await;
        peer.widen(0, message.payload.len() as u32).frame(Kind::Ping, 0, 0, b"how long");
    }
    run(async {
        let mut stage = Stage::new().await;
        stage.server.headers(1, &[(":status", "200")], false).flush().await;
        for _ in 0..FLOOD {
            stage.client.data(1, b"to", false).flush().await;
            measure(&mut stage.server).await;
            stage.server.data(1, b"fro", false).flush().await;
            measure(&mut stage.client).await;
        }
        stage.client.data(1, b"", true).flush().await;
        stage.server.data(1, b"", true).flush().await;
        while !stage.client.wait(Kind::Data, 1).await.ends() {}
    });
}

/// A client is bounded by the same measure.
#[test]
fn a_window_widened_by_single_octets_pays_for_nothing() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
        let mut client = Peer::client(&proxy, &[(Setting::InitialWindowSize, 0)]).await;
        client.get(1, "/public/1").flush().await;
        let mut server = Peer::server(&listener, &[]).await;
        server.asked().await;
        server.headers(1, &[(":status", "200")], false).data(1, &[b'x'; 60_000], false).flush().await;
        assert_eq!(client.status(1).await, "200");
        for _ in 0..FLOOD {
            client.widen(1, 1);
        }
        client.flush().await;
        is_told(&mut client).await;
        assert_eq!(proxy.record(1).await.reason, "HTTP/2: too many WINDOW_UPDATE frames");
    });
}
