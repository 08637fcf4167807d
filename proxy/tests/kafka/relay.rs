//! A listener that carries each connection through the engine to the broker: what Tektin does on the
//! path of a packet, here by address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use l7_parsers::kafka::{Engine, Limits, Record, RuleSet};
use tektin_proxy::kafka::{End, Surroundings};
use tokio::net::{TcpListener, TcpStream};

use crate::carry;

/// The rules in force, and what was recorded.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) rules: Mutex<Arc<RuleSet>>,
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) ends: Mutex<Vec<End>>,
}

impl Surroundings for Shared {
    fn judge(&self, engine: &mut Engine) {
        let rules = Arc::clone(&self.rules.lock().unwrap());
        engine.advance(&*rules, Instant::now());
    }

    fn record(&self, record: Record) {
        self.records.lock().unwrap().push(record);
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
                let (mut client, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                tokio::task::spawn_local(async move {
                    let Ok(mut upstream) = TcpStream::connect(broker).await else { return };
                    client.set_nodelay(true).unwrap();
                    upstream.set_nodelay(true).unwrap();
                    let mut engine = Engine::new(Limits::default());
                    let end = carry(&mut engine, &mut client, &mut upstream, &*shared).await;
                    shared.ends.lock().unwrap().push(end);
                });
            }
        });
    });
}
