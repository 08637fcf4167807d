//! The lab, and how a case is played on it: an address of its own for each, so that every octet and
//! every record belongs to one case.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    cases::{Case, Saw},
    client::{Exchange, connect, exchange},
    policy,
    recorder::{Connection, Recorder},
    report::Report,
};
use crate::netlab::{Lab, eventually, workload::Workload};

/// How many clients talk at once.
const AT_ONCE: usize = 12;

pub struct Stage {
    pub lab: Lab,
    pub web: Workload,
    pub recorder: Recorder,
    next: AtomicU16,
}

/// What the flow records say, by the client's address.
pub type Records = HashMap<IpAddr, Vec<String>>;

/// A case that was played.
pub struct Played<'a> {
    pub case: &'a Case,
    pub from: IpAddr,
    pub exchange: Exchange,
}

impl Stage {
    pub fn set_up() -> Self {
        let lab = Lab::new();
        let web = lab.workload("web");
        // Any address of these is the outside host's own.
        lab.world.ip(&["route", "add", "local", "198.19.0.0/16", "dev", "lo"]);
        lab.world.ip(&["-6", "route", "add", "local", "2001:db8:19::/64", "dev", "lo"]);
        let recorder = Recorder::start(&web.ns, policy::PORT);
        policy::apply(&lab);
        Self { lab, web, recorder, next: AtomicU16::new(1) }
    }

    /// A client's address that nobody had, of either family in turn.
    pub fn address(&self) -> IpAddr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        if number.is_multiple_of(2) {
            [198, 19, high, low].into()
        } else {
            [0x2001, 0xdb8, 0x19, 0, 0, 0, 0, number].into()
        }
    }

    /// Where a client of this address finds the server.
    pub fn server(&self, from: IpAddr, port: u16) -> std::net::SocketAddr {
        self.web.at(port)[usize::from(from.is_ipv6())]
    }

    /// Plays all cases and compares what came of them with what the tables say.
    pub fn run(&self, cases: &[Case], report: &mut Report) {
        let played = self.play(cases);
        self.settle();
        let expected: Vec<_> = played.iter().map(|one| (one.from, one.case.records.len())).collect();
        let records = self.records(&expected);
        for one in &played {
            report.case(one, &self.recorder.connections(one.from), &records);
        }
    }

    fn play<'a>(&self, cases: &'a [Case]) -> Vec<Played<'a>> {
        self.each(cases, |case, from| {
            self.recorder.expect(from, case.script.clone());
            let stream = connect(from, self.server(from, policy::PORT));
            Played { case, from, exchange: exchange(stream, &case.pieces()) }
        })
    }

    /// Plays cases inside the clients' namespace, several at once, each from an address of its own.
    pub fn each<'a, C: Sync, P: Send>(
        &self,
        cases: &'a [C],
        play: impl Fn(&'a C, IpAddr) -> P + Sync,
    ) -> Vec<P> {
        let next = AtomicUsize::new(0);
        let played = Mutex::new(Vec::new());
        let client = || {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let one = play(case, self.address());
                played.lock().expect("no poisoning").push(one);
            }
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..AT_ONCE).map(|_| scope.spawn(|| self.lab.world.inside(client))).collect();
            for client in clients {
                client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        played.into_inner().expect("no poisoning")
    }

    /// Waits until the server has all that any case before sent. A connection that comes now is
    /// accepted after theirs.
    pub fn settle(&self) {
        let from = self.address();
        let to = self.server(from, policy::PORT);
        let last = self
            .lab
            .world
            .inside(|| exchange(connect(from, to), &[b"GET /public/last HTTP/1.1\r\nHost: web\r\n\r\n"]));
        assert_eq!(last.responses(false).iter().map(|r| r.status).collect::<Vec<_>>(), [200]);
        eventually("all connections to the server have ended", || {
            self.recorder.all().iter().all(|(_, connection)| connection.ended).then_some(())
        });
    }

    /// `VERDICT` or `VERDICT: REASON` of each request, by the client's address; once each of these
    /// clients has so many, or none of them comes any more.
    pub fn records(&self, expected: &[(IpAddr, usize)]) -> Records {
        let is_whole = |records: &Records| {
            expected.iter().all(|(from, count)| records.get(from).map_or(0, Vec::len) >= *count)
        };
        let mut records = self.records_now();
        // What is missing in the end is for the report to say.
        for _ in 0..40 {
            if is_whole(&records) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            records = self.records_now();
        }
        records
    }

    fn records_now(&self) -> Records {
        let shown = self.lab.tektin(&["observe", "--layer", "l7", "--last", "16000", "--output", "json"]);
        shown.success();
        let mut records = Records::new();
        for line in shown.stdout.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let (verdict, reason) = (text(&record["verdict"]), text(&record["reason"]));
            let said = if reason.is_empty() { verdict } else { format!("{verdict}: {reason}") };
            let from = text(&record["source"]["ip"]).parse().expect("an address");
            records.entry(from).or_default().push(said);
        }
        records
    }
}

/// Whether the connections together hold what the case says.
pub fn is_as_said(saw: &Saw, connections: &[Connection]) -> bool {
    let all: Vec<u8> = connections.iter().flat_map(|one| one.octets.iter().copied()).collect();
    match saw {
        Saw::Exactly(octets) => {
            all == *octets || in_one_chunk(&all).is_some_and(|one| Some(one) == in_one_chunk(octets))
        }
        Saw::BeginningOf(whole) => whole.starts_with(&all) && all.len() < whole.len(),
    }
}

/// The message with its chunks made one.
fn in_one_chunk(message: &[u8]) -> Option<Vec<u8>> {
    let body = message.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let (mut data, mut at) = (Vec::new(), body);
    loop {
        let line = message[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&message[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        if size == 0 {
            let head = &message[..body];
            let size = format!("{:x}\r\n", data.len());
            return Some([head, size.as_bytes(), &data, b"\r\n0\r\n", &message[at..]].concat());
        }
        data.extend_from_slice(message.get(at..at + size)?);
        at += size + 2;
    }
}
