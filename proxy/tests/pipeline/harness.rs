//! The pipeline over loopback sockets. Only the kernel's part is played: the identities of a
//! connection come from a table, and the upstream socket has no foreign address.

use std::{cell::RefCell, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use prost::Message as _;
use tektin_abi::maps::{Addr, FlowKey, IpcacheValue, SteeredValue, action};
use tektin_proxy::{
    Limits,
    capture::{Accepted, AddressTable, OriginalDst, PeerAddr, SteeringTable},
    connection,
    counters::Counters,
    link_proto::{Action, Class, EndpointRoot, HttpRule, Piece, Policy, PolicyUpdate, Record, Records},
    policy::{RuleCache, Snapshot},
    record::{self, RecordSource},
    sends,
    upstream::{SourceAddress, UpstreamSockets},
    worker::Worker,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

pub(crate) const CLIENT: u32 = 300;
pub(crate) const SERVER: u32 = 301;
pub(crate) const CLIENT_ENDPOINT: u32 = 1;
pub(crate) const SERVER_ENDPOINT: u32 = 2;
pub(crate) const EGRESS_POLICY: u32 = 10;
pub(crate) const INGRESS_POLICY: u32 = 20;
pub(crate) const REDIRECT_RULE: u32 = 100;
pub(crate) const DEFAULT_DENY_RULE: u32 = 99;

struct Fixed;

impl SteeringTable for Fixed {
    fn steered(&self, _: &FlowKey) -> io::Result<Option<SteeredValue>> {
        Ok(Some(SteeredValue {
            src_identity: CLIENT,
            dst_identity: SERVER,
            src_endpoint: CLIENT_ENDPOINT,
            dst_endpoint: SERVER_ENDPOINT,
            egress_action: action::REDIRECT,
            ingress_action: action::REDIRECT,
            ..SteeredValue::default()
        }))
    }
}

impl AddressTable for Fixed {
    fn owner(&self, _: &Addr) -> io::Result<Option<IpcacheValue>> {
        Ok(None)
    }
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) worker: Rc<Worker>,
    records: RefCell<RecordSource>,
    seen: RefCell<Vec<Record>>,
}

/// Runs a test on one thread, as a worker does; a test that hangs fails.
pub(crate) fn run(test: impl Future<Output = ()> + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        // Ends at once where there is no io_uring.
        spawn_local(sends::gather());
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test hangs");
    });
}

impl Proxy {
    /// A proxy in front of `backend`.
    pub(crate) async fn start(backend: SocketAddr, update: PolicyUpdate) -> Rc<Self> {
        Self::with_limits(backend, update, Limits::default()).await
    }

