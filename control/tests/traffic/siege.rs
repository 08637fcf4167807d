//! A workload attacks the proxy while another one goes on asking: what must hold meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    netlab::{
        Lab,
        clients::KeepAlive,
        eventually,
        process::{Finished, run},
        workload::Workload,
    },
    policies::{cnp, documents, http_port},
};

/// What the proxy may take on top of what it had, whatever comes.
pub const MEMORY: usize = 64 << 20;

/// One kind of attack by one client program.
#[derive(Clone, Copy)]
pub struct Attack {
    /// A script in `floods/`.
    pub script: &'static str,
    /// The function in it.
    pub name: &'static str,
    pub port: u16,
    pub connections: usize,
    /// Each connection's records must have one of these.
    pub reasons: &'static [&'static str],
}

/// How one connection of an attack ended, as the attacker saw it.
#[derive(Clone, Debug)]
pub struct Ending {
    /// 0: the connection was reset before it was open.
    pub port: u16,
    pub how: String,
}

pub struct Siege {
    pub lab: Lab,
    pub web: Workload,
    pub attacker: Workload,
    pub witness: Workload,
    resident_before: usize,
}

impl Siege {
    /// A lab with these limits; HTTP is allowed at `ports` of `web`, where nginx serves 80 and 81.
    pub fn new(limits: &[&str], ports: &[u16]) -> Self {
        let arguments: Vec<String> = limits.iter().map(|limit| format!("--proxy-limit={limit}")).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let lab = Lab::prepared(&arguments, |_| ());
        let (web, attacker, witness) =
            (lab.workload("web"), lab.workload("attacker"), lab.workload("witness"));
        lab.nginx(&web.ns);
        let all: Vec<String> = ports
            .iter()
            .map(|port| {
                cnp(
                    &format!("p{port}"),
                    "web",
                    &format!("ingress: [{{{}}}]", http_port(*port, "{path: /.*}")),
                )
            })
            .collect();
        lab.apply(&documents(&all));
        let mut siege = Self { lab, web, attacker, witness, resident_before: 0 };
        // Once through everything, so that what is only made once is there before it counts.
        siege.witness_asks(&mut siege.connected());
        siege.resident_before = siege.proxy_memory("VmRSS");
        siege
    }

    /// A script of `floods/` in a namespace.
    pub fn script(file: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/traffic/floods").join(file)
    }

    /// Starts the servers of `floods/server.py` beside nginx.
    pub fn serve(&self, what: &[&str]) {
        let mut command = self.web.ns.command("python3");
        command.arg(Self::script("server.py")).args(what);
        self.lab.background(command);
        for word in what {
            let port = word.rsplit(':').next().and_then(|port| port.parse().ok()).expect("KIND:PORT");
            self.lab.listening(&self.web.ns, port);
        }
    }

