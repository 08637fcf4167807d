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

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    net::TcpStream,
    time::Instant,
};

use crate::{
    capture::Flow,
    http1::{Asked, record_cut},
    policy::Judging,
    record::Recording,
    upstream::UpstreamSocket,
    worker::Worker,
};

/// A switch that the server agreed to.
pub(crate) struct Tunnel {
    pub(crate) server: UpstreamSocket,
    /// Read from the server behind its response head.
    pub(crate) early: Vec<u8>,
    /// The request that made the switch.
    pub(crate) asked: Asked,
}

impl Tunnel {
    /// Moves octets until both sides have ended, policy ends it, or nothing moves any more. `read`
    /// was read from the client after its request.
    pub(crate) async fn run(self, client: TcpStream, read: Vec<u8>, flow: &Flow, worker: &Rc<Worker>) {
        let Self { mut server, early, asked } = self;
        let moved = Rc::new(Cell::new(Instant::now()));
        let mut client = Watched { stream: client, moved: Rc::clone(&moved) };
        let moving = async {
            server.write_all(&read).await?;
            client.write_all(&early).await?;
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
            recording = no_longer_allowed(&asked, flow, worker) => drop(recording),
        }
    }
}

/// Ready when the tunnel must end.
async fn no_longer_allowed(asked: &Asked, flow: &Flow, worker: &Rc<Worker>) -> Recording {
    let mut changes = worker.changes();
    let port = flow.original_dst.0.port();
    loop {
        // Before the first wait too: the policy may have changed since the request was judged.
        changes.mark_unchanged();
        let judgement = worker.with_policy(|policy| {
            policy.judge(&worker.ends_now(flow), port, Judging::Request(asked.facts()))
        });
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

/// Ready when nothing has moved for so long.
pub(crate) async fn idle(moved: &Cell<Instant>, time: Duration) {
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
