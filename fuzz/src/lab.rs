//! A proxy on this thread, with one policy, for the targets that go through the whole of it.

use std::{
    cell::RefCell, io, net::SocketAddr, os::fd::OwnedFd, os::unix::net::UnixStream, rc::Rc, sync::Arc,
    time::Duration,
};

use tektin_abi::maps::{Addr, FlowKey, IpcacheValue, SteeredValue, action};
use tektin_proxy::{
    Limits,
    capture::{Accepted, AddressTable, OriginalDst, PeerAddr, SteeringTable},
    connection,
    counters::Counters,
    link_proto::{Action, Class, EndpointRoot, HttpRule, Piece, Policy, PolicyUpdate},
    policy::{RuleCache, Snapshot},
    record::{self, RecordSource},
    upstream::{SourceAddress, UpstreamSockets},
    worker::Worker,
};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::LocalSet,
};

/// What the rule allows beside CONNECT, at a path that is this one or below it.
pub const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
pub const PLACE: &str = "/ok";

/// An exchange takes a few milliseconds, or a time-out or two; one that hangs is a finding. A machine
/// that is busy with something else is none.
pub const HANGS: Duration = Duration::from_secs(60);
/// Whoever waits for the other is given up so soon. Nothing that is asserted depends on it; the fuzzer,
/// which meets many who wait, gets on.
const PATIENCE: Duration = Duration::from_millis(if cfg!(feature = "libfuzzer") { 10 } else { 100 });

thread_local! {
    static LAB: RefCell<Option<Lab>> = const { RefCell::new(None) };
}

/// The proxy, and the runtime that it is on.
pub struct Lab {
    runtime: Runtime,
    worker: Rc<Worker>,
    records: RecordSource,
}

/// Whether it is right to ask so.
#[must_use]
pub fn is_allowed(method: &str, path: &str) -> bool {
    let below = path.strip_prefix(PLACE);
    METHODS.contains(&method) && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

impl AddressTable for Steered {
    fn owner(&self, _: &Addr) -> io::Result<Option<IpcacheValue>> {
        Ok(Some(IpcacheValue { identity: 300, ..IpcacheValue::default() }))
    }
}

/// Runs something on the runtime, with the proxy.
pub fn run<T, F: Future<Output = T>>(drive: impl FnOnce(Rc<Worker>) -> F) -> T {
    // Taken out, so that a panic leaves none that is half used.
    let mut lab = LAB.take().unwrap_or_else(Lab::new);
    let result = LocalSet::new().block_on(&lab.runtime, async { drive(Rc::clone(&lab.worker)).await });
    while lab.records.next_batch().is_some() {}
    LAB.set(Some(lab));
    result
}

/// Serves a client at the other end, who asks for `server`.
pub async fn serve(worker: Rc<Worker>, client: UnixStream, server: SocketAddr) {
    let peer = PeerAddr(SocketAddr::from(([10, 0, 0, 1], 999)));
    let accepted = Accepted::adopt(stream(client), peer, OriginalDst(server));
    connection::serve(accepted, &Steered, worker).await;
}

/// One that is not TCP serves as well, and leaves no port behind.
#[must_use]
pub fn stream(socket: UnixStream) -> TcpStream {
    let socket = std::net::TcpStream::from(OwnedFd::from(socket));
    socket.set_nonblocking(true).expect("a socket that does not block");
    TcpStream::from_std(socket).expect("a socket of the runtime")
}

impl Lab {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
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
            spare_time: Duration::ZERO,
            ..Limits::default()
        };
        let sockets = UpstreamSockets { mark: None, source: SourceAddress::Own, connect_time: HANGS };
        let policy = Snapshot::default().apply(&policy(), &mut RuleCache::default()).expect("a policy");
        let worker = Worker::new(
            limits,
            Arc::new(policy),
            sink,
            Arc::new(Counters::default()),
            sockets,
            Box::new(Steered),
        );
        Self { runtime, worker, records }
    }
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
