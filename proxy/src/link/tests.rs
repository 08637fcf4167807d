use std::{pin::Pin, sync::atomic::Ordering, time::Duration};

use futures::Stream;
use prost::Message as _;
use tokio::{net::UnixListener, task::LocalSet, time::timeout};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;
use crate::{
    link_proto::{
        AgentHello, Drain, EndpointRoot, FromAgent, FromProxy, Policy, PolicyUpdate, Record, Records,
        RecordsAck, Stage, from_agent, from_proxy,
        proxy_link_server::{ProxyLink, ProxyLinkServer},
    },
    record,
};

/// An agent that hands each connection to the test.
struct Agent(mpsc::Sender<Connection>);

struct Connection {
    proxy: Streaming<FromProxy>,
    agent: mpsc::Sender<Result<FromAgent, Status>>,
}

#[tonic::async_trait]
impl ProxyLink for Agent {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<FromAgent, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<FromProxy>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (agent, receiver) = mpsc::channel(8);
        let connection = Connection { proxy: request.into_inner(), agent };
        self.0.send(connection).await.map_err(|_| Status::unavailable("the test has ended"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Connection {
    async fn send(&self, kind: from_agent::Kind) {
        self.agent.send(Ok(FromAgent { kind: Some(kind) })).await.unwrap();
    }

    /// The next message but health.
    async fn next(&mut self) -> from_proxy::Kind {
        loop {
            match self.proxy.next().await.expect("end of the link").unwrap().kind.unwrap() {
                from_proxy::Kind::Health(_) => {}
                kind => return kind,
            }
        }
    }

    async fn ack(&mut self) -> (u32, String) {
        match self.next().await {
            from_proxy::Kind::Ack(ack) => (ack.revision, ack.error),
            other => panic!("no acknowledgement: {other:?}"),
        }
    }
}

fn serve(socket: &std::path::Path) -> (mpsc::Receiver<Connection>, JoinHandle<()>) {
    let (sender, connections) = mpsc::channel(1);
    let listener = UnixListener::bind(socket).unwrap();
    let server = tokio::spawn(async move {
        let service = ProxyLinkServer::new(Agent(sender));
        let _ = Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await;
    });
    (connections, server)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(Duration::from_secs(20), test).await.expect("the test hangs");
    });
}

fn full(revision: u32) -> PolicyUpdate {
    PolicyUpdate {
        revision,
        full: true,
        policies: vec![Policy { id: 1, ..Policy::default() }],
        endpoints: vec![EndpointRoot { endpoint: 1, ingress_policy: 1, egress_policy: 0 }],
        ..PolicyUpdate::default()
    }
}

async fn policy(link: &mut Link) -> (u32, Seen) {
    match link.next().await {
        Event::Policy { snapshot, seen } => (snapshot.revision(), seen),
        Event::Drain(_) | Event::TakeListeners => panic!("no policy"),
    }
}

#[test]
fn says_hello_applies_refuses_and_acknowledges() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("proxy.sock");
        let (mut connections, _server) = serve(&socket);
        let (_sink, source) = record::buffer(10);
        let mut link = Link::start(socket, 3, source, Vec::new());
        let mut agent = connections.recv().await.unwrap();
        let from_proxy::Kind::Hello(hello) = agent.next().await else { panic!("no hello") };
        assert_eq!((hello.pid, hello.threads), (std::process::id(), 3));

        agent.send(from_agent::Kind::Policy(PolicyUpdate { revision: 1, ..PolicyUpdate::default() })).await;
        assert_eq!(agent.ack().await, (1, "the first update must be a full one".to_owned()));

        agent.send(from_agent::Kind::Policy(full(2))).await;
        let (revision, seen) = policy(&mut link).await;
        assert_eq!(revision, 2);
        seen.acknowledge(Ok(()));
        assert_eq!(agent.ack().await, (2, String::new()));

        let unknown = EndpointRoot { endpoint: 1, ingress_policy: 9, egress_policy: 0 };
        let bad = PolicyUpdate { revision: 3, endpoints: vec![unknown], ..PolicyUpdate::default() };
        agent.send(from_agent::Kind::Policy(bad)).await;
        let (revision, error) = agent.ack().await;
        assert_eq!(revision, 3);
        assert!(error.contains("policy 9"), "{error}");

        agent.send(from_agent::Kind::Drain(Drain { seconds: 4 })).await;
        assert!(matches!(link.next().await, Event::Drain(time) if time == Duration::from_secs(4)));
    });
}

