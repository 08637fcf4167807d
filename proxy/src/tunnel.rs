//! After a switch of protocols: octets both ways, as long as policy would still allow the request
//! that made the switch.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderMap, Method, Response, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use policy_engine::http::HttpRequest;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    net::TcpStream,
    time::Instant,
};

use crate::{
    capture::Flow,
    http1::record_cut,
    policy::Judging,
    record::Recording,
    request::{Fields, Request, is_http},
    worker::Worker,
};

/// The request that made a switch, to be judged again.
pub(crate) struct Facts {
    method: Method,
    path: String,
    host: String,
    fields: Fields,
}

impl Facts {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            method: request.method.clone(),
            path: request.path().to_owned(),
            host: request.host().to_owned(),
            fields: Fields(request.fields.0.clone()),
        }
    }

    pub(crate) fn is_connect(&self) -> bool {
        self.method == Method::CONNECT
    }

    fn request(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method.as_str(),
            path: &self.path,
            host: &self.host,
            headers: &self.fields,
        }
    }
}

/// Whether a 101 switches to protocols that the request offered, and not to HTTP again.
pub(crate) fn is_asked_for<B>(response: &Response<B>, facts: &Facts) -> bool {
    let offered = protocols(&facts.fields.0);
    let chosen = protocols(response.headers());
    !chosen.is_empty()
        && chosen
            .iter()
            .all(|protocol| !is_http(protocol) && offered.iter().any(|o| o.eq_ignore_ascii_case(protocol)))
}

fn protocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim)).collect()
}

/// A switch that the server agreed to.
pub(crate) struct Tunnel {
    pub(crate) upgrade: OnUpgrade,
    pub(crate) facts: Facts,
}

impl Tunnel {
    /// Moves octets until both sides have ended, policy ends it, or nothing moves any more. `read`
    /// was read from the client after its request.
    pub(crate) async fn run(self, client: TcpStream, read: BytesMut, flow: &Flow, worker: &Rc<Worker>) {
        let moved = Rc::new(Cell::new(Instant::now()));
        let mut client = Watched { stream: client, moved: Rc::clone(&moved) };
        let moving = async {
            let mut server = TokioIo::new(self.upgrade.await.map_err(io::Error::other)?);
            server.write_all(&read).await?;
            copy_bidirectional(&mut client, &mut server).await
        };
        tokio::select! {
            result = moving => match result {
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, ?flow, "tunnel ended"),
            },
            () = idle(&moved, worker.limits.tunnel_idle_time) => {
                let mut recording = Recording::start(worker, flow);
                recording.refused("nothing moved after the switch of protocols");
            }
            () = worker.cut() => record_cut(worker, flow),
            recording = no_longer_allowed(&self.facts, flow, worker) => drop(recording),
        }
    }
}

/// Ready when the tunnel must end.
async fn no_longer_allowed(facts: &Facts, flow: &Flow, worker: &Rc<Worker>) -> Recording {
    let mut changes = worker.changes();
    let port = flow.original_dst.0.port();
    loop {
        // Before the first wait too: the policy may have changed since the request was judged.
        changes.mark_unchanged();
        let judgement =
            worker.with_policy(|policy| policy.judge(&flow.steered, port, Judging::Request(facts.request())));
        if judgement.denies() {
            let mut recording = Recording::start(worker, flow);
            recording.judged(&judgement);
            recording.because("the policy in force now denies the request that switched protocols");
            return recording;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn idle(moved: &Cell<Instant>, time: Duration) {
    loop {
        let deadline = moved.get() + time;
        if Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

/// Notes when octets were moved.
struct Watched {
    stream: TcpStream,
    moved: Rc<Cell<Instant>>,
}

impl Watched {
    fn note<T>(&self, result: Poll<T>) -> Poll<T> {
        if result.is_ready() {
            self.moved.set(Instant::now());
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.note(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
