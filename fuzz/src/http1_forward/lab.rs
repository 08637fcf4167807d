//! A client, the proxy and a server on one thread: the client over a pair of sockets, the server over
//! loopback, as the proxy connects to it.

use std::{
    cell::{Cell, RefCell},
    net,
    os::unix::net::UnixStream,
    rc::Rc,
};

use l7_parsers::http1::{Limits as Http1Limits, Scanner, Step};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{spawn_local, yield_now},
    time::timeout,
};

use crate::{
    cut::Cut,
    lab::{self, HANGS},
};

/// What came of it.
pub struct Exchange {
    /// What the server got, a stream a connection, in the order in which they were made.
    pub reached: Vec<Vec<u8>>,
    /// What the client got.
    pub answered: Vec<u8>,
}

thread_local! {
    static LISTENER: net::TcpListener = {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        listener
    };
}

/// Lets the proxy carry the client's octets, with these answers of a server. `seed`: how it is cut.
pub(super) fn exchange(client: &[u8], answers: &[&[u8]], seed: &[u8]) -> Exchange {
    let listener = LISTENER.with(net::TcpListener::try_clone).expect("the listener once more");
    let server = Rc::new(Server {
        answers: answers.iter().map(|answer| answer.to_vec()).collect(),
        given: Cell::new(0),
        cut: RefCell::new(Cut::of(seed, 7)),
        reached: RefCell::default(),
        open: Cell::new(0),
    });
    let taking_part = Rc::clone(&server);
    let answered = lab::run(|worker| async move {
        let listener = TcpListener::from_std(listener).expect("a listener of the runtime");
        let address = listener.local_addr().expect("an address");
        let accepting = spawn_local(accept(listener, Rc::clone(&taking_part)));
        let (near, far) = UnixStream::pair().expect("a pair of sockets");
        let proxy = spawn_local(lab::serve(Rc::clone(&worker), far, address));
        let answered = timeout(HANGS, talk(lab::stream(near), client, Cut::of(seed, 8))).await;
        let answered = answered.expect("the proxy ends the client's connection");
        let ended = timeout(HANGS, proxy).await.expect("the proxy ends with its client");
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic.into_panic());
        }
        worker.end_spare();
        // The proxy's ends are closed: what it has written is there.
        while taking_part.open.get() > 0 {
            yield_now().await;
        }
        accepting.abort();
        answered
    });
    Exchange { reached: server.reached.take(), answered }
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

async fn accept(listener: TcpListener, server: Rc<Server>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Or each piece would wait for an acknowledgement of the one before.
        stream.set_nodelay(true).expect("what is written goes");
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
