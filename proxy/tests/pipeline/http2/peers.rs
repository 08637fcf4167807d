//! What servers and clients do to each other's streams, frame by frame.

use l7_parsers::http2::frame::{Kind, flag};
use tektin_proxy::{Limits, link_proto::Outcome};

use crate::{
    harness::*,
    peer::{Peer, Stage},
};

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;
const PROTOCOL_ERROR: u32 = 1;
const STREAM_CLOSED: u32 = 5;

#[test]
fn a_request_that_a_server_on_its_leave_did_not_take_up_may_be_sent_again() {
    run(async {
        let Stage { proxy, listener, mut client, mut server } = Stage::new().await;
        client.request(3, "POST", "/public/3", &[], true).flush().await;
        assert_eq!(server.asked().await.0, 3);
        server.frame(Kind::GoAway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).flush().await;
        assert_eq!(client.reset(3).await, REFUSED_STREAM);
        assert_eq!(proxy.record(0).await.outcome(), Outcome::UpstreamFailed);
        // Another connection takes it; the first one finishes what it has.
        client.request(5, "POST", "/public/3", &[], true).flush().await;
        let mut next = Peer::server(&listener, &[]).await;
        assert_eq!(next.asked().await, (5, "/public/3".to_owned()));
        server.headers(1, &[(":status", "200")], true).flush().await;
        next.headers(5, &[(":status", "204")], true).flush().await;
        let mut answers = [client.news().await.unwrap(), client.news().await.unwrap()];
        answers.sort_by_key(|answer| answer.stream);
        let status = |stream, status: &str| (stream, vec![(":status".to_owned(), status.to_owned())]);
        assert_eq!(
            answers.map(|answer| (answer.stream, answer.fields)),
            [status(1, "200"), status(5, "204")]
        );
    });
}

/// It knows then that nothing was done, as it would from the server itself.
#[test]
fn a_request_that_the_server_refuses_may_be_sent_again() {
    run(async {
        let Stage { proxy, mut client, mut server, .. } = Stage::new().await;
        server.frame(Kind::RstStream, 0, 1, &REFUSED_STREAM.to_be_bytes()).flush().await;
        assert_eq!(client.reset(1).await, REFUSED_STREAM);
        let record = proxy.record(0).await;
        assert_eq!(record.outcome(), Outcome::UpstreamFailed);
        assert!(record.reason.starts_with("the server reset the stream"), "{}", record.reason);
        // One that it resets for another reason may have been begun.
        client.request(3, "POST", "/public/3", &[], true).flush().await;
        assert_eq!(server.asked().await.0, 3);
        server.frame(Kind::RstStream, 0, 3, &CANCEL.to_be_bytes()).flush().await;
        assert_eq!(client.status(3).await, "502");
    });
}

