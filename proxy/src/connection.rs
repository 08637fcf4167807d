//! A connection from accept to end: read this file first.
//!
//! Each arrow is a type that only the step before can make:
//!
//! ```text
//! Accepted → Captured{original dst, peer, identities} → Detected{protocol}
//!          → Request (normal form) → Verdict → Permit → Upstream
//! ```
//!
//! The last four happen once a request, in `http1.rs` and `http2.rs`: an upstream connects and
//! sends only with a `Permit`, and only `Request::judge` makes one. A Kafka connection has one upstream
//! from its beginning, opened with an `Admission`; its requests are judged name by name (`kafka.rs`).

use std::{
    os::fd::AsRawFd,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use nix::libc;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    capture::{Accepted, Flow, SteeringTable},
    detect::{DetectError, Detected, Expected, Protocol},
    http1, http2, kafka, pacing,
    record::Recording,
    worker::{Full, Seat, Worker},
};

/// Serves one connection to its end. Never fails: what goes wrong is in its records.
pub async fn serve(accepted: Accepted, table: &dyn SteeringTable, worker: Rc<Worker>) {
    let captured = match accepted.capture(table) {
        Ok(captured) => captured,
        Err((stream, error)) => {
            // Nobody knows who this is: there is no identity to judge or to write a record with.
            tracing::warn!(%error, "connection reset");
            return reset(stream);
        }
    };
    let flow = captured.flow;
    pacing::suit_client(SockRef::from(&captured.stream), &flow);
    let open = match Open::new(&worker, &flow) {
        Ok(open) => open,
        Err(full) => {
            Recording::start(&worker, &flow).refused(full);
            return reset(captured.stream);
        }
    };

    let port = flow.original_dst.0.port();
    let expected = match worker.with_policy(|policy| policy.expects_kafka(&worker.ends_now(&flow), port)) {
        true => Expected::HttpOrKafka,
        false => Expected::Http,
    };
    let detected = tokio::select! {
        detected = captured.detect(expected, &worker) => detected,
        () = worker.cut() => return http1::record_cut(&worker, &flow),
    };
    let Detected { captured, protocol, read } = match detected {
        Ok(detected) => detected,
        // A client that connects and leaves has asked for nothing.
        Err((_, DetectError::Closed)) => return,
        Err((flow, error)) => return Recording::start(&worker, &flow).refused(error),
    };
    tracing::debug!(?flow, ?protocol, "connection");

    match protocol {
        Protocol::Http1 => {
            let share = Arc::clone(&open.seat.share);
            http1::serve(captured.stream, read, flow, worker, share).await;
        }
        Protocol::Http2 => match worker.clients.takes_http2(&open.seat, &worker.limits) {
            Ok(()) => {
                // Boxed: it is several times as large as what the others need.
                let share = Arc::clone(&open.seat.share);
                Box::pin(http2::serve(captured.stream, read, flow, worker, share)).await;
            }
            Err(full) => {
                Recording::start(&worker, &flow).refused(full);
                reset(captured.stream);
            }
        },
        Protocol::Kafka => {
            let share = Arc::clone(&open.seat.share);
            Box::pin(kafka::serve(captured.stream, read, flow, worker, share)).await;
        }
    }
}

/// Ends the connection at once, with RST.
pub(crate) fn reset(stream: TcpStream) {
    reset_at_close(&stream);
}

/// Closing the socket will send RST and forget what the peer has not taken: a peer that reads
/// nothing would keep it in the kernel's memory for many minutes more.
pub(crate) fn reset_at_close(stream: &TcpStream) {
    // Zero linger does it; if it cannot be set the close is only less abrupt.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Ends the connection so that the client can read the last answer: a socket that is closed and gets
/// octets, or has some that nobody has read, sends RST, and forgets what the client has not taken yet. So it
/// stays for `time` without the client taking anything.
pub(crate) async fn linger(mut stream: TcpStream, time: Duration) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut left, mut room) = (untaken(&stream), LINGER_OCTETS);
    while tokio::time::timeout(time, read_away(&mut stream, &mut room)).await.is_err() {
        let now = untaken(&stream);
        if now >= left {
            return;
        }
        left = now;
    }
}

/// Octets that are read of a connection that is over.
const LINGER_OCTETS: usize = 256 << 10;

/// Until the client ends, too, or has sent more than there is room for.
async fn read_away(stream: &mut TcpStream, room: &mut usize) {
    let mut buffer = vec![0; 8 << 10];
    while *room > 0 {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(octets) => *room = room.saturating_sub(octets),
        }
    }
}

/// Octets that were written and the peer's kernel has not acknowledged; 0 where that cannot be told.
fn untaken(stream: &TcpStream) -> usize {
    let mut octets: libc::c_int = 0;
    // SAFETY: the call (SIOCOUTQ, of the same number) writes one int, which lives until it returns, and the
    // descriptor is open for as long as the stream is borrowed.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    if result < 0 { 0 } else { usize::try_from(octets).unwrap_or(0) }
}

/// Counts a connection while it lives.
struct Open {
    worker: Rc<Worker>,
    seat: Seat,
    flow: Flow,
}

impl Open {
    fn new(worker: &Rc<Worker>, flow: &Flow) -> Result<Self, Full> {
        let seat = worker.clients.enter(flow, &worker.limits)?;
        worker.counters.connections_total.fetch_add(1, Relaxed);
        worker.counters.connections_open.fetch_add(1, Relaxed);
        worker.enters(flow);
        Ok(Self { worker: Rc::clone(worker), seat, flow: *flow })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.counters.connections_open.fetch_sub(1, Relaxed);
        self.worker.clients.leave(&self.seat);
        self.worker.leaves(&self.flow);
    }
}
