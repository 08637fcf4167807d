//! HTTP/2 with the client: stream by stream, each judged on its own.
//!
//! What bounds a connection: frames that bring no request closer ([`meter`]), requests given up
//! before their answer ([`Session::given_up`]), streams, windows and header lists (the library,
//! told below), octets that wait for a peer ([`account`]), and a time for everything.

mod account;
mod bodies;
mod call;
mod coalesced;
mod meter;
mod metered;
mod pump;
mod received;
mod refusals;
mod silence;
mod stream;
mod window;

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use bytes::BytesMut;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{Mutex, Notify},
    time::{Instant, MissedTickBehavior, interval},
};

pub(crate) use account::Account;
pub(crate) use bodies::{Incoming, Upload};
use call::Calls;
pub(crate) use coalesced::{Coalesced, end_turn, turns_end};
use meter::Excess;
use metered::Metered;
pub(crate) use pump::Pump;
pub(crate) use received::Received;
use refusals::Refusals;
pub(crate) use silence::Silence;
pub(crate) use window::Window;

use crate::{
    capture::Flow,
    http1::{denied_now, record_cut},
    options::Limits,
    policy::Governing,
    record::Recording,
    response::GrpcStatus,
    upstream::{Http2Upstream, sources},
    worker::{Share, Stage, Worker},
};

/// Octets of one stream that wait for the peer's window: hundreds of streams of a peer that reads
/// nothing must not fill the memory.
pub(crate) const SEND_BUFFER: usize = 32 << 10;

/// A stream's window: what a peer may send on it before the other side takes anything. Fixed: a peer
/// that delays its answers to PINGs can make a window that adapts grow to 16 MB.
pub(crate) const STREAM_WINDOW: u32 = 128 << 10;

/// Streams reset while they wait to be taken up: they show a client that resets in one breath.
const RESETS_WAITING: usize = 20;
/// Stream errors of one connection's life, each answered with RST_STREAM (CVE-2025-8671).
const STREAM_ERRORS: usize = 1000;

/// How often the tasks of a connection are run so that their last frames are written: the stream's, which
/// makes the frame, and the connection's, and one more for who was woken in between.
pub(crate) const LAST_ROUNDS: usize = 3;

/// Requests that a client may give up before their answer: so many at once, this many a second, and
/// one for each that was answered.
const GIVEN_UP_AT_ONCE: u64 = 100;
const GIVEN_UP_PER_SECOND: u64 = 10;

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

/// Why the proxy ends a connection. The text goes into its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Excess(#[from] Excess),
    #[error("HTTP/2: request head not complete in time")]
    HeadTime,
    #[error("HTTP/2: client does not read")]
    NotRead,
    #[error("HTTP/2: too many requests given up before their answer")]
    GivenUp,
    /// As the library has told the client.
    #[error("HTTP/2: {0}")]
    Library(&'static str),
    #[error("idle for too long")]
    Idle,
}

/// What the streams of one connection share.
struct Session {
    flow: Flow,
    worker: Rc<Worker>,
    account: Arc<Account>,
    window: Window,
    /// Locked only while it is being connected.
    upstream: Mutex<Option<Http2Upstream>>,
    began: Instant,
    /// When the last stream came or ended, and how many there are.
    last: Cell<Instant>,
    open: Cell<usize>,
    answered: Cell<u64>,
    given_up: Cell<u64>,
    ended: Rc<Cell<Option<Ended>>>,
    ending: Notify,
    calls: RefCell<Calls>,
    /// What the open calls were judged by.
    governing: RefCell<Governing>,
}

impl Session {
    /// Judges the open calls by the policies in force now, where these are others for this connection.
    fn judge_calls(&self) {
        self.worker.with_policy(|policy| {
            let governing = policy.governing(&self.flow.steered);
            if *self.governing.borrow() == governing {
                return;
            }
            *self.governing.borrow_mut() = governing;
            for call in self.calls.borrow().open() {
                call.judge_again(policy, &self.flow);
            }
        });
    }

    /// Says in the records of the open calls why they end with their connection.
    fn cut_calls(&self, reason: &str) {
        for call in self.calls.borrow().open() {
            call.cut(GrpcStatus::Unavailable, reason);
        }
    }

    /// Notes a request whose client did not wait for the answer.
    fn given_up(&self) {
        self.given_up.set(self.given_up.get() + 1);
        let most =
            GIVEN_UP_AT_ONCE + GIVEN_UP_PER_SECOND * self.began.elapsed().as_secs() + self.answered.get();
        if self.given_up.get() > most {
            self.ended.set(Some(Ended::GivenUp));
            self.ending.notify_one();
        }
    }

