use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use tektin_proxy::link_proto::{
    Ack, Drain, EndpointRoot, FromProxy, Health, Hello, Policy, Record, Records, Stage, from_proxy,
    proxy_link_client::ProxyLinkClient,
};
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use super::*;
use crate::{api::FlowQuery, flows::testing::World};

struct Lab {
    _dir: tempfile::TempDir,
    path: PathBuf,
    link: ProxyLink,
    flows: FlowStore,
}

async fn lab(ack_timeout: Duration) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.sock");
    let flows = FlowStore::default();
    let times = Times { ack: ack_timeout, redial: ack_timeout, drain: Duration::from_secs(30) };
    let link =
        ProxyLink::serve(&path, flows.clone(), Journal::default(), Arc::new(World), times).await.unwrap();
    Lab { _dir: dir, path, link, flows }
}

/// A proxy's end of the link.
struct Proxy {
    to_agent: mpsc::Sender<FromProxy>,
    from_agent: Streaming<FromAgent>,
}

impl Proxy {
    async fn dial(lab: &Lab) -> Self {
        Self::dial_as(lab, "1.2.3").await
    }

    async fn dial_as(lab: &Lab, version: &str) -> Self {
        Self::dial_with(lab, Hello { pid: 1, version: version.into(), threads: 2, ..Hello::default() }).await
    }

    /// A proxy of this version.
    async fn dial_now(lab: &Lab, instance: u64, stage: Stage) -> Self {
        let version = instance.to_string();
        let hello = Hello { pid: 1, version, threads: 2, instance, stage: stage.into() };
        let mut proxy = Self::dial_with(lab, hello).await;
        assert!(matches!(proxy.next().await, from_agent::Kind::Hello(_)));
        proxy
    }

    async fn dial_with(lab: &Lab, proxy_hello: Hello) -> Self {
        let path = lab.path.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://link").connect_with_connector(connector).await.unwrap();
        let (to_agent, outbound) = mpsc::channel(16);
        to_agent.send(FromProxy { kind: Some(from_proxy::Kind::Hello(proxy_hello)) }).await.unwrap();
        let from_agent =
            ProxyLinkClient::new(channel).connect(ReceiverStream::new(outbound)).await.unwrap().into_inner();
        Self { to_agent, from_agent }
    }

    async fn say(&self, kind: from_proxy::Kind) {
        self.to_agent.send(FromProxy { kind: Some(kind) }).await.unwrap();
    }

    async fn answer(&self, revision: u32, error: &str) {
        self.say(from_proxy::Kind::Ack(Ack { revision, error: error.into() })).await;
    }

    async fn is_in(&self, stage: Stage) {
        self.say(from_proxy::Kind::Health(Health { stage: stage.into(), ..Health::default() })).await;
    }

    async fn records(&self, first: u64, count: usize, lost_total: u64) {
        let records = Records { records: vec![Record::default(); count], lost_total, first };
        self.say(from_proxy::Kind::NumberedRecords(records.encode_to_vec().into())).await;
    }

    /// The agent's next message; fails after five seconds.
    async fn next(&mut self) -> from_agent::Kind {
        let message = tokio::time::timeout(Duration::from_secs(5), self.from_agent.message()).await;
        message.expect("a message in time").unwrap().unwrap().kind.unwrap()
    }

    async fn through(&mut self) -> u64 {
        match self.next().await {
            from_agent::Kind::Records(ack) => ack.through,
            other => panic!("no acknowledgement: {other:?}"),
        }
    }

    /// The next policy update.
    async fn update(&mut self) -> PolicyUpdate {
        match self.next().await {
            from_agent::Kind::Policy(update) => update,
            other => panic!("not an update: {other:?}"),
        }
    }
}

fn update(revision: u32, full: bool, policy: u32) -> PolicyUpdate {
    PolicyUpdate {
        revision,
        full,
        policies: vec![Policy { id: policy, ..Policy::default() }],
        endpoints: vec![EndpointRoot { endpoint: 1, ingress_policy: policy, egress_policy: 0 }],
        ..PolicyUpdate::default()
    }
}

