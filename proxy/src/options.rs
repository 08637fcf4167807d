//! What the proxy is started with.

mod setting;

use std::{path::PathBuf, time::Duration};

pub use setting::{Setting, SettingError, settings};

/// Where the proxy finds its maps and its agent, and its bounds.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Directory on a bpffs; the maps are pinned in `v1/maps` below it.
    pub pin_dir: PathBuf,
    /// Directory of `proxy.sock`, which the agent serves.
    pub run_dir: PathBuf,
    /// Worker threads, 1 to 32; `None`: one a core.
    pub threads: Option<usize>,
    pub limits: Limits,
}

impl ProxyOptions {
    /// Defaults for all but the two directories.
    #[must_use]
    pub fn new(pin_dir: PathBuf, run_dir: PathBuf) -> Self {
        Self { pin_dir, run_dir, threads: None, limits: Limits::default() }
    }
}

/// Bounds that keep one client from harming the others. Times are upper bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Framing limits: octets and fields of heads, chunk lines.
    pub http1: l7_parsers::http1::Limits,
    /// From the first octet of a request head to its last.
    pub head_time: Duration,
    /// From accept to the first octet, when the client speaks first.
    pub first_octet_time: Duration,
    /// Between two requests of a connection.
    pub idle_time: Duration,
    /// Without an octet moved while a body is on its way to or from the client.
    pub stall_time: Duration,
    /// From a sent request head to the response head.
    pub response_time: Duration,
    /// Without an octet of a response body from the server.
    pub stream_idle_time: Duration,
    pub connect_time: Duration,
    /// How long to wait for the client to read a last answer before the socket goes.
    pub linger_time: Duration,
    /// How long a connection to a server, whose client has left, waits for another one of the same workload.
    pub spare_time: Duration,
    /// Of a denied request's body: read and thrown away to keep the connection; more closes it.
    pub drain_octets: usize,
    /// Without an octet in either direction after a protocol switch.
    pub tunnel_idle_time: Duration,
    pub connections_per_thread: usize,
    /// Sockets to servers. With fewer of them than connections the one that was idle for longest goes
    /// when another is needed.
    pub upstreams_per_thread: usize,
    /// Of one workload, or of one address that is none, on one thread: who takes more must not leave
    /// the others without.
    pub connections_per_source: usize,
    /// Of these, the ones that speak HTTP/2: each may hold more, and carries many requests.
    pub http2_per_source: usize,
    /// Concurrent HTTP/2 streams of a connection.
    pub streams: usize,
    /// Octets of a Kafka request, which is held until it is judged.
    pub kafka_request_octets: usize,
    /// Octets in HTTP/2 and Kafka connections that wait for a peer, of one thread and of one source on it.
    pub buffered: usize,
    pub buffered_per_source: usize,
    /// Octets of the process's resident memory above which a source with its part of the
    /// connections gets no further one.
    pub memory: usize,
    /// Flow records that wait for the agent; what comes on top is counted as lost.
    pub records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http1: l7_parsers::http1::Limits::default(),
            head_time: Duration::from_secs(30),
            first_octet_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(600),
            stall_time: Duration::from_secs(300),
            response_time: Duration::from_secs(3600),
            stream_idle_time: Duration::from_secs(3600),
            connect_time: Duration::from_secs(10),
            linger_time: Duration::from_secs(2),
            spare_time: Duration::from_secs(1),
            drain_octets: 64 << 10,
            tunnel_idle_time: Duration::from_secs(3600),
            connections_per_thread: 20_000,
            upstreams_per_thread: 20_000,
            connections_per_source: 15_000,
            http2_per_source: 1_000,
            streams: 1024,
            kafka_request_octets: l7_parsers::kafka::Limits::default().request_octets,
            buffered: 256 << 20,
            buffered_per_source: 64 << 20,
            memory: 1 << 30,
            records: 65_536,
        }
    }
}
