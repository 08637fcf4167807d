//! All worker threads, seen from the process's main thread.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context;
use tektin_abi::maps::VerdictKey;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{
    drain::Drain,
    thread::{self, Order, Setup},
};
use crate::{
    counters::Counters,
    listener::ListenerPair,
    maps::{Ipcache, Steered, Verdicts},
    options::Limits,
    policy::Snapshot,
    record::RecordSink,
    worker::Totals,
};

/// What a thread has counted since it told last.
pub(super) type Flushed = HashMap<VerdictKey, Totals>;

/// A thread that does not take a policy within this time hangs.
const SWITCH_TIME: Duration = Duration::from_secs(5);

pub(super) struct Pool {
    limits: Limits,
    sink: RecordSink,
    counters: Vec<Arc<Counters>>,
    threads: Vec<mpsc::UnboundedSender<Order>>,
    flushed: mpsc::UnboundedSender<Flushed>,
    writing: JoinHandle<()>,
}

impl Pool {
    pub(super) fn new(
        limits: Limits,
        sink: RecordSink,
        counters: Vec<Arc<Counters>>,
        verdicts: Verdicts,
    ) -> Self {
        let (flushed, receiver) = mpsc::unbounded_channel();
        let writing = tokio::task::spawn_local(write(verdicts, receiver));
        Self { limits, sink, counters, threads: Vec::new(), flushed, writing }
    }

    /// Starts a thread for each pair of listeners. They judge by `snapshot` from the first byte.
    pub(super) fn start(
        &mut self,
        sockets: Vec<ListenerPair>,
        tables: Vec<(Steered, Ipcache)>,
        snapshot: &Arc<Snapshot>,
    ) -> anyhow::Result<()> {
        for (number, ((sockets, (steered, ipcache)), counters)) in
            sockets.into_iter().zip(tables).zip(&self.counters).enumerate()
        {
            let (orders, receiver) = mpsc::unbounded_channel();
            let setup = Setup {
                sockets,
                steered,
                ipcache,
                limits: self.limits,
                snapshot: Arc::clone(snapshot),
                sink: self.sink.clone(),
                counters: Arc::clone(counters),
                orders: receiver,
                flushed: self.flushed.clone(),
            };
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    let vital = Vital(number);
                    match thread::run(setup) {
                        Ok(()) => std::mem::forget(vital),
                        Err(error) => tracing::error!(%error, number, "worker cannot start"),
                    }
                })
                .context("cannot start a worker thread")?;
            self.threads.push(orders);
        }
        Ok(())
    }

    /// Gives every thread the policy and waits until all judge by it.
    ///
    /// # Errors
    /// Words for the agent: a thread hangs, so an older policy may still be in force there.
    pub(super) async fn switch_policy(&self, snapshot: &Arc<Snapshot>) -> Result<(), String> {
        let mut answers = Vec::new();
        for orders in &self.threads {
            let (seen, answer) = oneshot::channel();
            // A thread that has ended, which it does only at the end of a drain, judges nothing.
            let _ = orders.send(Order::Policy { snapshot: Arc::clone(snapshot), seen });
            answers.push(answer);
        }
        for (number, answer) in answers.into_iter().enumerate() {
            if timeout(SWITCH_TIME, answer).await.is_err() {
                return Err(format!("worker {number} does not answer"));
            }
        }
        Ok(())
    }

    /// Lets connections end.
    pub(super) fn drain(&self, drain: Drain) {
        for orders in &self.threads {
            let _ = orders.send(Order::Drain(drain));
        }
    }

    /// Ready when a drain is over in all threads.
    pub(super) async fn drained(&self) {
        for orders in &self.threads {
            orders.closed().await;
        }
    }

    /// The writer ends when the last thread's totals are in the map.
    pub(super) async fn end(self) {
        drop((self.flushed, self.threads));
        let _ = self.writing.await;
    }
}

/// Ends the process with the thread it stands for: connections steered to a thread that is gone
/// would wait for ever, and a policy could not be put in force there. The agent starts a new proxy.
struct Vital(usize);

impl Drop for Vital {
    fn drop(&mut self) {
        tracing::error!(number = self.0, "a worker thread has ended: so does the proxy");
        std::process::exit(1);
    }
}

async fn write(mut verdicts: Verdicts, mut flushed: mpsc::UnboundedReceiver<Flushed>) {
    while let Some(totals) = flushed.recv().await {
        for (key, totals) in totals {
            if let Err(error) = verdicts.add(key, totals) {
                tracing::warn!(%error, "totals not written");
            }
        }
    }
}