#[tokio::test]
async fn a_change_is_published_when_the_proxy_has_acknowledged_it() {
    let lab = lab(Duration::from_secs(5)).await;
    let mut proxy = Proxy::dial(&lab).await;
    assert!(lab.link.connected(Duration::from_secs(5)).await);

    let publication = tokio::spawn({
        let link = lab.link.clone();
        async move { link.publish(update(1, true, 10)).await }
    });
    assert_eq!(proxy.update().await, update(1, true, 10));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!publication.is_finished(), "published before the acknowledgement");
    proxy.answer(1, "").await;
    assert_eq!(publication.await.unwrap().unwrap(), Published::Acked);

    let health = lab.link.health();
    assert!(health.connected);
    assert_eq!((health.revision, health.threads, health.version.as_str(), health.links), (1, 2, "1.2.3", 1));
    // The kernel says who the peer is, not the peer.
    assert_eq!(health.pid, std::process::id());
}

#[tokio::test]
async fn without_a_proxy_the_next_one_gets_it_all_at_once() {
    let lab = lab(Duration::from_secs(5)).await;
    assert_eq!(lab.link.publish(update(1, true, 10)).await.unwrap(), Published::NoProxy);
    let delta = PolicyUpdate { removed_policies: vec![10], ..update(2, false, 11) };
    assert_eq!(lab.link.publish(delta).await.unwrap(), Published::NoProxy);
    assert!(!lab.link.health().connected);

    let mut proxy = Proxy::dial(&lab).await;
    assert_eq!(proxy.update().await, update(2, true, 11));
    // It goes away and comes back.
    drop(proxy);
    let mut proxy = Proxy::dial(&lab).await;
    assert_eq!(proxy.update().await, update(2, true, 11));
}

#[tokio::test]
async fn before_the_first_publication_a_proxy_keeps_what_it_has() {
    let lab = lab(Duration::from_secs(5)).await;
    let mut proxy = Proxy::dial(&lab).await;
    assert!(lab.link.connected(Duration::from_secs(5)).await);
    let silence = tokio::time::timeout(Duration::from_millis(100), proxy.from_agent.message()).await;
    assert!(silence.is_err(), "something was sent: {silence:?}");
}

#[tokio::test]
async fn a_refusal_leaves_the_old_state() {
    let lab = lab(Duration::from_secs(5)).await;
    assert_eq!(lab.link.publish(update(1, true, 10)).await.unwrap(), Published::NoProxy);
    let mut proxy = Proxy::dial(&lab).await;
    assert_eq!(proxy.update().await.revision, 1);
    proxy.answer(1, "").await;

    let (refused, ()) = tokio::join!(lab.link.publish(update(2, false, 11)), async {
        assert_eq!(proxy.update().await.revision, 2);
        proxy.answer(2, "bad regex").await;
    });
    match refused {
        Err(LinkError::Refused { revision: 2, reason, .. }) => assert_eq!(reason, "bad regex"),
        other => panic!("{other:?}"),
    }
    // Whoever connects now gets the state before the refused change, and the next change goes on it.
    let mut other = Proxy::dial(&lab).await;
    assert_eq!(other.update().await, update(1, true, 10));
}

#[tokio::test]
async fn when_one_refuses_the_other_gets_the_old_state_again() {
    let lab = lab(Duration::from_secs(5)).await;
    assert_eq!(lab.link.publish(update(1, true, 10)).await.unwrap(), Published::NoProxy);
    let (mut old, mut new) = (Proxy::dial(&lab).await, Proxy::dial(&lab).await);
    for proxy in [&mut old, &mut new] {
        assert_eq!(proxy.update().await.revision, 1);
        proxy.answer(1, "").await;
    }
    let (refused, ()) = tokio::join!(lab.link.publish(update(2, false, 11)), async {
        assert_eq!(old.update().await.revision, 2);
        old.answer(2, "").await;
        assert_eq!(new.update().await.revision, 2);
        new.answer(2, "no").await;
    });
    assert!(matches!(refused, Err(LinkError::Refused { .. })), "{refused:?}");
    // The one that took it is cut off, dials again, and is set back.
    let end = tokio::time::timeout(Duration::from_secs(5), old.from_agent.message()).await.expect("cut off");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    let mut again = Proxy::dial(&lab).await;
    assert_eq!(again.update().await, update(1, true, 10));
}

