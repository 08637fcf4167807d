//! Client, proxy and servers on one thread. The ends read and write without waiting, in the order of the
//! script, so that the same input is the same exchange.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use l7_parsers::http2::frame::{PREFACE, put_settings};
use tokio::{
    task::{spawn_local, yield_now},
    time::sleep,
};

use super::script::{Step, Who};
use crate::lab::{self, HANGS};

/// So many turns of the proxy without an octet: it waits for somebody.
const QUIET: usize = 4;

thread_local! {
    static LISTENER: TcpListener = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        listener
    };
}

/// What has gone over the connections.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) client: Said,
    pub(super) servers: Vec<Said>,
}

/// What one end and the proxy have said to each other.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) to_proxy: Vec<u8>,
    pub(super) by_proxy: Vec<u8>,
}

pub(super) fn exchange(steps: &[Step]) -> Exchange {
    let listener = LISTENER.with(TcpListener::try_clone).expect("the listener once more");
    // Of an exchange before this one.
    while listener.accept().is_ok() {}
    let address = listener.local_addr().expect("an address");
    let (near, far) = UnixStream::pair().expect("a pair of sockets");
    lab::run(|worker| async move {
        let proxy = spawn_local(lab::serve(worker, far, address));
        let mut ends = Ends::new(near, listener);
        ends.play(steps).await;
        ends.leave();
        let since = Instant::now();
        while !proxy.is_finished() {
            assert!(since.elapsed() < HANGS, "the proxy does not end with its client");
            ends.settle().await;
            if !proxy.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
        }
        if let Err(panic) = proxy.await {
            std::panic::resume_unwind(panic.into_panic());
        }
        ends.settle().await;
        ends.said()
    })
}

/// Connections to servers; those behind them are closed at once.
const MOST: usize = 4;

struct End<S> {
    socket: Option<S>,
    said: Said,
    /// Has gone out of what the end has to say.
    sent: usize,
}

impl<S: Read + Write> End<S> {
    fn new(socket: S, greeting: &[u8]) -> Self {
        let mut end = Self { socket: Some(socket), said: Said::default(), sent: 0 };
        end.said.to_proxy.extend_from_slice(greeting);
        end
    }

    /// Reads and writes what can be; whether anything was.
    fn turn(&mut self) -> Turn {
        let Some(socket) = &mut self.socket else { return Turn::Quiet };
        let mut turn = Turn::Quiet;
        let mut buffer = [0; 16 << 10];
        match socket.read(&mut buffer) {
            Ok(0) => self.socket = None,
            Ok(octets) => {
                self.said.by_proxy.extend_from_slice(&buffer[..octets]);
                turn = Turn::Moved;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.socket = None,
        }
        let waits = &self.said.to_proxy[self.sent..];
        if let Some(socket) = &mut self.socket
            && !waits.is_empty()
        {
            // Where the proxy takes no more, its last words may still be there to read.
            if let Ok(octets) = socket.write(waits) {
                self.sent += octets;
                turn = Turn::Moved;
            }
        }
        turn
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Moved,
    Quiet,
}

struct Ends {
    client: End<UnixStream>,
    servers: Vec<End<TcpStream>>,
    listener: TcpListener,
}

impl Ends {
    fn new(client: UnixStream, listener: TcpListener) -> Self {
        client.set_nonblocking(true).expect("a socket that does not block");
        let mut greeting = PREFACE.to_vec();
        put_settings(&mut greeting, &[]);
        Self { client: End::new(client, &greeting), servers: Vec::new(), listener }
    }

    async fn play(&mut self, steps: &[Step]) {
        for step in steps {
            match step.who {
                Who::Client => self.client.said.to_proxy.extend_from_slice(&step.octets),
                Who::Server(at) => {
                    // Nobody hears a server that is not there.
                    let Some(at) = at.checked_rem(self.servers.len()) else { continue };
                    self.servers[at].said.to_proxy.extend_from_slice(&step.octets);
                }
            }
            if step.pause {
                self.settle().await;
            }
        }
        self.settle().await;
    }

    /// The client goes, with what it has not sent yet.
    fn leave(&mut self) {
        if let Some(socket) = &self.client.socket {
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// Until nobody says anything more.
    async fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            let mut turn = self.client.turn();
            while let Ok((socket, _)) = self.listener.accept() {
                socket.set_nonblocking(true).expect("a socket that does not block");
                socket.set_nodelay(true).expect("what is written goes");
                let mut greeting = Vec::new();
                put_settings(&mut greeting, &[]);
                if self.servers.len() < MOST {
                    self.servers.push(End::new(socket, &greeting));
                }
                turn = Turn::Moved;
            }
            for server in &mut self.servers {
                if server.turn() == Turn::Moved {
                    turn = Turn::Moved;
                }
            }
            quiet = if turn == Turn::Moved { 0 } else { quiet + 1 };
            yield_now().await;
        }
    }

    fn said(self) -> Exchange {
        Exchange { client: self.client.said, servers: self.servers.into_iter().map(|end| end.said).collect() }
    }
}
