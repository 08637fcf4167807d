//! HTTP/2 with the client and with the server: stream by stream, each judged on its own.
//!
//! One task has a client's connection and those to its servers ([`session`]). What comes from the client
//! is in [`asking`], what comes from a server in [`answering`]; how streams end, in [`ending`]. A body
//! goes from one socket's buffer to the other's, or waits in its [`lane`] where windows have no room.
//!
//! What bounds a connection: frames that bring no request closer ([`meter`]), requests given up before
//! their answer and stream errors ([`asking`]), streams, windows and header lists ([`half`]), octets that
//! wait, counted for their source ([`lane`]), and a time for everything ([`clock`]).

mod answering;
mod asking;
mod call;
mod clock;
mod ending;
mod fault;
mod fields;
mod half;
mod holding;
mod judging;
mod lane;
mod meter;
mod out;
mod request;
mod session;
mod stream;
mod ticks;
mod upstream;

use std::{
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use l7_parsers::http2::frame::{PREFACE, put_goaway};
use tokio::net::TcpStream;

use fault::Ended;
use session::Session;

use crate::{
    capture::Flow,
    connection::{linger, reset},
    http1::{denied_now, record_cut},
    worker::{Share, Stage, Worker},
};

/// A stream's window: what a peer may send on it before the other side takes anything. Fixed: a peer
/// that delays its answers to PINGs can make a window that adapts grow to 16 MB.
const STREAM_WINDOW: u32 = 128 << 10;

/// A connection's window, towards clients and servers alike. What waits in lanes is given back all the
/// same for as long as its source may hold more: streams that nobody reads do not stop the others.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// How long an answer to a PING waits for something to go along with.
const PATIENCE: Duration = Duration::from_millis(1);

pub(crate) async fn serve(
    stream: TcpStream,
    read: Vec<u8>,
    flow: Flow,
    worker: Rc<Worker>,
    share: Arc<Share>,
) {
    let mut changes = worker.changes();
    let mut session = Session::new(stream, flow, Rc::clone(&worker), share);
    let mut ended = session.client_octets(&read[PREFACE.len()..]).err();
    while ended.is_none() {
        tokio::select! {
            biased;
            over = poll_fn(|cx| session.poll(cx)) => ended = Some(over),
            changed = changes.changed() => {
                let Ok(()) = changed else { return };
                match changes.borrow_and_update().stage {
                    Stage::Serving => {}
                    Stage::LastAnswers | Stage::IdleEnds => session.leave(),
                    Stage::Cut => {
                        session.cut_calls("its connection was open when the time was up that a proxy has to drain");
                        session.leave_servers();
                        return record_cut(&worker, &flow);
                    }
                }
                session.judge_again();
                if denied_now(&worker, &flow).is_some() {
                    // Until the change of policy is acknowledged, the kernel lets last words pass.
                    write_now(&mut session);
                    return session.leave_servers();
                }
            }
        }
    }
    end(session, ended.unwrap_or(Ended::Over), worker.limits.linger_time).await;
}

/// Tells both sides.
async fn end(mut session: Session, ended: Ended, linger_time: Duration) {
    let unsaid = matches!(ended, Ended::Over | Ended::Left);
    let ended = if unsaid && session.is_idle() { Ended::Idle } else { ended };
    if !matches!(ended, Ended::Over | Ended::Left) {
        session.record(&ended);
    }
    session.leave_servers();
    if let Some(code) = ended.code() {
        let last = session.last_stream;
        put_goaway(session.client.out.octets(), last, code as u32, b"");
        write_now(&mut session);
    }
    let stream = session.into_stream();
    match ended {
        // It is to read what it did wrong, or its last answers, whatever it still sends (a window, a PING).
        Ended::Fault { .. } | Ended::StreamErrors | Ended::Idle | Ended::Left => {
            linger(stream, linger_time).await;
        }
        Ended::Over => {}
        // What it does not take is not kept for it.
        _ => reset(stream),
    }
}

/// Writes what the peers take without waiting.
fn write_now(session: &mut Session) {
    let _ = session.write(&mut Context::from_waker(Waker::noop()));
}
