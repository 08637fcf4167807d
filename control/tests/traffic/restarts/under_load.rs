//! A node whose clients ask all the while, and what they, the server and the records say in the end.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    netlab::{
        Lab, Namespace, eventually,
        load::{self, Seen, counter},
        servers::Nginx,
        workload::Workload,
    },
    policies::{cnp, documents, http_port, port},
};

/// Instants that differ from run to run; the seed is printed.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos() as u64 | 1;
        println!("seed {seed:#x}");
        Self(seed)
    }

    pub(super) fn up_to(&mut self, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % (most + 1))
    }
}

pub(super) struct Node {
    pub(super) lab: Lab,
    pub(super) web: Workload,
    pub(super) client: Workload,
    pub(super) nginx: Nginx,
}

/// What holds throughout: `/a/…` of nginx and of the silent server, and an echo without HTTP. `more`
/// makes documents that differ where nobody asks.
pub(super) fn policy(more: u32) -> String {
    let from = "fromEndpoints: [{matchLabels: {app: client}}]";
    let rules = format!("{{path: /a/.*}}, {{path: /more{more}}}");
    let [nginx, silent] = [80, 82].map(|number| http_port(number, &rules));
    documents(&[
        cnp("l7", "web", &format!("ingress: [{{{from}, {nginx}}}, {{{from}, {silent}}}]")),
        cnp("l4", "web", &format!("ingress: [{{{from}, {}}}]", port(7, "TCP"))),
    ])
}

impl Node {
    pub(super) fn new(agent_args: &[&str]) -> Self {
        let lab = Lab::prepared(agent_args, |_| ());
        let (web, client) = (lab.workload("web"), lab.workload("client"));
        let nginx = lab.nginx(&web.ns);
        lab.serve(&web.ns, &["echo:7"]);
        lab.apply(&policy(0));
        Self { lab, web, client, nginx }
    }

    /// Runs `work` under load; what the clients saw.
    pub(super) fn under_load(&self, work: impl FnOnce()) -> Seen {
        let (over, to) = (AtomicBool::new(false), self.web.at(80));
        std::thread::scope(|scope| {
            let clients = load::start(scope, &self.client.ns, &to, &over);
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            over.store(true, Ordering::Relaxed);
            let seen = load::join(clients);
            if let Err(panic) = worked {
                std::panic::resume_unwind(panic);
            }
            seen
        })
    }

    /// The server saw every request that was answered with 200 once, and nothing else.
    pub(super) fn check_server(&self, seen: &Seen) {
        let log = self.nginx.log();
        let paths: Vec<&str> = log.lines().filter_map(|line| line.split(' ').nth(3)).collect();
        let distinct: BTreeSet<&str> = paths.iter().copied().collect();
        assert_eq!(paths.len(), distinct.len(), "a request came twice");
        let wrong: Vec<_> = distinct.iter().filter(|path| !seen.allowed.contains(**path)).collect();
        assert!(wrong.is_empty(), "the server saw {wrong:?}");
        assert_eq!(distinct.len(), seen.allowed.len(), "200 without the server");
    }

    /// Adds what the agent knows of requests now: more than its ring holds may come in a test.
    pub(super) fn collect(&self, recorded: &mut BTreeSet<String>) {
        let shown = self.lab.tektin(&["observe", "--last", "100000", "--output", "json"]);
        let mut once = BTreeSet::new();
        for line in shown.success().stdout.lines() {
            let flow: serde_json::Value = serde_json::from_str(line).expect("a record");
            let Some(path) = flow["http"]["path"].as_str() else { continue };
            let wanted = if path.starts_with("/a/") { "forwarded" } else { "denied" };
            assert_eq!(flow["verdict"], wanted, "{flow}");
            assert!(once.insert(path.to_owned()), "recorded twice: {flow}");
        }
        recorded.extend(once);
    }

    /// Every request has its record, but for those that are counted as lost. `recorded`: what was
    /// collected before.
    pub(super) fn check_records(&self, seen: &Seen, mut recorded: BTreeSet<String>) {
        let requests: BTreeSet<String> = seen.allowed.union(&seen.denied).cloned().collect();
        let flows = eventually("every record has come or is counted as lost", || {
            self.collect(&mut recorded);
            let flows = self.lab.json(&["status"])["flows"].clone();
            let lost = flows["lost_proxy"].as_u64().expect("a count");
            let missing = requests.difference(&recorded).count() as u64;
            (missing == lost).then_some(flows)
        });
        println!("{} requests, {} records; {flows}", requests.len(), recorded.len());
        assert!(recorded.is_subset(&requests), "a record of no request");
    }

    /// What the kernel has dropped, by reason.
    pub(super) fn drops(&self) -> Vec<(String, u64)> {
        let status = self.lab.json(&["status"]);
        let counters = status["counters"].as_object().expect("counters").clone();
        let drops = counters.into_iter().filter(|(name, _)| name.starts_with("drop_"));
        drops
            .map(|(name, count)| (name, count.as_u64().unwrap_or(0)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Connections that were begun twice because an answer did not come within a second.
pub(super) fn repeated(namespace: &Namespace) -> u64 {
    counter(namespace, "netstat", "TcpExt", "TCPSynRetrans")
}

pub(super) fn show(seen: &Seen) {
    println!(
        "{} allowed, {} denied, {} failed, {} connections closed after their last answer, slowest connect {:?}",
        seen.allowed.len(),
        seen.denied.len(),
        seen.failed.len(),
        seen.closed,
        seen.slowest_connect
    );
}
