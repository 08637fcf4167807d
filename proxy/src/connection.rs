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
//! sends only with a `Permit`, and only `Request::judge` makes one.

use std::{net::IpAddr, rc::Rc, sync::atomic::Ordering::Relaxed, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    capture::{Accepted, SteeringTable},
    detect::{DetectError, Detected, Protocol},
    http1, http2,
    record::Recording,
    worker::Worker,
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
    let Some(_open) = Open::new(&worker, flow.peer.0.ip()) else {
        Recording::start(&worker, &flow).refused("too many connections of one client");
        return reset(captured.stream);
    };

    let detected = tokio::select! {
        detected = captured.detect(&worker) => detected,
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
        Protocol::Http1 => http1::serve(captured.stream, read, flow, worker).await,
        // Boxed: it is several times as large as what the others need.
        Protocol::Http2 => Box::pin(http2::serve(captured.stream, read, flow, worker)).await,
    }
}

/// Ends the connection at once, with RST.
pub(crate) fn reset(stream: TcpStream) {
    // Zero linger makes close() send RST; if it cannot be set the close is only less abrupt.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// Ends the connection so that the client can read the last answer: a socket that closes with
/// unread input sends RST, and RST makes the client forget what it has not read.
pub(crate) async fn linger(mut stream: TcpStream, time: Duration) {
    const MOST: usize = 256 << 10;
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = vec![0; 8 << 10];
        let mut drained = 0;
        while drained < MOST {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(octets) => drained += octets,
            }
        }
    };
    let _ = tokio::time::timeout(time, drain).await;
}

/// Counts a connection while it lives.
struct Open(Rc<Worker>, IpAddr);

impl Open {
    /// `None`: this client has too many.
    fn new(worker: &Rc<Worker>, client: IpAddr) -> Option<Self> {
        worker.clients.enter(client, worker.limits.connections_per_source)?;
        worker.counters.connections_total.fetch_add(1, Relaxed);
        worker.counters.connections_open.fetch_add(1, Relaxed);
        Some(Self(Rc::clone(worker), client))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections_open.fetch_sub(1, Relaxed);
        self.0.clients.leave(self.1);
    }
}