    /// Runs all attacks at once; the witness asks until they are over. Then looks at the memory, and
    /// for a record of every connection.
    pub fn withstand(&self, attacks: &[Attack]) {
        fs::write(format!("/proc/{}/clear_refs", self.proxy()), "5").expect("a new peak");
        let over = AtomicBool::new(false);
        let answers = AtomicUsize::new(0);
        let endings: Vec<Vec<Ending>> = std::thread::scope(|scope| {
            let witness = scope.spawn(|| {
                let mut open = self.connected();
                loop {
                    self.witness_asks(&mut open);
                    answers.fetch_add(1, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
            let attacking: Vec<_> = attacks.iter().map(|attack| scope.spawn(|| self.run(attack))).collect();
            let endings: Vec<_> = attacking.into_iter().map(|attack| attack.join()).collect();
            over.store(true, Ordering::Relaxed);
            let witness = witness.join();
            let endings =
                endings.into_iter().map(|joined| joined.unwrap_or_else(|p| std::panic::resume_unwind(p)));
            witness.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            endings.collect()
        });
        let peak = self.proxy_memory("VmHWM");
        let names: Vec<_> = attacks.iter().map(|attack| attack.name).collect();
        println!(
            "{}\n  resident: {} kB before, {} kB at most, {} kB after; the witness asked {} times",
            names.join(", "),
            self.resident_before >> 10,
            peak >> 10,
            self.proxy_memory("VmRSS") >> 10,
            answers.into_inner()
        );
        for (attack, endings) in attacks.iter().zip(&endings) {
            assert_eq!(endings.len(), attack.connections, "{}", attack.name);
        }
        let mut tries = 0;
        let missing = loop {
            let missing = self.without_reason(attacks, &endings);
            tries += 1;
            if missing.is_empty() || tries == 50 {
                break missing;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(missing.is_empty(), "{missing:#?}");
        assert!(
            peak < self.resident_before + MEMORY,
            "{peak} octets at most, {} before",
            self.resident_before
        );
    }

    fn run(&self, attack: &Attack) -> Vec<Ending> {
        let mut command = self.attacker.ns.command("python3");
        command.arg(Self::script(attack.script)).arg(attack.name);
        command.args([self.web.v4.to_string(), attack.port.to_string(), attack.connections.to_string()]);
        endings(&run(command, Duration::from_secs(120)))
    }

    /// Connections that go on, or that have no record which names the limit; with what there is instead.
    fn without_reason(&self, attacks: &[Attack], endings: &[Vec<Ending>]) -> Vec<String> {
        let mut reasons = BTreeMap::<u64, BTreeMap<String, usize>>::new();
        for record in self.observed(&["--layer", "l7"]) {
            let port = record["source"]["port"].as_u64().unwrap_or_default();
            let reason = record["reason"].as_str().unwrap_or_default().to_owned();
            *reasons.entry(port).or_default().entry(reason).or_default() += 1;
        }
        let mut missing = Vec::new();
        let mut shown = Vec::new();
        for (attack, endings) in attacks.iter().zip(endings) {
            for ending in endings {
                let seen = reasons.get(&ending.port.into()).cloned().unwrap_or_default();
                let named = |reason: &&String| attack.reasons.iter().any(|known| reason.contains(known));
                match seen.keys().find(named) {
                    Some(reason) if ending.how != "open" => {
                        shown.push(format!("  {:24} {:22} {reason}", attack.name, ending.how));
                    }
                    _ => missing.push(format!("{} {ending:?}: {seen:?}", attack.name)),
                }
            }
        }
        if missing.is_empty() {
            shown.dedup();
            println!("{}", shown.join("\n"));
        }
        missing
    }

    /// What `observe` says of connections from this port of the attacker, requests and their ends.
    pub fn records(&self, port: u16) -> Vec<Value> {
        self.observed(&["--layer", "l7"]).into_iter().filter(|r| r["source"]["port"] == port).collect()
    }

    /// All that `observe` has of the attacker.
    pub fn observed(&self, filter: &[&str]) -> Vec<Value> {
        let fixed = ["observe", "--last", "20000", "--from-endpoint", "attacker", "--output", "json"];
        let finished = self.lab.tektin(&[&fixed[..], filter].concat());
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        finished.success().stdout.lines().map(line).collect()
    }

    /// A connection that the witness keeps through all of it.
    pub fn connected(&self) -> KeepAlive {
        KeepAlive::connect(&self.lab, &self.witness.ns, self.web.at(80)[0])
    }

    /// New connections and the kept one, HTTP/1 and HTTP/2, IPv4 and IPv6: all must be answered.
    #[track_caller]
    pub fn witness_asks(&self, open: &mut KeepAlive) {
        let answer = open.request("GET", "/kept");
        assert!(answer.starts_with("200 "), "{answer}");
        for (version, port) in [("--http1.1", 80), ("--http2-prior-knowledge", 81)] {
            for ip in self.web.addresses() {
                self.witness.ns.expect_status(200, (ip, port).into(), "/new", &[version]);
            }
        }
    }

    pub fn proxy(&self) -> i32 {
        self.lab.proxies()[0]
    }

    /// Octets in a line of the proxy's `status`.
    pub fn proxy_memory(&self, what: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.proxy())).expect("a proxy");
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let kilo = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        kilo.unwrap_or_else(|| panic!("no {what}: {status}")) << 10
    }

    /// What the memory must not exceed.
    pub fn assert_bounded(&self, more: usize) {
        let peak = self.proxy_memory("VmHWM");
        assert!(peak < self.resident_before + more, "{peak} octets at most, {} before", self.resident_before);
    }
}

/// What an attacking script printed.
pub fn endings(finished: &Finished) -> Vec<Ending> {
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let port = value["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        Ending { port: port.unwrap_or_default(), how: value["how"].as_str().unwrap_or_default().to_owned() }
    };
    finished.success().stdout.lines().map(line).collect()
}

/// Waits until the proxy's own count of connections is what `holds` wants.
pub fn connections(lab: &Lab, what: &str, holds: impl Fn(u64) -> bool) {
    eventually(what, || {
        let open = lab.json(&["status"])["proxy"]["connections_open"].as_u64()?;
        holds(open).then_some(())
    });
}