#[test]
fn a_client_that_leaves_may_still_say_something() {
    run(async {
        let Stage { mut client, mut server, .. } = Stage::new().await;
        client.data(1, b"", true).frame(Kind::GoAway, 0, 0, &[0; 8]).flush().await;
        server.headers(1, &[(":status", "200")], false).data(1, b"the whole of it", true).flush().await;
        assert_eq!(client.status(1).await, "200");
        client.wait(Kind::GoAway, 0).await;
        // An RST for the first would end the second, and take what the client has not read.
        for _ in 0..2 {
            assert!(client.frame(Kind::Ping, 0, 0, &[0; 8]).flush().await, "the connection was reset");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
}

#[test]
fn information_comes_before_the_answer() {
    run(async {
        let Stage { mut client, mut server, .. } = Stage::new().await;
        server.headers(1, &[(":status", "100")], false).flush().await;
        server.headers(1, &[(":status", "103"), ("link", "</style.css>")], false).flush().await;
        assert_eq!(client.status(1).await, "100");
        let hint = client.news().await.unwrap();
        assert_eq!((hint.fields[1].1.as_str(), hint.ends()), ("</style.css>", false));
        server.headers(1, &[(":status", "200")], false).flush().await;
        assert_eq!(client.status(1).await, "200");
        // The request goes on, in both directions.
        client.frame(Kind::Data, flag::PADDED | flag::END_STREAM, 1, b"\x02body\0\0").flush().await;
        let body = server.news().await.unwrap();
        assert_eq!((body.payload.as_slice(), body.ends()), (&b"body"[..], true));
        server.frame(Kind::Data, 0, 1, b"ans").flush().await;
        server.headers(1, &[("x-sum", "7")], true).flush().await;
        assert_eq!(client.news().await.unwrap().payload, b"ans");
        let trailers = client.news().await.unwrap();
        assert_eq!((trailers.ends(), trailers.fields), (true, vec![("x-sum".to_owned(), "7".to_owned())]));
    });
}

#[test]
fn answers_that_break_the_protocol_are_not_passed_on() {
    run(async {
        for fields in [
            &[("x", "y")][..],
            &[(":status", "2x0")],
            &[(":status", "200"), (":status", "200")],
            &[(":status", "200"), ("X-Upper", "y")],
            &[(":status", "200"), ("connection", "close")],
            &[(":status", "200"), ("x", "a\nb")],
            &[(":status", "200"), ("content-length", "1"), ("content-length", "1")],
            &[(":status", "101")],
        ] {
            let Stage { proxy, mut client, mut server, .. } = Stage::new().await;
            server.headers(1, fields, false).flush().await;
            assert_eq!(client.status(1).await, "502", "{fields:?}");
            let record = proxy.record(0).await;
            assert_eq!(record.outcome(), Outcome::UpstreamFailed);
            assert!(record.reason.starts_with("malformed response: "), "{}", record.reason);
            assert_eq!(server.reset(1).await, PROTOCOL_ERROR, "{fields:?}");
        }
        // In the middle of one: a body that is not as long as it was to be.
        for (flags, body) in [(0, &b"toolong"[..]), (flag::END_STREAM, b"s")] {
            let Stage { mut client, mut server, .. } = Stage::new().await;
            server.headers(1, &[(":status", "200"), ("content-length", "3")], false).flush().await;
            server.frame(Kind::Data, flags, 1, body).flush().await;
            assert_eq!(client.status(1).await, "200");
            assert_eq!(client.reset(1).await, 2, "INTERNAL_ERROR, and no end that looks like one");
        }
    });
}

/// The proxy's last words to a gRPC client, with which the stream ends in good order, would make it whole.
#[test]
fn an_answer_that_is_not_grpc_and_is_cut_off_does_not_look_whole_to_whoever_asked_in_grpc() {
    run(async {
        for (asks, answer) in [
            ("application/grpc", &[("content-type", "text/html")][..]),
            ("application/grpc-web-text", &[]),
            ("application/grpc-web", &[("content-type", "application/grpc-web"), ("content-length", "9")]),
        ] {
            let Stage { mut client, mut server, .. } = Stage::new().await;
            client.request(3, "POST", "/public/3", &[("content-type", asks)], false).flush().await;
            assert_eq!(server.asked().await.0, 3);
            server.headers(3, &[&[(":status", "200")], answer].concat(), false).flush().await;
            assert_eq!(client.status(3).await, "200");
            drop(server);
            assert_eq!(client.reset(3).await, 8, "CANCEL: {asks}");
        }
    });
}

#[test]
fn a_server_that_breaks_its_connection_breaks_no_other() {
    run(async {
        let Stage { proxy, listener, mut client, mut server } = Stage::new().await;
        // A stream that nobody opened.
        server.headers(9, &[(":status", "200")], true).flush().await;
        assert_eq!(client.status(1).await, "502");
        assert!(proxy.record(0).await.reason.starts_with("the server breaks HTTP/2"));
        loop {
            match client.news().await.unwrap() {
                came if came.kind == Kind::RstStream || came.ends() => break,
                _ => {}
            }
        }
        client.request(3, "POST", "/public/3", &[], true).flush().await;
        let mut next = Peer::server(&listener, &[]).await;
        assert_eq!(next.asked().await.0, 3);
    });
}

#[test]
fn a_client_that_breaks_a_stream_loses_that_one() {
    run(async {
        let Stage { proxy, mut client, mut server, .. } = Stage::new().await;
        client.request(3, "POST", "/public/3", &[("content-length", "2")], false).flush().await;
        assert_eq!(server.asked().await.0, 3);
        client.frame(Kind::Data, 0, 3, b"abc").flush().await;
        assert_eq!(client.reset(3).await, PROTOCOL_ERROR);
        assert_eq!(server.reset(3).await, CANCEL);
        let record = proxy.record(0).await;
        assert_eq!(record.outcome(), Outcome::Refused);
        assert!(record.reason.ends_with("body of another length than its header says"), "{}", record.reason);
        // What it sent before it knew is thrown away; the other stream goes on.
        client.frame(Kind::Data, 0, 3, b"more").flush().await;
        client.frame(Kind::Data, flag::END_STREAM, 1, b"").flush().await;
        assert!(server.news().await.unwrap().ends());
        client.frame(Kind::Data, 0, 1, b"behind the end").flush().await;
        assert_eq!(client.reset(1).await, STREAM_CLOSED);
    });
}

#[test]
fn a_request_that_waits_for_its_server_is_judged_by_the_policy_that_is_in_force_when_it_is_sent() {
    run(async {
        let limits = Limits { upstreams_per_thread: 1, ..Limits::default() };
        let Stage { proxy, mut client, mut server, .. } = Stage::with(limits, &[]).await;
        // SETTINGS_MAX_CONCURRENT_STREAMS is 1 from now on.
        server.frame(Kind::Settings, 0, 0, &[0, 3, 0, 0, 0, 1]).flush().await;
        server.headers(1, &[(":status", "200")], false).flush().await;
        assert_eq!(client.status(1).await, "200");
        client.request(3, "POST", "/public/3", &[], true).flush().await;
        client.request(5, "POST", "/public/5", &[], true).flush().await;
        client.request(7, "POST", "/secret", &[], true).flush().await;
        // Only what is denied has an answer.
        assert_eq!(client.status(7).await, "403");
        assert!(client.news().await.unwrap().ends());
        proxy.switch(update(None, Some(rules(vec![path("/public/(1|5)")]))));
        assert_eq!(client.status(3).await, "403");
        assert!(client.news().await.unwrap().ends());
        server.frame(Kind::Data, flag::END_STREAM, 1, b"").flush().await;
        client.frame(Kind::Data, flag::END_STREAM, 1, b"").flush().await;
        assert!(client.news().await.unwrap().ends());
        assert!(server.news().await.unwrap().ends());
        assert_eq!(server.asked().await, (5, "/public/5".to_owned()));
    });
}

#[test]
fn streams_that_nobody_reads_stop_no_other() {
    run(async {
        let Stage { mut client, mut server, .. } = Stage::new().await;
        // Room on the connection without end, and on the streams only what they begin with.
        client.frame(Kind::WindowUpdate, 0, 0, &0x7000_0000_u32.to_be_bytes()).flush().await;
        let unread: Vec<u32> = (0..12).map(|number| 3 + 2 * number).collect();
        for stream in &unread {
            client.request(*stream, "POST", "/public/big", &[], true).flush().await;
            assert_eq!(server.asked().await.0, *stream);
            server.headers(*stream, &[(":status", "200")], false).flush().await;
            // As much as the proxy lets a server send on one stream.
            for _ in 0..8 {
                server.frame(Kind::Data, 0, *stream, &[b'x'; 16 << 10]).flush().await;
            }
        }
        server.headers(1, &[(":status", "200")], false).flush().await;
        server.frame(Kind::Data, flag::END_STREAM, 1, b"answer").flush().await;
        let mut got = 0;
        loop {
            let came = client.news().await.unwrap();
            if came.kind == Kind::Data && came.stream != 1 {
                got += came.payload.len();
            }
            if came.kind == Kind::Data && came.stream == 1 {
                assert_eq!(came.payload, b"answer");
                break;
            }
        }
        assert_eq!(got, unread.len() * 65_535, "what the streams' windows let out");
        // The rest comes when it is asked for.
        client.frame(Kind::WindowUpdate, 0, 3, &0x10_0000_u32.to_be_bytes()).flush().await;
        let mut rest = 0;
        while rest < (128 << 10) - 65_535 {
            let came = client.news().await.unwrap();
            assert_eq!((came.kind, came.stream), (Kind::Data, 3));
            rest += came.payload.len();
        }
    });
}
