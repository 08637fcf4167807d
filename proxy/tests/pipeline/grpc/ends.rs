//! Who ends a call, and what the other side and the record get to know.

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use tektin_proxy::link_proto::Outcome;

use super::stage::*;
use crate::harness::*;

#[test]
fn a_cancelled_call_is_cancelled_at_its_server() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        // Before and after the first word of the answer.
        let (response, mut up) = stage.call("/a.B/Slow");
        let mut slow = stage.server.asked().await;
        up.send_reset(Reason::CANCEL);
        assert!(response.await.is_err());
        assert_eq!(read(&mut slow.body).await.unwrap_err().reason(), Some(Reason::CANCEL));
        let mut open = stage.open("/a.B/Watch").await;
        open.works().await;
        open.up.send_reset(Reason::CANCEL);
        assert_eq!(std::future::poll_fn(|cx| open.down.poll_reset(cx)).await.unwrap(), Reason::CANCEL);
        for number in 0..2 {
            let record = stage.record(number).await;
            assert_eq!(
                (record.outcome(), record.reason.as_str()),
                (Outcome::Allowed, "cancelled by the client")
            );
            assert_eq!(record.grpc.unwrap().status, Some(1));
        }
        // The connections live on.
        stage.open("/a.B/Watch").await.works().await;
    });
}

#[test]
fn a_call_that_its_client_ends_at_its_deadline_says_so() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let metadata = [("grpc-timeout", "10m")];
        let (response, mut up) = call(&mut stage.client, "/a.B/Slow", "application/grpc", &metadata);
        let asked = stage.server.asked().await;
        assert_eq!(asked.head.headers["grpc-timeout"], "10m");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        up.send_reset(Reason::CANCEL);
        assert!(response.await.is_err());
        let record = stage.record(0).await;
        assert_eq!(record.reason, "ended by the client at its deadline");
        assert_eq!(record.grpc.unwrap().status, Some(4));
    });
}

#[test]
fn a_server_that_resets_one_call() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut kept = stage.open("/a.B/Watch").await;
        let (response, _up) = stage.call("/a.B/Get");
        stage.server.asked().await.respond.send_reset(Reason::ENHANCE_YOUR_CALM);
        // Before the answer, too: what the reset means the client knows best.
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
        let mut open = stage.open("/a.B/Watch").await;
        open.works().await;
        open.down.send_reset(Reason::CANCEL);
        assert_eq!(rest(&mut open.body).await.unwrap_err().reason(), Some(Reason::CANCEL));
        for (number, status) in [(0, 8), (1, 1)] {
            let record = stage.record(number).await;
            assert_eq!(
                (record.outcome(), record.grpc.unwrap().status),
                (Outcome::UpstreamFailed, Some(status))
            );
        }
        kept.works().await;
    });
}

#[test]
fn a_server_that_is_gone_in_the_middle() {
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), policy(&[("*", None)])).await;
        let mut client = connect(&proxy, &h2::client::Builder::new()).await;
        let (response, _up) = call(&mut client, "/a.B/Watch", "application/grpc", &[]);
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = h2::server::handshake(stream).await.unwrap();
        let (request, respond) = server.accept().await.unwrap().unwrap();
        let (head, body) = request.into_parts();
        let mut asked = Asked { head, body, respond };
        let mut down = asked.answer();
        down.send_data(message(b"x"), false).unwrap();
        let mut body = tokio::select! {
            response = response => response.unwrap().into_body(),
            _ = server.accept() => panic!("the proxy closed"),
        };
        tokio::select! {
            octets = read(&mut body) => assert_eq!(octets.unwrap().unwrap(), message(b"x")),
            _ = server.accept() => panic!("the proxy closed"),
        }
        drop(server);
        let (_, trailers) = rest(&mut body).await.unwrap();
        assert_eq!(trailers["grpc-status"], "14");
        let record = proxy.record(0).await;
        assert_eq!((record.outcome(), record.grpc.unwrap().status), (Outcome::UpstreamFailed, Some(14)));
    });
}

