use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use tektin_proxy::link_proto::{
    Ack, EndpointRoot, FromProxy, Hello, Policy, Record, Records, from_proxy,
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
    let link = ProxyLink::serve_with(&path, flows.clone(), Arc::new(World), ack_timeout).await.unwrap();
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
        let path = lab.path.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://link").connect_with_connector(connector).await.unwrap();
        let (to_agent, outbound) = mpsc::channel(16);
        let proxy_hello = Hello { pid: 1, version: version.into(), threads: 2 };
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

    /// The next policy update; fails after five seconds.
    async fn update(&mut self) -> PolicyUpdate {
        let message = tokio::time::timeout(Duration::from_secs(5), self.from_agent.message()).await;
        match message.expect("an update in time").unwrap().unwrap().kind {
            Some(from_agent::Kind::Policy(update)) => update,
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
        from_proxy::Kind::Records(Records { records: vec![record], lost_total })
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

#[tokio::test]
async fn the_newest_proxy_is_the_main_one_and_the_old_one_drains() {
    let lab = lab(Duration::from_secs(5)).await;
    let own = std::process::id();
    let mut old = Proxy::dial_as(&lab, "old").await;
    assert_eq!(lab.link.version_of(own, Duration::from_secs(5)).await.as_deref(), Some("old"));
    assert_eq!(lab.link.version_of(1, Duration::from_millis(20)).await, None);
    let _new = Proxy::dial_as(&lab, "new").await;
    while lab.link.health().links < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(lab.link.health().version, "new");
    lab.link.drain_all_but(1, 30).await;
    let drain =
        tokio::time::timeout(Duration::from_secs(5), old.from_agent.message()).await.unwrap().unwrap();
    assert_eq!(drain.unwrap().kind, Some(from_agent::Kind::Drain(Drain { seconds: 30 })));
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only() {
    let lab = lab(Duration::from_secs(5)).await;
    assert_eq!(std::fs::metadata(&lab.path).unwrap().permissions().mode() & 0o777, 0o600);
    // A second agent replaces a socket that was left behind.
    drop(lab.link);
    ProxyLink::serve(&lab.path, FlowStore::default(), Arc::new(World)).await.unwrap();
}
