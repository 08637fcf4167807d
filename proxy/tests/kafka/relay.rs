//! A listener that carries each connection through the engine to the broker: what Tektin does on the
//! path of a packet, here by address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    thread,
};

use bytes::BytesMut;
use l7_parsers::kafka::{Limits, Policy, Question, Record, RuleSet, Verdict};
use tokio::net::{TcpListener, TcpStream};

use crate::carry;

/// The rules in force, and what was recorded.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) rules: Mutex<Arc<RuleSet>>,
    pub(crate) records: Mutex<Vec<Record>>,
}

struct Held(Arc<RuleSet>);

impl Policy for Held {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        self.0.judge(question)
    }
}

/// Listens at `port` until the process ends.
pub(crate) fn start(port: u16, broker: SocketAddr, shared: Arc<Shared>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                tokio::task::spawn_local(async move {
                    let Ok(upstream) = TcpStream::connect(broker).await else { return };
                    client.set_nodelay(true).unwrap();
                    upstream.set_nodelay(true).unwrap();
                    let rules = || Held(Arc::clone(&shared.rules.lock().unwrap()));
                    let record = |record| shared.records.lock().unwrap().push(record);
                    // A client that goes away without a word is none of the test's business.
                    let limits = Limits::default();
                    let _ = carry(client, upstream, BytesMut::new(), limits, rules, record, |_| {}).await;
                });
            }
        });
    });
}
