//! Records of long requests and answers, which pass the proxy without coming into it.

use std::{rc::Rc, time::Duration};

use futures::future::join_all;
use socket2::SockRef;
use tektin_proxy::{
    Limits,
    link_proto::{Action, KafkaRule, Outcome, Piece, PolicyUpdate},
    worker::Stage,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{Scene, arrives, framed};
use crate::harness::*;

/// Any request for this topic.
fn topic(name: &str) -> PolicyUpdate {
    let rule = KafkaRule { rule: 1, topic: Some(name.into()), ..KafkaRule::default() };
    let redirect =
        Piece { action: Action::Redirect.into(), kafka: vec![rule], rule: REDIRECT_RULE, ..all_ports() };
    update(None, Some(vec![redirect]))
}

/// So that no two of its pages are alike.
fn pattern(octets: usize) -> Vec<u8> {
    (0..octets).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// Produce of version 8 (acks=1) with one partition of the topic `t`.
fn produce(correlation_id: u8, records: &[u8]) -> Vec<u8> {
    let head = [0, 0, 0, 8, 0, 0, 0, correlation_id, 0, 1, b'c', 0xff, 0xff, 0, 1, 0, 0, 0, 9];
    let topic = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
    framed(&[&head[..], &topic, &(records.len() as u32).to_be_bytes(), records].concat())
}

/// Fetch of version 4 of the topic `t`.
fn fetch(correlation_id: u8) -> Vec<u8> {
    let mut frame = vec![0, 1, 0, 4, 0, 0, 0, correlation_id, 0, 1, b'c', 0xff, 0xff, 0xff, 0xff];
    frame.extend([0; 13]);
    frame.extend([0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
    frame.extend([0; 12]);
    framed(&frame)
}

fn answer(correlation_id: u8, octets: &[u8]) -> Vec<u8> {
    framed(&[&[0, 0, 0, correlation_id][..], octets].concat())
}

/// A client and the broker's end of its connection.
async fn scene() -> (Rc<Proxy>, Client, TcpStream) {
    let scene = Scene::of(topic("t"), Limits::default()).await;
    let (client, upstream) = scene.client(fetch(1), b"").await;
    (scene.proxy, client, upstream)
}

#[test]
fn records_of_any_length_arrive_as_they_were_sent() {
    run(async {
        let (proxy, client, mut upstream) = scene().await;
        let mut client = client.0;
        let lengths = [1, 60_000, (64 << 10) - 40, 64 << 10, 70_000, 1 << 20, 3_000_001, 100_000, 5];
        for (id, length) in (2_u8..).zip(lengths) {
            let (asked, answered) = (produce(id, &pattern(length)), answer(id, b"done"));
            // The request before this one is not answered yet.
            let (sent, ()) = tokio::join!(client.write_all(&asked), arrives(&mut upstream, &asked));
            sent.unwrap();
            let before = answer(id - 1, &pattern(length));
            let (sent, ()) = tokio::join!(upstream.write_all(&before), arrives(&mut client, &before));
            sent.unwrap();
            assert!(answered.len() < 64);
        }
        for id in 1..=lengths.len() as i32 {
            let record = proxy.record(id as usize - 1).await;
            assert_eq!(
                (record.kafka.as_ref().unwrap().correlation_id, record.outcome()),
                (id, Outcome::Allowed)
            );
        }
    });
}

#[test]
fn many_at_once_go_on_one_after_the_other() {
    run(async {
        let (proxy, client, mut upstream) = scene().await;
        let mut client = client.0;
        let asked: Vec<u8> =
            (2..20).flat_map(|id| produce(id, &pattern(300_000 + usize::from(id)))).collect();
        let (sent, ()) = tokio::join!(client.write_all(&asked), arrives(&mut upstream, &asked));
        sent.unwrap();
        let answered: Vec<u8> =
            (1..20).flat_map(|id| answer(id, &pattern(200_000 + usize::from(id)))).collect();
        let (sent, ()) = tokio::join!(upstream.write_all(&answered), arrives(&mut client, &answered));
        sent.unwrap();
        assert_eq!(proxy.record(18).await.outcome(), Outcome::Allowed);
    });
}

/// More connections than there are pipes, whose readers begin late.
#[test]
fn readers_that_take_nothing_hold_up_only_their_own() {
    run(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let broker = socket.listen(64).unwrap();
        let proxy = Proxy::with_limits(broker.local_addr().unwrap(), topic("t"), Limits::default()).await;
        let scene = Scene { proxy, broker };
        let asked = Rc::new(produce(2, &pattern(20 << 20)));
        let mut slow = Vec::new();
        for _ in 0..18 {
            let (client, upstream) = scene.client(fetch(1), b"").await;
            // What the kernel holds for it is less than what is sent.
            SockRef::from(&client.0).set_send_buffer_size(64 << 10).unwrap();
            let asked = Rc::clone(&asked);
            let sending = tokio::task::spawn_local(async move {
                let mut client = client.0;
                client.write_all(&asked).await.unwrap();
                client
            });
            slow.push((sending, upstream));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(slow.iter().any(|(sending, _)| !sending.is_finished()), "nobody was held up");
        let (client, mut upstream) = scene.client(fetch(1), b"").await;
        let mut client = client.0;
        let quick = produce(2, &pattern(1 << 20));
        let (sent, ()) = tokio::join!(client.write_all(&quick), arrives(&mut upstream, &quick));
        sent.unwrap();
        join_all(slow.into_iter().map(|(sending, mut upstream)| {
            let asked = &asked;
            async move {
                arrives(&mut upstream, asked).await;
                sending.await.unwrap()
            }
        }))
        .await;
    });
}

#[test]
fn a_request_that_breaks_off_is_not_whole_at_the_broker() {
    run(async {
        let whole = produce(2, &pattern(1 << 20));
        let (proxy, client, mut upstream) = scene().await;
        let mut client = client.0;
        client.write_all(&whole[..700_000]).await.unwrap();
        arrives(&mut upstream, &whole[..100_000]).await;
        drop(client);
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = upstream.read_to_end(&mut rest).await;
        assert!(whole[100_000..700_000].starts_with(&rest));
        for id in [1, 2] {
            let record = proxy.record(id - 1).await;
            assert_eq!(record.kafka.as_ref().unwrap().correlation_id, id as i32);
            assert_eq!(record.outcome(), Outcome::Allowed);
            assert!(record.reason.ends_with("the client left"), "{}", record.reason);
        }

        let (proxy, mut client, mut upstream) = scene().await;
        client.0.write_all(&whole[..700_000]).await.unwrap();
        arrives(&mut upstream, &whole[..100_000]).await;
        drop(upstream);
        assert_eq!(client.rest().await, "");
        assert!(proxy.record(1).await.reason.ends_with("the broker left"));
    });
}

#[test]
fn an_answer_that_breaks_off_is_the_clients_as_far_as_it_came() {
    run(async {
        let whole = answer(1, &pattern(1 << 20));
        let (proxy, client, mut upstream) = scene().await;
        let mut client = client.0;
        upstream.write_all(&whole[..700_000]).await.unwrap();
        upstream.shutdown().await.unwrap();
        let mut came = Vec::new();
        client.read_to_end(&mut came).await.unwrap();
        assert!(came == whole[..700_000], "{} octets came", came.len());
        assert!(proxy.record(0).await.reason.ends_with("the broker left"));
    });
}

/// All of it has come from the broker, so that nothing is due; the client has not taken it yet.
#[test]
fn a_drain_waits_for_an_answer_that_is_on_its_way() {
    run(async {
        for length in (0..60).map(|step| step * 75_000) {
            let scene = Scene::of(topic("t"), Limits::default()).await;
            // What the kernel holds for it is less than what comes.
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(8 << 10).unwrap();
            let mut client = socket.connect(scene.proxy.address).await.unwrap();
            let asked: Vec<u8> = (1..3).flat_map(fetch).collect();
            client.write_all(&asked).await.unwrap();
            let (mut upstream, _) = scene.broker.accept().await.unwrap();
            arrives(&mut upstream, &asked).await;
            let answered = [answer(1, &pattern(length)), answer(2, &pattern(50_000))].concat();
            let sending = {
                let answered = answered.clone();
                tokio::task::spawn_local(async move {
                    upstream.write_all(&answered).await.unwrap();
                    upstream
                })
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
            scene.proxy.worker.enter(Stage::IdleEnds);
            tokio::time::sleep(Duration::from_millis(5)).await;
            arrives(&mut client, &answered).await;
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            sending.await.unwrap();
        }
    });
}

#[test]
fn a_change_of_policy_in_the_middle() {
    run(async {
        let whole = produce(2, &pattern(1 << 20));
        let (proxy, client, mut upstream) = scene().await;
        let mut client = client.0;
        client.write_all(&whole[..700_000]).await.unwrap();
        arrives(&mut upstream, &whole[..100_000]).await;
        // Of its rules: it is for the next request.
        proxy.switch(topic("other"));
        client.write_all(&whole[700_000..]).await.unwrap();
        client.write_all(&whole).await.unwrap();
        arrives(&mut upstream, &whole[100_000..]).await;
        for id in [1, 2] {
            upstream.write_all(&answer(id, b"done")).await.unwrap();
        }
        for outcome in [Outcome::Allowed, Outcome::Allowed, Outcome::Denied] {
            let at = [Outcome::Allowed, Outcome::Denied].iter().position(|other| *other == outcome).unwrap();
            assert_eq!(proxy.record(2 * at).await.outcome(), outcome);
        }
        assert!(upstream.try_read(&mut [0]).is_err(), "the broker got what was denied");

        // Of the connection: it ends.
        let (proxy, mut client, mut upstream) = scene().await;
        client.0.write_all(&whole[..700_000]).await.unwrap();
        arrives(&mut upstream, &whole[..100_000]).await;
        proxy.switch(update(None, Some(Vec::new())));
        assert_eq!(client.rest().await, "");
        let record = proxy.record(1).await;
        assert!(record.reason.contains("the policy in force denies the connection"), "{}", record.reason);
    });
}

#[test]
fn requests_that_claim_more_than_comes_wait_for_their_rest() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = Limits { stall_time: Duration::from_millis(300), ..Limits::default() };
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), topic("t"), limits).await;
        let scene = Scene { proxy, broker: listener };
        let (mut client, mut upstream) = scene.client(fetch(1), b"").await;
        let whole = produce(2, &pattern(1 << 20));
        client.0.write_all(&whole[..300_000]).await.unwrap();
        arrives(&mut upstream, &whole[..300_000]).await;
        // As with a request that is held: not for long.
        assert_eq!(client.rest().await, "");
        let record = scene.proxy.record(1).await;
        assert!(record.reason.contains("nothing moved"), "{}", record.reason);
    });
}
