//! HTTP/2 with the client: stream by stream, each judged on its own.

mod prefixed;
mod refusals;
mod stream;

use std::{cell::Cell, future::Future, rc::Rc};

use bytes::BytesMut;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::Mutex, time::Instant};

use self::{prefixed::Prefixed, refusals::Refusals};
use crate::{
    capture::Flow,
    http1::{denied_now, record_cut},
    record::Recording,
    upstream::Http2Upstream,
    worker::{Stage, Worker},
};

/// Octets of one stream that wait for the peer's window: hundreds of streams of a peer that reads
/// nothing must not fill the memory.
pub(crate) const SEND_BUFFER: usize = 64 << 10;

/// Runs the HTTP/2 library's tasks on the thread of the connection.
#[derive(Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// What the streams of one connection share.
struct Session {
    flow: Flow,
    worker: Rc<Worker>,
    /// Locked only while it is being connected.
    upstream: Mutex<Option<Http2Upstream>>,
    /// When the last stream came, and how many are open.
    last: Cell<Instant>,
    open: Cell<usize>,
}

pub(crate) async fn serve(stream: TcpStream, read: Vec<u8>, flow: Flow, worker: Rc<Worker>) {
    let limits = worker.limits;
    let mut changes = worker.changes();
    let session = Rc::new(Session {
        flow,
        worker: Rc::clone(&worker),
        upstream: Mutex::new(None),
        last: Cell::new(Instant::now()),
        open: Cell::new(0),
    });
    let socket = Refusals::new(Prefixed::new(stream, BytesMut::from(&read[..])), Rc::clone(&worker), flow);
    let service = service_fn(|request| stream::serve(request, Rc::clone(&session)));
    let mut connection = std::pin::pin!(
        http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.http1.head_octets).unwrap_or(u32::MAX))
            .adaptive_window(true)
            .max_send_buf_size(SEND_BUFFER)
            // A peer that is gone answers no ping.
            .keep_alive_interval(limits.first_octet_time)
            .keep_alive_timeout(limits.head_time)
            .serve_connection(TokioIo::new(socket), service)
    );
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    let mut recording = Recording::start(&worker, &flow);
                    recording.protocol("HTTP/2");
                    recording.refused(&error);
                }
                return;
            }
            changed = changes.changed() => {
                let Ok(()) = changed else { return };
                match changes.borrow_and_update().stage {
                    Stage::Serving => {}
                    // GOAWAY, which leaves the streams that are open and those on their way.
                    Stage::LastAnswers | Stage::IdleEnds => connection.as_mut().graceful_shutdown(),
                    Stage::Cut => return record_cut(&worker, &flow),
                }
                if denied_now(&worker, &flow).is_some() {
                    return;
                }
            }
            () = tokio::time::sleep_until(session.last.get() + limits.idle_time) => {
                if session.open.get() == 0 {
                    connection.as_mut().graceful_shutdown();
                }
                session.last.set(Instant::now());
            }
        }
    }
}