    /// What the clock has to say.
    fn overdue(&self, limits: &Limits) -> Option<Ended> {
        let now = Instant::now();
        match self.account.stalled_for() {
            Some(time) if time >= limits.stall_time => Some(Ended::NotRead),
            Some(_) => None,
            None if self.open.get() == 0 && now >= self.last.get() + limits.idle_time => Some(Ended::Idle),
            None => None,
        }
    }
}

pub(crate) async fn serve(
    stream: TcpStream,
    read: Vec<u8>,
    flow: Flow,
    worker: Rc<Worker>,
    share: Arc<Share>,
) {
    let mut changes = worker.changes();
    let governing = worker.with_policy(|policy| policy.governing(&flow.steered));
    let session = Rc::new(Session {
        flow,
        calls: RefCell::default(),
        governing: RefCell::new(governing),
        window: Window::of(&share),
        account: Account::new(share),
        upstream: Mutex::new(None),
        began: Instant::now(),
        last: Cell::new(Instant::now()),
        open: Cell::new(0),
        answered: Cell::new(0),
        given_up: Cell::new(0),
        ended: Rc::default(),
        ending: Notify::new(),
        worker,
    });
    let (worker, limits) = (&session.worker, session.worker.limits);
    let service = service_fn(|request| stream::serve(request, Rc::clone(&session)));
    let socket =
        Metered::new(Coalesced::new(stream), BytesMut::from(&read[..]), limits, Rc::clone(&session.ended));
    let socket = Refusals::new(socket, Rc::clone(worker), flow);
    let mut connection = std::pin::pin!(
        http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(u32::try_from(limits.streams).unwrap_or(u32::MAX))
            // The library answers what is over its limit itself, without a record; ours comes first.
            .max_header_list_size(u32::try_from(limits.http1.head_octets * 4).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(session.window.octets())
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(RESETS_WAITING)
            .max_local_error_reset_streams(STREAM_ERRORS)
            // A peer that is gone answers no ping.
            .keep_alive_interval(limits.first_octet_time)
            .keep_alive_timeout(limits.head_time)
            .serve_connection(TokioIo::new(socket), service)
    );
    let mut clock = interval(limits.idle_time.min(limits.stall_time) / 4);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Whoever is told that this ends has so long to take what is left.
    let mut leaving: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                return match (session.ended.take(), result) {
                    (Some(ended), _) => record(&session, ended),
                    (None, Err(error)) => record(&session, sources(&error)),
                    (None, Ok(())) => {}
                };
            }
            changed = changes.changed() => {
                let Ok(()) = changed else { return };
                match changes.borrow_and_update().stage {
                    Stage::Serving => {}
                    // GOAWAY, which leaves the streams that are open and those on their way.
                    Stage::LastAnswers | Stage::IdleEnds => connection.as_mut().graceful_shutdown(),
                    Stage::Cut => {
                        session.cut_calls("its connection was open when the time was up that a proxy has to drain");
                        return record_cut(worker, &session.flow);
                    }
                }
                session.judge_calls();
                if denied_now(worker, &session.flow).is_some() {
                    return last_words(connection, &session).await;
                }
            }
            () = session.ending.notified() => {
                return session.ended.take().map_or((), |ended| record(&session, ended));
            }
            now = clock.tick() => match session.overdue(&limits) {
                None => {}
                // Once is enough; what is left gets its time.
                Some(Ended::Idle) if leaving.is_some_and(|until| now < until) => {}
                Some(Ended::Idle) if leaving.is_none() => {
                    leaving = Some(now + limits.linger_time);
                    session.ended.set(Some(Ended::Idle));
                    connection.as_mut().graceful_shutdown();
                }
                Some(ended) => return record(&session, ended),
            },
        }
    }
}

/// Lets the calls of a connection that no policy allows any more say so: until the change of policy is
/// acknowledged, the kernel lets it pass.
async fn last_words(mut connection: Pin<&mut impl Future>, session: &Session) {
    if session.calls.borrow().open().is_empty() {
        return;
    }
    for _ in 0..LAST_ROUNDS {
        tokio::task::yield_now().await;
        if poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await {
            return;
        }
    }
}

/// The record of a connection that the proxy ended.
fn record(session: &Session, why: impl ToString) {
    session.cut_calls("the proxy ended its connection");
    let mut recording = Recording::start(&session.worker, &session.flow);
    recording.protocol("HTTP/2");
    recording.refused(why);
}