#[tokio::test]
async fn a_proxy_that_does_not_answer_is_cut_off() {
    let lab = lab(Duration::from_millis(100)).await;
    let mut proxy = Proxy::dial(&lab).await;
    assert!(lab.link.connected(Duration::from_secs(5)).await);
    assert_eq!(lab.link.publish(update(1, true, 10)).await.unwrap(), Published::NoProxy);
    assert!(!lab.link.health().connected);
    assert_eq!(proxy.update().await.revision, 1);
    let end =
        tokio::time::timeout(Duration::from_secs(5), proxy.from_agent.message()).await.expect("cut off");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

#[tokio::test]
async fn a_proxy_that_dies_does_not_hold_up_a_change() {
    let lab = lab(Duration::from_secs(60)).await;
    let mut proxy = Proxy::dial(&lab).await;
    assert!(lab.link.connected(Duration::from_secs(5)).await);
    let (published, ()) = tokio::join!(lab.link.publish(update(1, true, 10)), async {
        assert_eq!(proxy.update().await.revision, 1);
        drop(proxy);
    });
    assert_eq!(published.unwrap(), Published::NoProxy);
}

#[tokio::test]
async fn updates_that_make_no_sense_are_refused() {
    let lab = lab(Duration::from_secs(5)).await;
    let state = |result: Result<Published, LinkError>| match result {
        Err(LinkError::Update(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(lab.link.publish(update(1, false, 10)).await), StateError::NotFull);
    assert_eq!(lab.link.publish(update(5, true, 10)).await.unwrap(), Published::NoProxy);
    let stale = StateError::Revision { new: 5, current: 5 };
    assert_eq!(state(lab.link.publish(update(5, false, 11)).await), stale);
    let dangling = PolicyUpdate { revision: 6, removed_policies: vec![10], ..PolicyUpdate::default() };
    let unknown = StateError::UnknownPolicy { endpoint: 1, policy: 10 };
    assert_eq!(state(lab.link.publish(dangling).await), unknown);
}

#[tokio::test]
async fn records_reach_the_store_and_losses_are_counted_once() {
    let lab = lab(Duration::from_secs(5)).await;
    let records = |lost_total| {
        let record = Record { src_identity: 256, ..Record::default() };
        from_proxy::Kind::Records(Records { records: vec![record], lost_total, ..Records::default() })
    };
    let mut reader = lab.flows.read(&FlowQuery { follow: true, ..FlowQuery::default() }).unwrap();
    let proxy = Proxy::dial(&lab).await;
    proxy.say(records(3)).await;
    // Nobody could say yet who the numbers are.
    let early = tokio::time::timeout(Duration::from_millis(50), reader.next()).await;
    assert!(early.is_err(), "{early:?}");
    lab.link.take_records();
    let _ = (reader.next().await, reader.next().await);
    assert_eq!((lab.flows.status().seen, lab.flows.status().lost_proxy), (1, 3));
    assert_eq!(lab.link.health().lost_records, 3);

    drop(proxy);
    while lab.link.health().connected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let proxy = Proxy::dial(&lab).await;
    proxy.say(records(4)).await;
    let _ = (reader.next().await, reader.next().await);
    assert_eq!((lab.flows.status().seen, lab.flows.status().lost_proxy), (2, 4));
}

/// Counts are the proxies' own: one that lies about them must not stop the agent that adds them up.
#[tokio::test]
async fn sums_of_what_proxies_say_end_at_the_largest_number() {
    let lab = lab(Duration::from_secs(5)).await;
    lab.link.take_records();
    let all = Health {
        connections_open: u64::MAX,
        connections_total: u64::MAX,
        requests_allowed: u64::MAX,
        requests_denied: u64::MAX,
        requests_refused: u64::MAX,
        upstream_failures: u64::MAX,
        rss_bytes: u64::MAX,
        records_waiting: u64::MAX,
        stage: Stage::Serving.into(),
    };
    let mut proxies = Vec::new();
    for instance in [1, 2] {
        let mut proxy = Proxy::dial_now(&lab, instance, Stage::Serving).await;
        proxy.say(from_proxy::Kind::Health(all)).await;
        proxy.records(1, 1, u64::MAX).await;
        while !matches!(proxy.next().await, from_agent::Kind::Records(ack) if ack.through == 1) {}
        proxies.push(proxy);
    }
    while lab.link.health().links < 2 || lab.link.health().connections_open == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let health = lab.link.health();
    let sums = [
        health.connections_open,
        health.connections_total,
        health.requests_allowed,
        health.requests_denied,
        health.requests_refused,
        health.upstream_failures,
        health.rss_bytes,
        health.lost_records,
        health.waiting_records,
    ];
    assert_eq!(sums, [u64::MAX; 9]);
    assert_eq!((lab.flows.status().seen, lab.flows.status().lost_proxy), (2, u64::MAX));
}

#[tokio::test]
async fn numbered_records_are_acknowledged_once_stored_and_taken_once() {
    let lab = lab(Duration::from_secs(5)).await;
    let mut proxy = Proxy::dial_now(&lab, 7, Stage::Starting).await;
    proxy.records(1, 3, 0).await;
    let early = tokio::time::timeout(Duration::from_millis(50), proxy.from_agent.message()).await;
    assert!(early.is_err(), "not stored yet: {early:?}");
    lab.link.take_records();
    assert_eq!(proxy.through().await, 3);
    drop(proxy);

    // The acknowledgement was lost with the link.
    let mut proxy = Proxy::dial_now(&lab, 7, Stage::Serving).await;
    proxy.records(1, 3, 0).await;
    assert_eq!(proxy.through().await, 3);
    proxy.records(4, 2, 6).await;
    assert_eq!(proxy.through().await, 5);
    assert_eq!((lab.flows.status().seen, lab.flows.status().lost_proxy), (5, 6));
    assert_eq!(lab.link.health().lost_records, 6);
    // What cannot be read ends the link.
    proxy.say(from_proxy::Kind::NumberedRecords(b"\xff"[..].into())).await;
    let end = tokio::time::timeout(Duration::from_secs(5), proxy.from_agent.message()).await.unwrap();
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
}

/// All proxies here are one process to the kernel: the later link counts as the younger.
#[tokio::test]
async fn a_new_proxy_that_serves_lets_the_old_one_drain() {
    let lab = lab(Duration::from_secs(5)).await;
    let own = std::process::id();
    assert_eq!(lab.link.publish(update(1, true, 10)).await.unwrap(), Published::NoProxy);
    let mut old = Proxy::dial_now(&lab, 1, Stage::Serving).await;
    assert_eq!(old.update().await.revision, 1);
    old.answer(1, "").await;
    let mut new = Proxy::dial_now(&lab, 2, Stage::Starting).await;
    assert_eq!(new.update().await, update(1, true, 10));
    new.answer(1, "").await;
    // It judges, but its listeners are not in place.
    let refusal = lab.link.serves(own, Duration::from_millis(50)).await;
    assert_eq!(refusal, Err(Refusal::NotServing(Duration::from_millis(50))));
    assert_eq!(lab.link.health().version, "1");
    new.is_in(Stage::Serving).await;
    lab.link.serves(own, Duration::from_secs(5)).await.unwrap();
    assert_eq!(old.next().await, from_agent::Kind::Drain(Drain { seconds: 30 }));

    let more = Health { connections_open: 3, stage: Stage::Draining.into(), ..Health::default() };
    old.say(from_proxy::Kind::Health(more)).await;
    while lab.link.health().connections_open != 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let health = lab.link.health();
    assert_eq!((health.version.as_str(), health.links), ("2", 2));
    assert_eq!(health.draining.iter().map(|proxy| proxy.version.as_str()).collect::<Vec<_>>(), ["1"]);

    // Both judge by every change, and neither holds it up once it is gone.
    let (published, ()) = tokio::join!(lab.link.publish(update(2, false, 11)), async {
        for proxy in [&mut old, &mut new] {
            assert_eq!(proxy.update().await.revision, 2);
        }
        new.answer(2, "").await;
        drop(old);
    });
    assert_eq!(published.unwrap(), Published::Acked);
}

#[tokio::test]
async fn the_next_agent_sees_who_serves_and_who_drains() {
    let lab = lab(Duration::from_secs(5)).await;
    let mut drains = Proxy::dial_now(&lab, 1, Stage::Draining).await;
    let mut replaced = Proxy::dial_now(&lab, 2, Stage::Serving).await;
    let mut newest = Proxy::dial_now(&lab, 3, Stage::Serving).await;
    assert_eq!(
        lab.link.publish_and_answer(&mut [&mut drains, &mut replaced, &mut newest]).await,
        Published::Acked
    );
    assert!(matches!(replaced.next().await, from_agent::Kind::Drain(_)));
    assert_eq!(lab.link.health().version, "3");
    assert_eq!(lab.link.health().draining.len(), 2);
}

#[tokio::test]
async fn who_is_to_take_over_and_dies_leaves_the_places_to_the_old_one() {
    let lab = lab(Duration::from_secs(5)).await;
    let mut old = Proxy::dial_now(&lab, 1, Stage::Serving).await;
    let new = Proxy::dial_now(&lab, 2, Stage::Starting).await;
    while lab.link.health().links < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(new);
    assert!(matches!(old.next().await, from_agent::Kind::TakeListeners(_)));
}

impl ProxyLink {
    /// Publishes revision 1 and has these proxies answer it.
    async fn publish_and_answer(&self, proxies: &mut [&mut Proxy]) -> Published {
        let (published, ()) = tokio::join!(self.publish(update(1, true, 10)), async {
            for proxy in proxies {
                assert_eq!(proxy.update().await.revision, 1);
                proxy.answer(1, "").await;
            }
        });
        published.unwrap()
    }
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only() {
    let lab = lab(Duration::from_secs(5)).await;
    assert_eq!(std::fs::metadata(&lab.path).unwrap().permissions().mode() & 0o777, 0o600);
    // A second agent replaces a socket that was left behind.
    drop(lab.link);
    let (flows, journal) = (FlowStore::default(), Journal::default());
    let times = Times::with_drain(Duration::from_secs(1));
    ProxyLink::serve(&lab.path, flows, journal, Arc::new(World), times).await.unwrap();
}

/// It goes on by what it heard last, so a change that it does not know of is not in force.
#[tokio::test]
async fn a_change_waits_for_a_proxy_that_has_lost_its_link() {
    let lab = lab(Duration::from_secs(20)).await;
    let publish = |update| {
        let link = lab.link.clone();
        tokio::spawn(async move { link.publish(update).await })
    };
    let mut proxy = Proxy::dial_now(&lab, 7, Stage::Serving).await;
    let first = publish(update(1, true, 10));
    assert_eq!(proxy.update().await.revision, 1);
    proxy.answer(1, "").await;
    assert_eq!(first.await.unwrap().unwrap(), Published::Acked);

    drop(proxy);
    while lab.link.health().connected {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = publish(update(2, false, 11));
    let mut proxy = Proxy::dial_now(&lab, 7, Stage::Serving).await;
    assert_eq!(proxy.update().await.revision, 1, "the state of before");
    assert_eq!(proxy.update().await.revision, 2);
    proxy.answer(2, "").await;
    assert_eq!(second.await.unwrap().unwrap(), Published::Acked);
}
