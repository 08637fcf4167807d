//! A server that keeps what it gets, octet by octet, and answers what it takes for requests.

mod http2;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
};

use socket2::SockRef;

use crate::netlab::Namespace;

/// What the server says to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub octets: Vec<u8>,
    /// Whether the server closes the connection after it.
    pub closes: bool,
}

/// How the server treats one client.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Sent when a request's head is complete, before its body is.
    pub early: Vec<u8>,
    /// One a request, over all connections; then the usual answer.
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub octets: Vec<u8>,
    pub ended: bool,
}

#[derive(Default)]
struct State {
    scripts: HashMap<IpAddr, Script>,
    connections: HashMap<IpAddr, Vec<Connection>>,
}

pub struct Recorder {
    listener: TcpListener,
    state: Arc<Mutex<State>>,
}

impl Recorder {
    /// Listens in `ns`, for both families.
    pub fn start(ns: &Namespace, port: u16) -> Self {
        let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
        let listener = ns.inside(|| TcpListener::bind(any)).expect("a listener");
        let accepting = listener.try_clone().expect("a second handle");
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((stream, peer)) = accepting.accept() {
                let client = peer.ip().to_canonical();
                let mut state = lock(&shared);
                let connections = state.connections.entry(client).or_default();
                connections.push(Connection::default());
                let number = connections.len() - 1;
                drop(state);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || Serving { state: shared, client, number }.run(stream));
            }
        });
        Self { listener, state }
    }

    pub fn expect(&self, client: IpAddr, script: Script) {
        lock(&self.state).scripts.insert(client, script);
    }

    /// The connections from one address, in the order in which they came.
    pub fn connections(&self, client: IpAddr) -> Vec<Connection> {
        lock(&self.state).connections.get(&client).cloned().unwrap_or_default()
    }

    /// All connections there were.
    pub fn all(&self) -> Vec<(IpAddr, Connection)> {
        let state = lock(&self.state);
        state.connections.iter().flat_map(|(ip, all)| all.iter().map(|one| (*ip, one.clone()))).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Serving {
    state: Arc<Mutex<State>>,
    client: IpAddr,
    number: usize,
}

impl Serving {
    fn run(self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        self.serve(&mut stream);
        self.with(|connection| connection.ended = true);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Connection) -> T) -> T {
        let mut state = lock(&self.state);
        let connections = state.connections.get_mut(&self.client).expect("it was put there at accept");
        f(&mut connections[self.number])
    }

    fn serve(&self, stream: &mut TcpStream) {
        let mut pending = Vec::new();
        let mut buffer = [0; 16 << 10];
        let mut greeted = false;
        let mut silent = false;
        let mut session: Option<http2::Session> = None;
        loop {
            let octets = match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(octets) => octets,
            };
            self.with(|connection| connection.octets.extend_from_slice(&buffer[..octets]));
            if silent {
                continue;
            }
            if let Some(session) = &mut session {
                let _ = stream.write_all(&session.answer(&buffer[..octets]));
                continue;
            }
            pending.extend_from_slice(&buffer[..octets]);
            if pending.starts_with(b"PRI ") {
                let mut new = http2::Session::default();
                let _ = stream.write_all(&new.answer(&pending));
                session = Some(new);
                continue;
            }
            loop {
                if !greeted && head_end(&pending).is_some() {
                    greeted = true;
                    let early = lock(&self.state)
                        .scripts
                        .get(&self.client)
                        .map(|s| s.early.clone())
                        .unwrap_or_default();
                    let _ = stream.write_all(&early);
                }
                let Some(end) = message_end(&pending) else { break };
                let request: Vec<u8> = pending.drain(..end).collect();
                greeted = false;
                let answer = self.answer(&request);
                if stream.write_all(&answer.octets).is_err() {
                    silent = true;
                    break;
                }
                if answer.closes {
                    // Reads on: what comes after the end belongs to the evidence.
                    let _ = stream.shutdown(Shutdown::Write);
                    silent = true;
                    break;
                }
            }
        }
    }

    fn answer(&self, request: &[u8]) -> Answer {
        let mut state = lock(&self.state);
        if let Some(script) = state.scripts.get_mut(&self.client)
            && !script.answers.is_empty()
        {
            return script.answers.remove(0);
        }
        let body = if request.starts_with(b"HEAD ") { "" } else { "ok" };
        Answer {
            octets: format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}").into_bytes(),
            closes: false,
        }
    }
}

fn head_end(octets: &[u8]) -> Option<usize> {
    octets.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Where the first message ends, read as the standard says. What other readers would make of the
/// octets is asked once all are there.
fn message_end(octets: &[u8]) -> Option<usize> {
    let head = head_end(octets)?;
    let text = String::from_utf8_lossy(&octets[..head]).to_ascii_lowercase();
    let mut at = head;
    if text.contains("\r\ntransfer-encoding: chunked\r\n") {
        loop {
            let line = octets[at..].windows(2).position(|two| two == b"\r\n")?;
            let size = std::str::from_utf8(&octets[at..at + line]).ok()?;
            let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
            at += line + 2;
            if size == 0 {
                // Trailers, and the empty line behind them.
                let rest = octets.get(at..)?;
                return if rest.starts_with(b"\r\n") { Some(at + 2) } else { Some(at + head_end(rest)?) };
            }
            at += size + 2;
            if at > octets.len() {
                return None;
            }
        }
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    at += length.map_or(Some(0), |length| length.trim().parse().ok())?;
    (at <= octets.len()).then_some(at)
}