#[test]
fn a_server_may_end_a_call_before_its_client_does() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut open = stage.open("/a.B/Upload").await;
        open.works().await;
        open.down.send_trailers(status("0")).unwrap();
        assert_eq!(rest(&mut open.body).await.unwrap().1, status("0"));
        assert_eq!(stage.record(0).await.grpc.unwrap().status, Some(0));
        // Half closed by the client, the answer goes on.
        let mut half = stage.open("/a.B/Download").await;
        half.up.send_data(message(b"all"), true).unwrap();
        assert_eq!(half.asked.next().await.unwrap(), message(b"all"));
        assert!(half.asked.next().await.is_none());
        for _ in 0..3 {
            half.down.send_data(message(b"part"), false).unwrap();
            assert_eq!(read(&mut half.body).await.unwrap().unwrap(), message(b"part"));
        }
        half.down.send_trailers(status("0")).unwrap();
        assert_eq!(rest(&mut half.body).await.unwrap().1, status("0"));
        let grpc = stage.record(1).await.grpc.unwrap();
        assert_eq!((grpc.messages_from_client, grpc.messages_from_server), (1, 3));
    });
}

#[test]
fn who_says_goaway_finishes_what_is_open() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let mut open = stage.open("/a.B/Watch").await;
        open.works().await;
        stage.server.leaves.notify_one();
        open.works().await;
        // What comes then goes to the server on a connection of its own.
        let mut next = stage.open("/a.B/Watch").await;
        next.works().await;
        open.works().await;
        assert_eq!(stage.server.connections.get(), 2);
        // A client without further calls says so when its last one has ended, and not before.
        let Stage { client, proxy, .. } = stage;
        drop(client);
        for call in [&mut open, &mut next] {
            call.works().await;
            call.down.send_trailers(status("0")).unwrap();
            assert_eq!(rest(&mut call.body).await.unwrap().1, status("0"));
        }
        for number in 0..2 {
            assert_eq!(proxy.record(number).await.grpc.unwrap().status, Some(0));
        }
    });
}

#[test]
fn metadata_arrive_as_they_were_sent() {
    run(async {
        let mut stage = Stage::of(&[("*", None)]).await;
        let metadata = [
            ("x-twice", "one"),
            ("x-blob-bin", "AAEC/w"),
            ("x-twice", "two, three"),
            ("x-blob-bin", "Zm9v,YmFy"),
            ("grpc-encoding", "gzip"),
            ("grpc-accept-encoding", "gzip, identity"),
            ("x-twice", ""),
        ];
        let (response, mut up) = call(&mut stage.client, "/a.B/C", "application/grpc+proto", &metadata);
        // A compressed message is octets like others.
        up.send_data(Bytes::from_static(b"\x01\0\0\0\x04\x1f\x8b\xff\0"), true).unwrap();
        let mut asked = stage.server.asked().await;
        let values = |fields: &HeaderMap, name: &str| -> Vec<String> {
            fields.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        for name in ["x-twice", "x-blob-bin", "grpc-encoding", "grpc-accept-encoding"] {
            let sent: Vec<&str> = metadata.iter().filter(|(own, _)| *own == name).map(|(_, v)| *v).collect();
            assert_eq!(values(&asked.head.headers, name), sent);
        }
        assert_eq!(asked.head.headers["te"], "trailers");
        assert_eq!(asked.next().await.unwrap(), &b"\x01\0\0\0\x04\x1f\x8b\xff\0"[..]);
        let mut trailers = status("0");
        for value in ["AAEC/w", "", "%20"] {
            trailers.append("x-blob-bin", value.parse().unwrap());
        }
        trailers.insert("grpc-message", "\t%E2%98%BA".parse().unwrap());
        asked.answer().send_trailers(trailers.clone()).unwrap();
        assert_eq!(rest(response.await.unwrap().body_mut()).await.unwrap().1, trailers);
    });
}
