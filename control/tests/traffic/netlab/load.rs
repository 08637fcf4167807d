//! A constant load of HTTP requests whose every outcome is known: new connections and kept ones,
//! allowed requests (`/a/…`) and denied ones (`/b/…`), each with a name of its own in its path.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread::{Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use super::{LIMIT, Namespace, clients::read_head};

/// Between two requests of one client: a load, not a flood.
const PACE: Duration = Duration::from_millis(25);

/// How one client opens its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One a request.
    Fresh,
    /// One for all requests, as long as no answer says that it is the last one.
    Kept,
}

/// What one client saw, or all of them.
#[derive(Debug, Default)]
pub struct Seen {
    /// Paths that were answered with 200.
    pub allowed: BTreeSet<String>,
    /// Paths that were answered with 403.
    pub denied: BTreeSet<String>,
    /// What should not happen, in words.
    pub failed: Vec<String>,
    /// Kept connections that ended after an answer which said so.
    pub closed: usize,
    /// The longest time to open a connection.
    pub slowest_connect: Duration,
}

impl Seen {
    pub fn requests(&self) -> usize {
        self.allowed.len() + self.denied.len()
    }

    pub fn add(&mut self, other: Self) {
        self.allowed.extend(other.allowed);
        self.denied.extend(other.denied);
        self.failed.extend(other.failed);
        self.closed += other.closed;
        self.slowest_connect = self.slowest_connect.max(other.slowest_connect);
    }
}

/// Starts a client for each manner and address; each runs until `over`.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    from: &'scope Namespace,
    to: &[SocketAddr],
    over: &'scope AtomicBool,
) -> Vec<ScopedJoinHandle<'scope, Seen>> {
    let mut clients = Vec::new();
    for to in to.iter().copied() {
        for manner in [Manner::Fresh, Manner::Kept] {
            let family = if to.is_ipv4() { 4 } else { 6 };
            let name = format!("{manner:?}{family}").to_lowercase();
            clients.push(scope.spawn(move || {
                from.inside(|| Client { manner, to, name, stream: None, seen: Seen::default() }.run(over))
            }));
        }
    }
    clients
}

/// Waits for all; what they saw together.
pub fn join(clients: Vec<ScopedJoinHandle<'_, Seen>>) -> Seen {
    let mut all = Seen::default();
    for client in clients {
        all.add(client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    }
    all
}

struct Client {
    manner: Manner,
    to: SocketAddr,
    name: String,
    stream: Option<TcpStream>,
    seen: Seen,
}

impl Client {
    fn run(mut self, over: &AtomicBool) -> Seen {
        for number in 0u32.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let (root, wanted) = if number % 2 == 0 { ("a", 200) } else { ("b", 403) };
            let path = format!("/{root}/{}-{number}", self.name);
            let began = Instant::now();
            match self.request(&path) {
                Ok(status) if status == wanted => {
                    let paths = if wanted == 200 { &mut self.seen.allowed } else { &mut self.seen.denied };
                    paths.insert(path);
                }
                Ok(status) => self.seen.failed.push(format!("{path}: answered with {status}")),
                Err(error) => {
                    self.stream = None;
                    self.seen.failed.push(format!("{path} after {:?}: {error}", began.elapsed()));
                }
            }
            std::thread::sleep(PACE);
        }
        self.seen
    }

    fn request(&mut self, path: &str) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let began = Instant::now();
                let stream = TcpStream::connect_timeout(&self.to, LIMIT)?;
                self.seen.slowest_connect = self.seen.slowest_connect.max(began.elapsed());
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let head = read_head(&mut stream)?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
        stream.read_exact(&mut vec![0; length.unwrap_or(0)])?;
        if head.contains("\r\nconnection: close\r\n") {
            self.seen.closed += 1;
        } else if self.manner == Manner::Kept {
            self.stream = Some(stream);
        }
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        status.ok_or_else(|| io::Error::other(format!("no status line: {head}")))
    }
}

/// A counter of `/proc/net/netstat` or `/proc/net/snmp` in a namespace, by group and name.
pub fn counter(namespace: &Namespace, file: &str, group: &str, name: &str) -> u64 {
    let path = format!("/proc/thread-self/net/{file}");
    let text = namespace.inside(|| std::fs::read_to_string(path)).expect("counters");
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{group}: ")));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|word| word == name).expect("a counter of that name");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}
