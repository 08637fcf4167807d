//! HTTP/1 with the client: request after request, each judged on its own.

mod exchange;

use std::{cell::RefCell, future::poll_fn, rc::Rc};

use bytes::BytesMut;
use futures::FutureExt;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    capture::Flow,
    connection::{linger, reset},
    guard::{Guard, Shared},
    policy::Judging,
    record::Recording,
    tunnel::Tunnel,
    upstream::Http1Upstream,
    worker::{Stage, Worker},
};

/// What the requests of one connection share. They come one after the other.
pub(crate) struct Session {
    pub(crate) flow: Flow,
    pub(crate) worker: Rc<Worker>,
    pub(crate) shared: Shared,
    /// Kept between requests, taken while one uses it.
    pub(crate) upstream: RefCell<Option<Http1Upstream>>,
    /// Set by the response that switches protocols.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
}

pub(crate) async fn serve(stream: TcpStream, read: BytesMut, flow: Flow, worker: Rc<Worker>) {
    let limits = worker.limits;
    let shared = Shared::default();
    let guard = Guard::new(stream, read, limits, shared.clone());
    let mut changes = worker.changes();
    let session = Rc::new(Session {
        flow,
        worker: Rc::clone(&worker),
        shared,
        upstream: RefCell::new(None),
        tunnel: RefCell::new(None),
    });

    let service = service_fn(|request| exchange::serve(request, Rc::clone(&session)).boxed_local());
    let mut connection = http1::Builder::new()
        // The guard has its own clock, which tells idle from slow.
        .header_read_timeout(None)
        .half_close(true)
        .auto_date_header(false)
        .max_headers(limits.http1.fields)
        .serve_connection(TokioIo::new(guard), service);
    loop {
        tokio::select! {
            biased;
            result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => match result {
                Ok(()) => break,
                Err(error) if error.is_parse() => {
                    // The library has answered already. The scan is meant to leave it nothing to refuse.
                    let mut recording = Recording::start(&worker, &flow);
                    recording.protocol("HTTP/1.1");
                    recording.refused(error);
                    break;
                }
                Err(error) => return tracing::debug!(%error, ?flow, "client connection ended"),
            },
            changed = changes.changed() => {
                let Ok(()) = changed else { return };
                match changes.borrow_and_update().stage {
                    Stage::Serving | Stage::LastAnswers => {}
                    Stage::IdleEnds => std::pin::Pin::new(&mut connection).graceful_shutdown(),
                    Stage::Cut => return record_cut(&worker, &flow),
                }
                if denied_now(&worker, &flow).is_some() {
                    // What is in flight goes as well; the server's connection ends with the session.
                    return reset(connection.into_parts().io.into_inner().into_parts().0);
                }
            }
        }
    }
    let parts = connection.into_parts();
    let (stream, mut read) = parts.io.into_inner().into_parts();
    if !parts.read_buf.is_empty() {
        let mut all = BytesMut::from(&parts.read_buf[..]);
        all.unsplit(read);
        read = all;
    }
    let tunnel = session.tunnel.borrow_mut().take();
    match tunnel {
        Some(tunnel) => tunnel.run(stream, read, &flow, &worker).await,
        None => linger(stream, limits.linger_time).await,
    }
}

/// The record of a connection that a proxy which ends did not wait for any longer.
pub(crate) fn record_cut(worker: &Rc<Worker>, flow: &Flow) {
    Recording::start(worker, flow).refused("still open when the time was up that a proxy has to drain");
}

/// The record of the end of a connection that no policy allows any more.
pub(crate) fn denied_now(worker: &Rc<Worker>, flow: &Flow) -> Option<Recording> {
    let port = flow.original_dst.0.port();
    let judgement = worker.with_policy(|policy| policy.judge(&flow.steered, port, Judging::Connection));
    if !judgement.denies() {
        return None;
    }
    let mut recording = Recording::start(worker, flow);
    recording.judged(&judgement);
    recording.because("the policy in force now denies this connection");
    Some(recording)
}
