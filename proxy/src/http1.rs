//! HTTP/1 with the client: request after request, each judged on its own. The octets of a request are
//! read once, strictly (`l7_parsers::http1`); what is judged is what is written to the server.

mod call;
mod client;
mod clock;
mod exchange;
mod fields;
mod refused;
mod relay;
mod request;
mod response;

use std::{cell::Cell, pin::pin, rc::Rc, sync::Arc};

use tokio::net::TcpStream;

use self::client::{Arrival, Client};
pub(crate) use self::{
    clock::{Clock, Limit},
    request::Asked,
};
use crate::{
    capture::Flow,
    connection::{linger, reset},
    policy::Judging,
    record::Recording,
    response::{Tongue, text},
    tunnel::Tunnel,
    upstream::Kept,
    worker::{Share, Stage, Worker},
};

/// What the requests of one connection share. They come one after the other.
struct Session {
    flow: Flow,
    worker: Rc<Worker>,
    /// How near its end the proxy is.
    stage: Cell<Stage>,
    /// The end of the connection, as it is, would be the end of the answer that is on its way.
    ends_answer: Cell<bool>,
    /// Of the client, where what is kept of its calls is counted.
    share: Arc<Share>,
}

impl Session {
    /// A proxy that ends says so with an answer: a client that is told sends its next request elsewhere.
    fn gives_last_answers(&self) -> bool {
        self.stage.get() != Stage::Serving
    }

    /// The record of a connection that a limit ends outside of a request.
    fn ended_by(&self, limit: &str) {
        let mut recording = Recording::start(&self.worker, &self.flow);
        recording.protocol("HTTP/1.1");
        recording.refused(limit);
    }
}

/// What becomes of a connection after an exchange.
enum After {
    Next,
    End(Ended),
}

/// How a connection ends.
enum Ended {
    /// The client is to read what it was sent.
    Linger,
    /// At once.
    Cut,
    /// With RST: no policy allows it any more, or its client takes nothing. What is in flight goes too.
    Reset,
    /// As HTTP.
    Switched(Box<Tunnel>),
}

pub(crate) async fn serve(
    stream: TcpStream,
    read: Vec<u8>,
    flow: Flow,
    worker: Rc<Worker>,
    share: Arc<Share>,
) {
    let stage = Cell::new(worker.stage());
    let session = Session { flow, worker, stage, ends_answer: Cell::new(false), share };
    let mut changes = session.worker.changes();
    let mut client = Client::new(stream, read, &session.worker);
    let ended = {
        let mut requests = pin!(requests(&mut client, &session));
        loop {
            tokio::select! {
                biased;
                ended = &mut requests => break ended,
                changed = changes.changed() => {
                    let Ok(()) = changed else { return };
                    session.stage.set(changes.borrow_and_update().stage);
                    if session.stage.get() == Stage::Cut {
                        record_cut(&session.worker, &flow);
                        break Ended::Cut;
                    }
                    if denied_now(&session.worker, &flow).is_some() {
                        break Ended::Reset;
                    }
                }
            }
        }
    };
    match ended {
        // What is cut off must not look whole.
        Ended::Cut if session.ends_answer.get() => reset(client.stream),
        Ended::Cut => {}
        Ended::Reset => reset(client.stream),
        Ended::Linger => linger(client.stream, session.worker.limits.linger_time).await,
        Ended::Switched(tunnel) => {
            Box::pin(tunnel.run(client.stream, client.held, &flow, &session.worker)).await;
        }
    }
}

async fn requests(client: &mut Client, session: &Session) -> Ended {
    let kept = Kept::none(&session.worker.upstreams.places, &session.flow);
    let ended = until_end(client, &kept, session).await;
    if matches!(ended, Ended::Linger | Ended::Cut) && session.stage.get() == Stage::Serving {
        kept.spare();
    }
    ended
}

async fn until_end(client: &mut Client, kept: &Kept, session: &Session) -> Ended {
    loop {
        match client.next(session, kept).await {
            Arrival::Head { octets, head } => {
                match exchange::serve(client, kept, session, octets, head).await {
                    After::Next => {}
                    After::End(ended) => return ended,
                }
            }
            Arrival::Refused(refused) => {
                let mut recording = Recording::start(&session.worker, &session.flow);
                recording.protocol("HTTP/1.1");
                recording.refused(refused);
                let answer = text(Tongue::Http, refused.status(), &refused.to_string());
                recording.status(answer.status);
                drop(recording);
                return match client.answer(&answer, true, false, session).await {
                    Ok(()) => Ended::Linger,
                    Err(error) => exchange::not_taken(&error, session),
                };
            }
            Arrival::Idle => {
                session.ended_by("idle for too long");
                return Ended::Linger;
            }
            Arrival::Silence if client.ended => return Ended::Cut,
            Arrival::Silence => return Ended::Linger,
            Arrival::Lost => return Ended::Cut,
        }
    }
}

/// The record of a connection that a proxy which ends did not wait for any longer.
pub(crate) fn record_cut(worker: &Rc<Worker>, flow: &Flow) {
    Recording::start(worker, flow).refused("still open when the time was up that a proxy has to drain");
}

/// The record of the end of a connection that no policy allows any more.
pub(crate) fn denied_now(worker: &Rc<Worker>, flow: &Flow) -> Option<Recording> {
    let port = flow.original_dst.0.port();
    let judgement =
        worker.with_policy(|policy| policy.judge(&worker.ends_now(flow), port, Judging::Connection));
    if !judgement.denies() {
        return None;
    }
    let mut recording = Recording::start(worker, flow);
    recording.judged(&judgement);
    recording.because("the policy in force now denies this connection");
    Some(recording)
}