    pub(crate) async fn with_limits(backend: SocketAddr, update: PolicyUpdate, limits: Limits) -> Rc<Self> {
        let (sink, source) = record::buffer(1000);
        let sockets =
            UpstreamSockets { mark: None, source: SourceAddress::Own, connect_time: limits.connect_time };
        let worker = Worker::new(
            limits,
            snapshot(&update),
            sink,
            Arc::new(Counters::default()),
            sockets,
            Box::new(Fixed),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Rc::clone(&worker);
        spawn_local(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let accepted = Accepted::adopt(stream, PeerAddr(peer), OriginalDst(backend));
                let worker = Rc::clone(&serving);
                spawn_local(async move { connection::serve(accepted, &Fixed, worker).await });
            }
        });
        Rc::new(Self { address, worker, records: RefCell::new(source), seen: RefCell::default() })
    }

    pub(crate) fn switch(&self, update: PolicyUpdate) {
        let _ = self.worker.switch_policy(snapshot(&update));
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Waits for the `count`-th record.
    pub(crate) async fn record(&self, count: usize) -> Record {
        loop {
            self.take();
            if let Some(record) = self.seen.borrow().get(count) {
                return record.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn take(&self) {
        while let Some(batch) = self.records.borrow_mut().next_batch() {
            self.seen.borrow_mut().extend(Records::decode(&*batch.octets).unwrap().records);
        }
    }

    pub(crate) fn record_count(&self) -> usize {
        self.take();
        self.seen.borrow().len()
    }
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.0.write_all(octets.as_ref()).await.unwrap();
    }

    /// Reads one response with a Content-Length (or none): its head and its body.
    pub(crate) async fn response(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            let read = self.0.read(&mut octet).await.unwrap();
            assert_ne!(read, 0, "end of stream in a head: {:?}", String::from_utf8_lossy(&head));
            head.push(octet[0]);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The status of the next response.
    pub(crate) async fn status(&mut self) -> u16 {
        let (head, _) = self.response().await;
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// All that comes until the proxy closes.
    pub(crate) async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        // A reset after the last answer ends the stream too.
        let _ = self.0.read_to_end(&mut all).await;
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// A server that keeps all octets it gets, and answers each complete request head (and each
/// counted or chunked body) with `answer`.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) saw: Rc<RefCell<Vec<u8>>>,
    pub(crate) connections: Rc<RefCell<usize>>,
}

impl Backend {
    pub(crate) async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let saw: Rc<RefCell<Vec<u8>>> = Rc::default();
        let connections: Rc<RefCell<usize>> = Rc::default();
        let (kept, counted) = (Rc::clone(&saw), Rc::clone(&connections));
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *counted.borrow_mut() += 1;
                spawn_local(Self::serve(stream, Rc::clone(&kept), answer));
            }
        });
        Self { address, saw, connections }
    }

    async fn serve(mut stream: TcpStream, saw: Rc<RefCell<Vec<u8>>>, answer: &'static str) {
        let mut pending = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let octets = match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(octets) => octets,
            };
            saw.borrow_mut().extend_from_slice(&buffer[..octets]);
            pending.extend_from_slice(&buffer[..octets]);
            while let Some(end) = request_end(&pending) {
                pending.drain(..end);
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    pub(crate) fn saw(&self) -> String {
        String::from_utf8_lossy(&self.saw.borrow()).into_owned()
    }
}

/// Where the first request of `octets` ends, if it is complete.
fn request_end(octets: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(octets);
    let head = text.find("\r\n\r\n")? + 4;
    let lower = text[..head].to_ascii_lowercase();
    let end = if lower.contains("transfer-encoding: chunked") {
        head + text[head..].find("0\r\n\r\n")? + 5
    } else if let Some(at) = lower.find("content-length: ") {
        head + lower[at + 16..].lines().next()?.trim().parse::<usize>().ok()?
    } else {
        head
    };
    (octets.len() >= end).then_some(end)
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(crate) fn snapshot(update: &PolicyUpdate) -> Arc<Snapshot> {
    Arc::new(Snapshot::default().apply(update, &mut RuleCache::default()).unwrap())
}

/// Policies of the two ends; `None`: none selects it.
pub(crate) fn update(egress: Option<Vec<Piece>>, ingress: Option<Vec<Piece>>) -> PolicyUpdate {
    let policy = |id, pieces: &Vec<Piece>| Policy {
        id,
        classes: vec![Class { pieces: pieces.clone(), id: 0 }],
        default_deny_rule: DEFAULT_DENY_RULE,
        ..Policy::default()
    };
    PolicyUpdate {
        revision: 7,
        full: true,
        policies: [(EGRESS_POLICY, &egress), (INGRESS_POLICY, &ingress)]
            .iter()
            .filter_map(|(id, pieces)| pieces.as_ref().map(|pieces| policy(*id, pieces)))
            .collect(),
        endpoints: vec![
            EndpointRoot {
                endpoint: CLIENT_ENDPOINT,
                egress_policy: egress.map_or(0, |_| EGRESS_POLICY),
                ingress_policy: 0,
            },
            EndpointRoot {
                endpoint: SERVER_ENDPOINT,
                ingress_policy: ingress.map_or(0, |_| INGRESS_POLICY),
                egress_policy: 0,
            },
        ],
        ..PolicyUpdate::default()
    }
}

/// A redirect of all TCP ports with these rules, which get the ids 1, 2, ….
pub(crate) fn rules(rules: Vec<HttpRule>) -> Vec<Piece> {
    let http = rules.into_iter().zip(1..).map(|(rule, id)| HttpRule { rule: id, ..rule }).collect();
    vec![Piece { action: Action::Redirect.into(), http, rule: REDIRECT_RULE, ..all_ports() }]
}

pub(crate) fn all_ports() -> Piece {
    Piece { protocol: 6, first_port: 0, last_port: 65535, ..Piece::default() }
}

pub(crate) fn path(path: &str) -> HttpRule {
    HttpRule { path: Some(path.into()), ..HttpRule::default() }
}

pub(crate) fn method(method: &str) -> HttpRule {
    HttpRule { method: Some(method.into()), ..HttpRule::default() }
}

/// Only ingress: GET of anything under `/public`.
pub(crate) fn public_only() -> PolicyUpdate {
    let rule = HttpRule { method: Some("GET|POST".into()), ..path("/public.*") };
    update(None, Some(rules(vec![rule])))
}
