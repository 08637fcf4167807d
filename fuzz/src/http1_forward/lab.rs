//! A client, the proxy and a server on one thread: the client over a pair of sockets, the server over
//! loopback, as the proxy connects to it.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use l7_parsers::http1::{Limits as Http1Limits, Scanner, Step};
use tektin_abi::maps::{FlowKey, SteeredValue, action};
use tektin_proxy::{
    Limits,
    capture::{Accepted, OriginalDst, PeerAddr, SteeringTable},
    connection,
    counters::Counters,
    link_proto::{Action, Class, EndpointRoot, HttpRule, Piece, Policy, PolicyUpdate},
    policy::{RuleCache, Snapshot},
    record::{self, RecordSource},
    upstream::{SourceAddress, UpstreamSockets},
    worker::Worker,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::{LocalSet, spawn_local, yield_now},
    time::timeout,
};

use super::{METHODS, PLACE};
use crate::cut::Cut;

/// An exchange takes a few milliseconds; one that hangs is a finding.
const HANGS: Duration = Duration::from_secs(9);
/// Whoever waits for the other is given up so soon.
const PATIENCE: Duration = Duration::from_millis(100);

/// What came of it.
pub struct Exchange {
    /// What the server got, a stream a connection, in the order in which they were made.
    pub reached: Vec<Vec<u8>>,
    /// What the client got.
    pub answered: Vec<u8>,
}

thread_local! {
    static LAB: RefCell<Option<Lab>> = const { RefCell::new(None) };
}

struct Lab {
    runtime: Runtime,
    listener: Rc<TcpListener>,
    worker: Rc<Worker>,
    records: RecordSource,
}

/// The kernel's part.
struct Steered;

impl SteeringTable for Steered {
    fn steered(&self, _: &FlowKey) -> io::Result<Option<SteeredValue>> {
        Ok(Some(SteeredValue {
            src_identity: 300,
            dst_identity: 301,
            dst_endpoint: 1,
            ingress_action: action::REDIRECT,
            ..SteeredValue::default()
        }))
    }
}

/// Lets the proxy carry the client's octets, with these answers of a server. `seed`: how it is cut.
pub(super) fn exchange(client: &[u8], answers: &[&[u8]], seed: &[u8]) -> Exchange {
    // Taken out, so that a panic leaves none that is half used.
    let mut lab = LAB.take().unwrap_or_else(Lab::new);
    let exchange = lab.exchange(client, answers, seed);
    while lab.records.next_batch().is_some() {}
    LAB.set(Some(lab));
    exchange
}

impl Lab {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let (sink, records) = record::buffer(1000);
        let limits = Limits {
            head_time: PATIENCE,
            first_octet_time: PATIENCE,
            idle_time: PATIENCE,
            stall_time: PATIENCE,
            response_time: PATIENCE,
            stream_idle_time: PATIENCE,
            linger_time: PATIENCE,
            tunnel_idle_time: PATIENCE,
            ..Limits::default()
        };
        let sockets = UpstreamSockets { mark: None, source: SourceAddress::Own, connect_time: HANGS };
        let policy = Snapshot::default().apply(&policy(), &mut RuleCache::default()).expect("a policy");
        let worker = Worker::new(limits, Arc::new(policy), sink, Arc::new(Counters::default()), sockets);
        Self { runtime, listener: Rc::new(listener), worker, records }
    }

    fn exchange(&mut self, client: &[u8], answers: &[&[u8]], seed: &[u8]) -> Exchange {
        let server = Rc::new(Server {
            answers: answers.iter().map(|answer| answer.to_vec()).collect(),
            given: Cell::new(0),
            cut: RefCell::new(Cut::of(seed, 7)),
            reached: RefCell::default(),
            open: Cell::new(0),
        });
        let address = self.listener.local_addr().expect("an address");
        let (listener, worker) = (Rc::clone(&self.listener), Rc::clone(&self.worker));
        let taking_part = Rc::clone(&server);
        let answered = LocalSet::new().block_on(&self.runtime, async move {
            let accepting = spawn_local(accept(listener, Rc::clone(&taking_part)));
            let (near, far) = UnixStream::pair().expect("a pair of sockets");
            let accepted = Accepted::adopt(
                stream(far),
                PeerAddr(SocketAddr::from(([10, 0, 0, 1], 999))),
                OriginalDst(address),
            );
            let proxy = spawn_local(async move { connection::serve(accepted, &Steered, worker).await });
            let answered = timeout(HANGS, talk(stream(near), client, Cut::of(seed, 8))).await;
            let answered = answered.expect("the proxy ends the client's connection");
            let ended = timeout(HANGS, proxy).await.expect("the proxy ends with its client");
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
            // The proxy's ends are closed: what it has written is there.
            while taking_part.open.get() > 0 {
                yield_now().await;
            }
            accepting.abort();
            answered
        });
        Exchange { reached: server.reached.take(), answered }
    }
}

