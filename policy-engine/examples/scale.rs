//! What a full compile costs, and one rule, one identity, one endpoint more, at three sizes. Prints JSON
//! for `loadtests/scale.py`; times in µs, memory in octets.
//!
//! `spread`: rules and identities over many endpoints, each with 20 rules, five identities a peer.
//! `heaped`: the same rules, all for one endpoint.

#![allow(clippy::unwrap_used)] // a bench may panic

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use policy_engine::{
    documents::{Parsed, parse},
    engine::Engine,
    identity::{Identity, NamedPorts},
    labels::Labels,
    model::Document,
    policy_set::{DocumentChange, Options},
};

/// (rules, identities).
const SIZES: [(u32, u32); 3] = [(100, 500), (1_000, 5_000), (10_000, 50_000)];
/// Rules of a document, and of an endpoint where they are spread.
const RULES: u32 = 20;
/// Identities that a rule's peer selects.
const PEERS: u32 = 5;
/// Every tenth identity is a prefix's.
const PREFIX_EVERY: u32 = 10;
const REPETITIONS: usize = 50;
/// More than the processor's caches hold: a change comes after other work, with little in them. Without
/// this a small engine is measured in the caches and a large one in memory.
const CACHE: usize = 64 << 20;
const CACHE_LINE: usize = 64;

/// Counts what is allocated.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    let mut rows = Vec::new();
    for (rules, identities) in SIZES {
        rows.push(measure("spread", rules, identities));
        rows.push(measure("heaped", rules, identities));
    }
    println!("[{}]", rows.join(",\n"));
}

fn workload(id: u32, app: &str) -> Identity {
    let own = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    Identity::workload(id, Labels::workload("default", &own, &BTreeMap::new()), NamedPorts::default())
}

fn peer(group: u32) -> String {
    format!("peer{group}")
}

/// `rules` for the endpoint `app`; rule n lets group n of the peers in on port n.
fn document(name: &str, app: &str, rules: std::ops::Range<u32>, groups: u32) -> Arc<Document> {
    let rule = |number: u32| {
        let group = number % groups;
        let from = if group.is_multiple_of(PREFIX_EVERY) {
            let nets: Vec<String> = (0..PEERS).map(|member| prefix(group * PEERS + member)).collect();
            format!("fromCIDR: [{}]", nets.join(", "))
        } else {
            format!("fromEndpoints: [{{matchLabels: {{app: {}}}}}]", peer(group))
        };
        let port = 1 + number % 60_000;
        format!("    - {{{from}, toPorts: [{{ports: [{{port: '{port}', protocol: TCP}}]}}]}}\n")
    };
    let ingress: String = rules.map(rule).collect();
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: {app}}}}}\n  ingress:\n{ingress}"
    );
    match parse(&text).into_iter().next() {
        Some(Parsed::Policy(document)) => Arc::new(document),
        other => panic!("{other:?}"),
    }
}

fn prefix(number: u32) -> String {
    format!("{}.{}.{}.0/24", 11 + number / 65_536, number / 256 % 256, number % 256)
}

fn identity(number: u32) -> Identity {
    let group = number / PEERS;
    if group.is_multiple_of(PREFIX_EVERY) {
        Identity::for_prefix((1 << 24) + number, prefix(number).parse().unwrap(), BTreeSet::new())
    } else {
        workload(1000 + number, &peer(group))
    }
}

fn measure(shape: &str, rules: u32, identities: u32) -> String {
    let groups = identities / PEERS;
    let documents = rules / RULES;
    let (subjects, app): (u32, fn(u32) -> String) = match shape {
        "spread" => (documents, |number| format!("web{number}")),
        _ => (1, |_| "web0".to_owned()),
    };
    let mut engine = Engine::new(Options::default());
    for number in 0..identities {
        engine.add_identity(identity(number));
    }
    for number in 0..subjects {
        engine.add_identity(workload(100_000 + number, &app(number)));
    }
    let all: Vec<Arc<Document>> = (0..documents)
        .map(|n| document(&format!("p{n:05}"), &app(n), n * RULES..(n + 1) * RULES, groups))
        .collect();
    let put = |engine: &mut Engine, before: Option<&Arc<Document>>, after: Option<&Arc<Document>>| {
        if let Some(change) = DocumentChange::new(before.cloned(), after.cloned()) {
            engine.follow(&change);
        }
        engine.take_changes().len()
    };
    all.iter().for_each(|document| {
        put(&mut engine, None, Some(document));
    });

    let before = ALLOCATED.load(Ordering::Relaxed);
    let start = Instant::now();
    (0..subjects).for_each(|number| engine.add_subject(100_000 + number));
    let compile = start.elapsed().as_secs_f64() * 1e6;
    let _ = engine.take_changes();
    let compiled = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);

    let mut forget = vec![0_u8; CACHE];
    let mut one = |what: &mut dyn FnMut(&mut Engine, usize), undo: &mut dyn FnMut(&mut Engine, usize)| {
        let mut times = Vec::new();
        let mut memory = 0;
        for number in 0..REPETITIONS {
            forget.iter_mut().step_by(CACHE_LINE).for_each(|octet| *octet = octet.wrapping_add(1));
            std::hint::black_box(&forget);
            let before = ALLOCATED.load(Ordering::Relaxed);
            let start = Instant::now();
            what(&mut engine, number);
            times.push(start.elapsed().as_secs_f64() * 1e6);
            memory = ALLOCATED.load(Ordering::Relaxed).saturating_sub(before);
            undo(&mut engine, number);
        }
        times.sort_by(f64::total_cmp);
        format!(
            "{{\"p50\": {:.1}, \"p99\": {:.1}, \"octets\": {memory}}}",
            times[REPETITIONS / 2],
            times[REPETITIONS - 1]
        )
    };
    // One rule more at the end of a document, as in a file that somebody has edited.
    let at = |n: usize| (n as u32 * 7) % documents;
    let longer: Vec<Arc<Document>> = (0..REPETITIONS)
        .map(at)
        .map(|n| document(&format!("p{n:05}"), &app(n), n * RULES..(n + 1) * RULES + 1, groups))
        .collect();
    let rule = one(
        &mut |engine, n| {
            put(engine, Some(&all[at(n) as usize]), Some(&longer[n]));
        },
        &mut |engine, n| {
            put(engine, Some(&longer[n]), Some(&all[at(n) as usize]));
        },
    );
    let number = |n: usize| 200_000 + n as u32;
    let peer_of = |n: usize| (n as u32 * 13) % groups.max(1);
    let identity = one(
        &mut |engine, n| {
            engine.add_identity(workload(number(n), &peer(peer_of(n) | 1)));
            let _ = engine.take_changes();
        },
        &mut |engine, n| {
            engine.remove_identity(number(n));
            let _ = engine.take_changes();
        },
    );
    // Another workload of those that the rules of one document select, with labels of its own.
    let endpoint = one(
        &mut |engine, n| {
            engine.add_identity(workload(number(n), &app(at(n))));
            engine.add_subject(number(n));
            let _ = engine.take_changes();
        },
        &mut |engine, n| {
            engine.remove_subject(number(n));
            engine.remove_identity(number(n));
            let _ = engine.take_changes();
        },
    );
    format!(
        "{{\"shape\": \"{shape}\", \"rules\": {rules}, \"identities\": {identities}, \"endpoints\": {subjects}, \
         \"compile\": {{\"p50\": {compile:.1}, \"octets\": {compiled}}}, \"rule\": {rule}, \
         \"identity\": {identity}, \"endpoint\": {endpoint}}}"
    )
}