#[test]
fn records_wait_for_an_agent_that_is_away() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("proxy.sock");
        let (sink, source) = record::buffer(600);
        let counters = Arc::new(Counters::default());
        counters.requests_denied.store(7, Ordering::Relaxed);
        let mut link = Link::start(socket.clone(), 1, source, vec![counters]);
        for port in 0..700 {
            sink.send(&Record { src_port: port, ..Record::default() });
        }
        sleep(Duration::from_millis(100)).await;

        let (mut connections, _server) = serve(&socket);
        let mut agent = connections.recv().await.unwrap();
        // One that says nothing of itself but a policy acknowledges no records.
        agent.send(from_agent::Kind::Policy(full(1))).await;
        policy(&mut link).await.1.acknowledge(Ok(()));
        let mut ports = Vec::new();
        while ports.len() < 600 {
            match agent.proxy.next().await.unwrap().unwrap().kind.unwrap() {
                from_proxy::Kind::Records(records) => {
                    assert!(records.records.len() <= 512);
                    assert_eq!(records.lost_total, 100);
                    ports.extend(records.records.iter().map(|record| record.src_port));
                }
                from_proxy::Kind::Health(health) => {
                    assert_eq!(health.requests_denied, 7);
                    assert!(health.rss_bytes > 0);
                }
                _ => {}
            }
        }
        assert_eq!(ports, (0..600).collect::<Vec<_>>());
    });
}

/// The numbers of the first and the last record of the next batch.
async fn batch(agent: &mut Connection) -> (u64, u64) {
    loop {
        if let from_proxy::Kind::NumberedRecords(encoded) = agent.next().await {
            let batch = Records::decode(encoded).unwrap();
            return (batch.first, batch.first + batch.records.len() as u64 - 1);
        }
    }
}

#[test]
fn records_that_were_not_acknowledged_are_sent_again() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("proxy.sock");
        let (sink, source) = record::buffer(2000);
        let mut link = Link::start(socket.clone(), 1, source, Vec::new());
        (0..1000).for_each(|_| sink.send(&Record::default()));
        let hello = || from_agent::Kind::Hello(AgentHello { version: "1".to_owned() });
        let mut instances = Vec::new();
        for round in 0..2 {
            let (mut connections, server) = serve(&socket);
            let mut agent = connections.recv().await.unwrap();
            let from_proxy::Kind::Hello(proxy) = agent.next().await else { panic!("no hello") };
            assert_eq!(proxy.stage(), Stage::Starting);
            instances.push(proxy.instance);
            agent.send(hello()).await;
            if round == 0 {
                assert_eq!(batch(&mut agent).await, (1, 512));
                assert_eq!(batch(&mut agent).await, (513, 1000));
                agent.send(from_agent::Kind::Records(RecordsAck { through: 512 })).await;
                // The acknowledgement is on its way before the link breaks.
                sink.send(&Record::default());
                assert_eq!(batch(&mut agent).await, (1001, 1001));
                server.abort();
                std::fs::remove_file(&socket).unwrap();
            } else {
                assert_eq!(batch(&mut agent).await, (513, 1000));
                assert_eq!(batch(&mut agent).await, (1001, 1001));
                agent.send(from_agent::Kind::Records(RecordsAck { through: 1000 })).await;
                let end = tokio::task::spawn_local(async move { link.end(Duration::from_secs(10)).await });
                agent.send(from_agent::Kind::Records(RecordsAck { through: 1001 })).await;
                // Everything is taken: the proxy ends its stream.
                while agent.proxy.next().await.is_some() {}
                drop(agent);
                assert_eq!(end.await.unwrap(), 0);
                break;
            }
        }
        assert_eq!(instances[0], instances[1]);
        assert_ne!(instances[0], 0);
    });
}

#[test]
fn who_ends_without_an_agent_says_what_is_left() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let (sink, source) = record::buffer(10);
        let mut link = Link::start(directory.path().join("proxy.sock"), 1, source, Vec::new());
        (0..3).for_each(|_| sink.send(&Record::default()));
        assert_eq!(link.end(Duration::from_millis(50)).await, 3);
    });
}

#[test]
fn dials_again_and_keeps_the_policy() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("proxy.sock");
        let (_sink, source) = record::buffer(10);
        let mut link = Link::start(socket.clone(), 1, source, Vec::new());
        let (mut connections, server) = serve(&socket);
        let mut agent = connections.recv().await.unwrap();
        let _hello = agent.next().await;
        agent.send(from_agent::Kind::Policy(full(1))).await;
        let (_, seen) = policy(&mut link).await;
        seen.acknowledge(Ok(()));
        assert_eq!(agent.ack().await.0, 1);
        server.abort();
        drop((agent, connections));
        std::fs::remove_file(&socket).unwrap();

        let (mut connections, _server) = serve(&socket);
        let mut agent = connections.recv().await.unwrap();
        assert!(matches!(agent.next().await, from_proxy::Kind::Hello(_)));
        // A delta on top of what the proxy has kept.
        let delta = PolicyUpdate { revision: 2, removed_endpoints: vec![1], ..PolicyUpdate::default() };
        agent.send(from_agent::Kind::Policy(delta)).await;
        let (revision, seen) = policy(&mut link).await;
        assert_eq!(revision, 2);
        seen.acknowledge(Err("worker 0 does not answer".to_owned()));
        assert_eq!(agent.ack().await, (2, "worker 0 does not answer".to_owned()));
    });
}
