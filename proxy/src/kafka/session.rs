//! A captured Kafka connection: its upstream, its policies, its records, its end.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::BytesMut;
use l7_parsers::kafka::{Limits, Policy, Question, Record, Verdict};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

use super::carry;
use crate::{
    capture::Flow,
    connection::{linger, reset},
    http1::{denied_now, record_cut},
    policy::{EndDecision, Judgement, Judging},
    record::Recording,
    tunnel::idle,
    verdict::Admission,
    worker::{Stage, Worker},
};

/// What the requests of one connection share.
struct Session {
    flow: Flow,
    worker: Rc<Worker>,
    /// What the ends said of requests that are not recorded yet. The engine keeps places in here (from
    /// 1 on) as numbers of rules, since a verdict has a rule at each end.
    said: RefCell<Vec<(EndDecision, EndDecision)>>,
    moved: Cell<Instant>,
    /// Told when every request is answered.
    quiet: Notify,
}

pub(crate) async fn serve(mut stream: TcpStream, read: Vec<u8>, flow: Flow, worker: Rc<Worker>) {
    // Before anything is asked of it: a change from now on is not missed.
    let mut changes = worker.changes();
    let Some(admission) = Admission::of(&flow, &worker) else { return };
    let mut upstream = match worker.sockets.connect_admitted(&admission, &flow).await {
        Ok(upstream) => upstream,
        Err(error) => return Recording::start(&worker, &flow).upstream_failed(error),
    };
    let session = Session {
        flow,
        worker: Rc::clone(&worker),
        said: RefCell::default(),
        moved: Cell::new(Instant::now()),
        quiet: Notify::new(),
    };
    let ended = {
        let record = |ended| session.record(ended);
        let moved = |due| session.moved(due);
        let limits = Limits::default();
        let carrying =
            carry(&mut stream, &mut upstream, BytesMut::from(&read[..]), limits, || &session, record, moved);
        tokio::pin!(carrying);
        let mut stage = Stage::Serving;
        loop {
            tokio::select! {
                result = &mut carrying => {
                    if let Err(error) = result {
                        tracing::debug!(%error, ?flow, "Kafka connection ended");
                        return;
                    }
                    break Ended::Linger;
                }
                changed = changes.changed() => {
                    let Ok(()) = changed else { return };
                    stage = changes.borrow_and_update().stage;
                    if stage == Stage::Cut {
                        return record_cut(&worker, &flow);
                    }
                    if denied_now(&worker, &flow).is_some() {
                        break Ended::Denied;
                    }
                }
                // Clients of Kafka connect again by themselves.
                () = session.quiet.notified(), if stage == Stage::IdleEnds => break Ended::Linger,
                () = idle(&session.moved, worker.limits.tunnel_idle_time) => break Ended::Linger,
            }
        }
    };
    match ended {
        Ended::Denied => reset(stream),
        Ended::Linger => linger(stream, worker.limits.linger_time).await,
    }
}

/// What becomes of the client's socket.
enum Ended {
    /// No request of it could pass any more.
    Denied,
    Linger,
}

impl Session {
    fn moved(&self, due: usize) {
        self.moved.set(Instant::now());
        if due == 0 {
            self.said.borrow_mut().clear();
            self.quiet.notify_one();
        }
    }

    fn record(&self, ended: Record) {
        let place = (ended.rule as usize).checked_sub(1);
        let said = place.and_then(|place| self.said.borrow().get(place).copied());
        let judgement = said.map(|(egress, ingress)| Judgement {
            egress,
            ingress,
            header_actions: Vec::new(),
            revision: self.worker.with_policy(|policy| policy.revision()),
        });
        Recording::start(&self.worker, &self.flow).kafka(ended, judgement.as_ref());
    }

    fn place(&self, ends: (EndDecision, EndDecision)) -> u32 {
        let mut said = self.said.borrow_mut();
        let at = said.iter().position(|known| *known == ends).unwrap_or_else(|| {
            said.push(ends);
            said.len() - 1
        });
        u32::try_from(at + 1).unwrap_or(0)
    }
}

impl Policy for &Session {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        let port = self.flow.original_dst.0.port();
        let judging = Judging::Kafka(question);
        let judgement = self.worker.with_policy(|policy| policy.judge(&self.flow.steered, port, judging));
        let rule = self.place((judgement.egress, judgement.ingress));
        if judgement.denies() { Verdict::Deny { rule } } else { Verdict::Allow { rule } }
    }
}
