//! A captured Kafka connection: its upstream, its policies, its records, its end.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use l7_parsers::kafka::{Cut, Engine, Limits, Policy, Question, Record, Verdict};
use tokio::{net::TcpStream, sync::Notify, time::Instant};

use super::{End, Next, Surroundings, carry};
use crate::{
    capture::Flow,
    connection::{linger, reset},
    http1::{denied_now, record_cut},
    policy::{EndDecision, Judgement, Judging},
    record::Recording,
    verdict::Admission,
    worker::{Share, Stage, Wanted, Worker},
};

/// What the requests of one connection share.
struct Session {
    flow: Flow,
    worker: Rc<Worker>,
    /// What the ends said of requests that are not recorded yet. The engine keeps places in here (from
    /// 1 on) as numbers of rules, since a verdict has a rule at each end.
    said: RefCell<Vec<(EndDecision, EndDecision)>>,
    moved: Cell<Instant>,
    /// How long nothing may move.
    patience: Cell<Duration>,
    /// Nothing is due, or on its way to either end.
    is_quiet: Cell<bool>,
    /// Told when that has come true.
    quiet: Notify,
    share: Arc<Share>,
    /// Octets that it has in the share.
    held: Cell<usize>,
}

pub(crate) async fn serve(
    mut stream: TcpStream,
    read: Vec<u8>,
    flow: Flow,
    worker: Rc<Worker>,
    share: Arc<Share>,
) {
    // Before anything is asked of it: a change from now on is not missed.
    let mut changes = worker.changes();
    let Some(admission) = Admission::of(&flow, &worker) else { return };
    let mut upstream = match worker.upstreams.connect_admitted(&admission, &flow).await {
        Ok(upstream) => upstream,
        Err(error) => return Recording::start(&worker, &flow).upstream_failed(error),
    };
    let session = Session {
        flow,
        worker: Rc::clone(&worker),
        said: RefCell::default(),
        moved: Cell::new(Instant::now()),
        patience: Cell::new(worker.limits.tunnel_idle_time),
        is_quiet: Cell::new(false),
        quiet: Notify::new(),
        share,
        held: Cell::new(0),
    };
    // One request more than its source's share leaves room for answers.
    let request_octets = worker.limits.kafka_request_octets.min(worker.limits.buffered_per_source / 2);
    let limits = Limits { request_octets, ..Limits::default() };
    let mut engine = Engine::new(limits);
    engine.ends().from_client.extend_from_slice(&read);
    let ended = {
        let carrying = carry(&mut engine, &mut stream, &mut upstream, &session);
        tokio::pin!(carrying);
        let mut stage = Stage::Serving;
        loop {
            tokio::select! {
                // A request that has come is seen before a look at what is due.
                biased;
                end = &mut carrying => {
                    tracing::debug!(?end, ?flow, "Kafka connection ended");
                    break Ended::Carried(end);
                }
                changed = changes.changed() => {
                    let Ok(()) = changed else { break Ended::Drained };
                    stage = changes.borrow_and_update().stage;
                    if stage == Stage::Cut {
                        record_cut(&worker, &flow);
                        break Ended::Drained;
                    }
                    if denied_now(&worker, &flow).is_some() {
                        break Ended::Denied;
                    }
                }
                // Clients of Kafka connect again by themselves.
                () = session.quiet(), if stage == Stage::IdleEnds => break Ended::Quiet,
                () = session.idle() => break Ended::Idle,
            }
        }
    };
    engine.cut(ended.cut(), std::time::Instant::now());
    while let Some(record) = engine.record() {
        session.record(record);
    }
    match ended {
        Ended::Denied | Ended::Drained => reset(stream),
        Ended::Carried(_) | Ended::Quiet | Ended::Idle => linger(stream, worker.limits.linger_time).await,
    }
}

/// What ended it.
#[derive(Clone, Copy)]
enum Ended {
    Carried(End),
    /// No request of it could pass any more.
    Denied,
    Drained,
    /// Nothing was due when the proxy drained.
    Quiet,
    Idle,
}

impl Ended {
    fn cut(self) -> Cut {
        match self {
            Self::Carried(end) => end.cut(),
            Self::Denied => Cut::Policy,
            Self::Drained | Self::Quiet => Cut::Drain,
            Self::Idle => Cut::Idle,
        }
    }
}

impl Session {
    /// Ready when nothing has moved for too long.
    async fn idle(&self) {
        loop {
            let (now, deadline) = (Instant::now(), self.moved.get() + self.patience.get());
            if now >= deadline {
                return;
            }
            // Patience may have become shorter by then.
            tokio::time::sleep_until(deadline.min(now + self.worker.limits.stall_time)).await;
        }
    }

    /// Ready when nothing is due.
    async fn quiet(&self) {
        while !self.is_quiet.get() {
            self.quiet.notified().await;
        }
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

impl Surroundings for Session {
    fn judge(&self, engine: &mut Engine) {
        engine.advance(self, std::time::Instant::now());
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

    fn moved(&self, engine: &Engine) {
        self.moved.set(Instant::now());
        let limits = &self.worker.limits;
        self.patience.set(match engine.is_amid_a_frame() {
            true => limits.stall_time,
            false => limits.tunnel_idle_time,
        });
        if engine.in_flight() == 0 {
            self.said.borrow_mut().clear();
        }
        self.is_quiet.set(engine.is_quiet());
        if self.is_quiet.get() {
            self.quiet.notify_one();
        }
    }

    fn holds(&self, octets: usize) {
        let before = self.held.replace(octets);
        match octets >= before {
            true => self.share.hold(octets - before),
            false => self.share.release(before - octets),
        }
    }

    fn has_room(&self, next: Next) -> bool {
        self.share.has_room(wanted(next))
    }

    fn poll_room(&self, next: Next, cx: &Context<'_>) -> Poll<()> {
        self.share.poll_room(wanted(next), cx)
    }
}

fn wanted(next: Next) -> Wanted {
    match next {
        Next::Request => Wanted::More,
        Next::Answer => Wanted::Answers,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.share.release(self.held.get());
    }
}

impl Policy for Session {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        let port = self.flow.original_dst.0.port();
        let judging = Judging::Kafka(question);
        let judgement =
            self.worker.with_policy(|policy| policy.judge(&self.worker.ends_now(&self.flow), port, judging));
        let rule = self.place((judgement.egress, judgement.ingress));
        if judgement.denies() { Verdict::Deny { rule } } else { Verdict::Allow { rule } }
    }
}
