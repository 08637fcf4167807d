//! The link to the agent. The agent may go and come back at any time; the proxy goes on by itself.

mod session;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use self::session::Session;
use crate::{counters::Counters, policy::Snapshot, record::RecordSource};

/// Waits between attempts to reach the agent: it may be just about to start.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// How long the last records may take to leave at the end.
const LAST_RECORDS: Duration = Duration::from_millis(500);

/// What the agent wants.
pub(crate) enum Event {
    Policy { snapshot: Arc<Snapshot>, seen: Seen },
    Drain(Duration),
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
    end: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
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
        let (end, ended) = oneshot::channel();
        let session = Session::new(socket, threads, records, counters, sender);
        Self { events, end: Some(end), task: tokio::task::spawn_local(dial(session, ended)) }
    }

    pub(crate) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            // The dialling task never ends by itself.
            None => std::future::pending().await,
        }
    }

    /// Sends what records are left, if the agent is there.
    pub(crate) async fn end(&mut self) {
        drop(self.end.take());
        let _ = timeout(LAST_RECORDS, &mut self.task).await;
    }
}

async fn dial(mut session: Session, mut ended: oneshot::Receiver<()>) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        match session.run(&mut ended).await {
            Ok(session::Ending::Ordered) => return,
            Ok(session::Ending::AgentLeft) => {
                tracing::info!("the agent has closed the link");
                backoff = BACKOFF_FIRST;
            }
            Err(error) => tracing::debug!(%error, "no link to the agent"),
        }
        tokio::select! {
            () = sleep(backoff) => {}
            _ = &mut ended => return,
        }
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

#[cfg(test)]
mod tests;
