//! The link to the agent. The agent may go and come back at any time; the proxy goes on by itself.

mod outbox;
mod session;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use self::session::Session;
use crate::{counters::Counters, link_proto::Stage, policy::Snapshot, record::RecordSource};

/// Waits between attempts to reach the agent: it may be just about to start.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// What the agent wants.
pub(crate) enum Event {
    Policy {
        snapshot: Arc<Snapshot>,
        seen: Seen,
    },
    Drain(Duration),
    /// Whoever was to take over did not.
    TakeListeners,
}

/// To be called once every thread judges by the policy.
pub(crate) struct Seen(oneshot::Sender<Result<(), String>>);

impl Seen {
    pub(crate) fn acknowledge(self, result: Result<(), String>) {
        // The agent may be gone by now; the policy holds all the same.
        let _ = self.0.send(result);
    }
}

/// The process's end of the link.
pub(crate) struct Link {
    events: mpsc::Receiver<Event>,
    now: watch::Sender<Now>,
    task: JoinHandle<usize>,
}

/// What the process tells its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    In(Stage),
    /// Send what is left, and end, at the latest then.
    Ending(Instant),
}

impl Now {
    fn stage(self) -> Stage {
        match self {
            Self::In(stage) => stage,
            Self::Ending(_) => Stage::Draining,
        }
    }
}

impl Link {
    /// Dials `socket` from now on, for ever.
    pub(crate) fn start(
        socket: PathBuf,
        threads: usize,
        records: RecordSource,
        counters: Vec<Arc<Counters>>,
    ) -> Self {
        let (sender, events) = mpsc::channel(1);
        let now = watch::Sender::new(Now::In(Stage::Starting));
        let session = Session::new(socket, threads, records, counters, sender);
        let task = tokio::task::spawn_local(dial(session, now.subscribe()));
        Self { events, now, task }
    }

    /// Tells this agent and later ones where the process is in its life.
    pub(crate) fn is_now(&self, stage: Stage) {
        self.now.send_replace(Now::In(stage));
    }

    pub(crate) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The dialling task never ends by itself.
            None => std::future::pending().await,
        }
    }

    /// Sends what records are left, for at most `time`; returns how many nobody has taken.
    pub(crate) async fn end(&mut self, time: Duration) -> usize {
        self.now.send_replace(Now::Ending(Instant::now() + time));
        // Nobody listens to events any more.
        self.events.close();
        while self.events.try_recv().is_ok() {}
        (&mut self.task).await.unwrap_or(0)
    }
}

/// Ends only when told to, with the number of records that are left.
async fn dial(mut session: Session, now: watch::Receiver<Now>) -> usize {
    let mut told = now.clone();
    let linked = async {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match session.run(&mut told).await {
                Ok(session::Ending::Ordered) => return,
                Ok(session::Ending::AgentLeft) => {
                    tracing::info!("the agent has closed the link");
                    backoff = BACKOFF_FIRST;
                }
                Err(error) => tracing::debug!(%error, "no link to the agent"),
            }
            if matches!(*told.borrow(), Now::Ending(_)) && session.waiting() == 0 {
                return;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    };
    tokio::select! {
        () = linked => {}
        () = over(now) => {}
    }
    session.waiting()
}

/// Ready when the time to end is up.
async fn over(mut now: watch::Receiver<Now>) {
    loop {
        let at = *now.borrow_and_update();
        match at {
            Now::Ending(until) => return sleep_until(until).await,
            Now::In(_) => {
                if now.changed().await.is_err() {
                    // The process's end of the link is gone: so is the process, soon.
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
