//! Kafka connections: what ends them, and what they may hold.

mod records;

use std::rc::Rc;

use tektin_proxy::worker::Stage;
use tektin_proxy::{
    Limits,
    link_proto::{Action, KafkaRole, KafkaRule, Outcome, Piece, PolicyUpdate, Record},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::*;

/// Consumers may do what they do.
fn consumers() -> PolicyUpdate {
    let rule = KafkaRule { rule: 1, role: KafkaRole::Consume.into(), ..KafkaRule::default() };
    let redirect =
        Piece { action: Action::Redirect.into(), kafka: vec![rule], rule: REDIRECT_RULE, ..all_ports() };
    update(None, Some(vec![redirect]))
}

/// A Heartbeat of version 0.
fn heartbeat(correlation_id: u8) -> Vec<u8> {
    let body =
        [&[0, 12, 0, 0, 0, 0, 0, correlation_id, 0, 1, b'c'][..], &[0, 1, b'g', 0, 0, 0, 1, 0, 1, b'm']];
    framed(&body.concat())
}

/// EndTxn of version 0, which no consumer sends.
fn end_transaction(correlation_id: u8) -> Vec<u8> {
    framed(&[0, 26, 0, 0, 0, 0, 0, correlation_id, 0, 1, b'c', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1])
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

/// A proxy and a broker that the test plays.
struct Scene {
    proxy: Rc<Proxy>,
    broker: TcpListener,
}

impl Scene {
    async fn new(limits: Limits) -> Self {
        Self::of(consumers(), limits).await
    }

    async fn of(policy: PolicyUpdate, limits: Limits) -> Self {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(broker.local_addr().unwrap(), policy, limits).await;
        Self { proxy, broker }
    }

    /// A client that has sent these octets, of which the broker has got the first request.
    async fn client(&self, first: Vec<u8>, more: &[u8]) -> (Client, TcpStream) {
        let mut client = self.proxy.connect().await;
        client.send([&first[..], more].concat()).await;
        let (mut upstream, _) = self.broker.accept().await.unwrap();
        arrives(&mut upstream, &first).await;
        (client, upstream)
    }
}

async fn arrives(upstream: &mut TcpStream, expected: &[u8]) {
    let mut octets = vec![0; expected.len()];
    upstream.read_exact(&mut octets).await.unwrap();
    assert_eq!(octets, expected);
}

/// A client with two requests that passed and one between them that was denied and waits for its turn,
/// and the broker's end, which has not answered.
async fn two_due(limits: Limits) -> (Rc<Proxy>, Client, TcpStream) {
    let scene = Scene::new(limits).await;
    let (mut client, mut upstream) = scene.client(heartbeat(1), b"").await;
    client.send(end_transaction(2)).await;
    client.send(heartbeat(3)).await;
    arrives(&mut upstream, &heartbeat(3)).await;
    (scene.proxy, client, upstream)
}

/// The records of these requests; those of the connection itself are passed over.
async fn records(proxy: &Proxy) -> Vec<(i32, Outcome, String)> {
    let mut records = Vec::new();
    for at in 0.. {
        let record: Record = proxy.record(at).await;
        if let Some(kafka) = &record.kafka {
            records.push((kafka.correlation_id, record.outcome(), record.reason.clone()));
        }
        if records.len() == 3 {
            break;
        }
    }
    records
}

#[track_caller]
fn check(records: &[(i32, Outcome, String)], why: &str) {
    let end = format!("ended before an answer: {why}");
    let seen: Vec<_> = records.iter().map(|(id, outcome, _)| (*id, *outcome)).collect();
    assert_eq!(seen, [(1, Outcome::Allowed), (2, Outcome::Denied), (3, Outcome::Allowed)]);
    assert_eq!([&records[0].2, &records[2].2], [&end, &end]);
    assert!(records[1].2.ends_with(&end), "{records:?}");
}

#[test]
fn requests_without_an_answer_have_a_record_that_says_why() {
    run(async {
        let (proxy, client, upstream) = two_due(Limits::default()).await;
        // A client that still reads is owed its answers.
        drop((client, upstream));
        let told = records(&proxy).await;
        assert!(told[0].2.contains("the client left") || told[0].2.contains("the broker left"), "{told:?}");

        let (proxy, mut client, upstream) = two_due(Limits::default()).await;
        drop(upstream);
        check(&records(&proxy).await, "the broker left");
        assert_eq!(client.rest().await, "");

        let (proxy, mut client, _upstream) = two_due(Limits::default()).await;
        proxy.switch(update(None, Some(Vec::new())));
        check(&records(&proxy).await, "the policy in force denies the connection");
        assert_eq!(client.rest().await, "");

        let (proxy, mut client, _upstream) = two_due(Limits::default()).await;
        proxy.worker.enter(Stage::Cut);
        check(&records(&proxy).await, "time was up for the proxy to drain");
        assert_eq!(client.rest().await, "");

        let (proxy, mut client, mut upstream) = two_due(Limits::default()).await;
        upstream.write_all(&framed(b"this is no answer")).await.unwrap();
        let told = records(&proxy).await;
        assert_eq!((told[0].1, told[0].2.as_str()), (Outcome::Refused, "answer that nobody asked for"));
        assert!(told[2].2.ends_with("a request or an answer was refused"), "{told:?}");
        assert_eq!(client.rest().await, "");
    });
}

/// Whoever drains ends what is quiet. What was quiet once need not be so now.
#[test]
fn a_drain_waits_for_what_is_due() {
    run(async {
        let scene = Scene::new(Limits::default()).await;
        let (mut client, mut upstream) = scene.client(heartbeat(1), b"").await;
        let answer = |id: u8| framed(&[0, 0, 0, id, 0, 0]);
        upstream.write_all(&answer(1)).await.unwrap();
        arrives(&mut client.0, &answer(1)).await;
        client.send(heartbeat(2)).await;
        arrives(&mut upstream, &heartbeat(2)).await;
        scene.proxy.worker.enter(Stage::IdleEnds);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        upstream.write_all(&answer(2)).await.unwrap();
        arrives(&mut client.0, &answer(2)).await;
        assert_eq!(client.rest().await, "");
    });
}

#[test]
fn a_source_that_holds_its_share_waits_for_its_own() {
    run(async {
        let limits = Limits { buffered_per_source: 4 << 20, ..Limits::default() };
        let scene = Scene::new(limits).await;
        // Requests that say they are long, and do not come: they count as what they say.
        let claim = [&(2_u32 << 20).to_be_bytes()[..], &[0, 12, 0, 0]].concat();
        let (mut first, mut upstream) = scene.client(heartbeat(1), &claim).await;
        let _second = scene.client(heartbeat(1), &claim).await;
        // Answers still come.
        upstream.write_all(&framed(&[0, 0, 0, 1, 0, 0])).await.unwrap();
        let mut answer = [0; 10];
        first.0.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[4..8], [0, 0, 0, 1]);

        // Nobody else of this source may say more than a first word.
        let (mut third, mut upstream_of_third) = scene.client(heartbeat(8), b"").await;
        third.send(heartbeat(9)).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(upstream_of_third.try_read(&mut [0]).is_err(), "it was read while there was no room");
        drop((first, upstream));
        arrives(&mut upstream_of_third, &heartbeat(9)).await;
    });
}

#[test]
fn a_request_longer_than_it_may_be_is_refused() {
    run(async {
        let limits = Limits { kafka_request_octets: 1 << 20, ..Limits::default() };
        let (proxy, mut client, mut upstream) = two_due(limits).await;
        client.send(((1_u32 << 20) + 1).to_be_bytes()).await;
        for id in [1, 3] {
            upstream.write_all(&framed(&[0, 0, 0, id, 0, 0])).await.unwrap();
        }
        // What was asked before is answered.
        assert!(client.rest().await.len() >= 30);
        let record = proxy.record(3).await;
        assert_eq!(record.outcome(), Outcome::Refused);
        assert!(record.reason.contains("longer than allowed"), "{}", record.reason);
    });
}