/// One that is not TCP serves as well, and leaves no port behind.
fn stream(socket: UnixStream) -> TcpStream {
    let socket = std::net::TcpStream::from(OwnedFd::from(socket));
    socket.set_nonblocking(true).expect("a socket that does not block");
    TcpStream::from_std(socket).expect("a socket of the runtime")
}

fn policy() -> PolicyUpdate {
    let rule = |method: &str, path: Option<String>| HttpRule {
        method: Some(method.to_owned()),
        path,
        ..HttpRule::default()
    };
    let piece = Piece {
        protocol: 6,
        first_port: 0,
        last_port: 65535,
        action: Action::Redirect.into(),
        rule: 1,
        http: vec![rule(&METHODS.join("|"), Some(format!("{PLACE}(/.*)?"))), rule("CONNECT", None)],
        ..Piece::default()
    };
    PolicyUpdate {
        revision: 1,
        full: true,
        policies: vec![Policy {
            id: 1,
            classes: vec![Class { id: 0, pieces: vec![piece] }],
            ..Policy::default()
        }],
        endpoints: vec![EndpointRoot { endpoint: 1, ingress_policy: 1, egress_policy: 0 }],
        ..PolicyUpdate::default()
    }
}

/// Sends in pieces, ends its side, and reads to the end meanwhile.
async fn talk(stream: TcpStream, octets: &[u8], mut cut: Cut) -> Vec<u8> {
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        send(&mut to, octets, &mut cut).await;
        let _ = to.shutdown().await;
    };
    let mut answered = Vec::new();
    // A reset ends it too.
    let reading = async { drop(from.read_to_end(&mut answered).await) };
    tokio::join!(sending, reading);
    answered
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), mut octets: &[u8], cut: &mut Cut) {
    while !octets.is_empty() {
        let (now, later) = octets.split_at(cut.segment(octets.len()));
        if to.write_all(now).await.is_err() {
            return;
        }
        octets = later;
        yield_now().await;
    }
}

struct Server {
    answers: Vec<Vec<u8>>,
    given: Cell<usize>,
    cut: RefCell<Cut>,
    reached: RefCell<Vec<Vec<u8>>>,
    open: Cell<usize>,
}

async fn accept(listener: Rc<TcpListener>, server: Rc<Server>) {
    while let Ok((stream, _)) = listener.accept().await {
        let number = server.reached.borrow().len();
        server.reached.borrow_mut().push(Vec::new());
        server.open.set(server.open.get() + 1);
        let server = Rc::clone(&server);
        spawn_local(async move {
            server.serve(stream, number).await;
            server.open.set(server.open.get() - 1);
        });
    }
}

impl Server {
    /// Gives an answer for each request, sometimes before it has come as a whole, and closes where
    /// none is left.
    async fn serve(&self, mut stream: TcpStream, number: usize) {
        let mut answered = 0;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(octets) => self.reached.borrow_mut()[number].extend_from_slice(&buffer[..octets]),
            }
            let early = self.cut.borrow_mut().below(2) == 0;
            while answered < asked(&self.reached.borrow()[number], early) {
                answered += 1;
                let given = self.given.replace(self.given.get() + 1);
                let Some(answer) = self.answers.get(given) else {
                    // What comes until the proxy knows is looked at as well.
                    let _ = stream.shutdown().await;
                    continue;
                };
                let mut cut = Cut::of(answer, 9);
                send(&mut stream, answer, &mut cut).await;
            }
        }
    }
}

/// How many requests a stream has; `early`: also those that have only begun, as those that wait for
/// 100 (Continue) always are.
fn asked(stream: &[u8], early: bool) -> usize {
    let mut scanner = Scanner::new(Http1Limits::default());
    let (mut at, mut begun, mut whole, mut waits) = (0, 0, 0, false);
    loop {
        match scanner.step(&stream[at..]) {
            Step::More | Step::Refused(_) => break,
            Step::Undecided => scanner.go_on(),
            Step::Head { octets, .. } => {
                begun += 1;
                let head = stream[at..at + octets].to_ascii_lowercase();
                waits = head.windows(8).any(|window| window == b"\nexpect:");
                at += octets;
            }
            Step::Body { octets }
            | Step::Skip { octets }
            | Step::Framing { octets }
            | Step::Trailers { octets }
            | Step::Opaque { octets } => at += octets,
        }
        if scanner.between_requests() || scanner.is_undecided() {
            whole = begun;
        }
    }
    if early || waits { begun } else { whole }
}
