//! Peers over HTTP/1 that are slow, deaf or endless, at either side, or gone without a word.

use std::time::Duration;

use crate::{
    netlab::{LIMIT, clients::ask, eventually, process},
    siege::{Attack, Siege, connections},
};

const LIMITS: &[&str] = &[
    "head-time=3s",
    "first-octet-time=3s",
    "idle-time=3s",
    "stall-time=3s",
    "response-time=5s",
    "stream-idle-time=3s",
    "linger-time=500ms",
];

const SERVED: u16 = 80;
/// `/big/N` is large.
const LARGE: u16 = 82;
const DEAF: u16 = 83;
const SILENT: u16 = 84;
const EARLY: u16 = 85;
const HALF: u16 = 86;

const fn h1(name: &'static str, port: u16, reasons: &'static [&'static str]) -> Attack {
    Attack { script: "http1.py", name, port, connections: 4, reasons }
}

const CLIENTS: &[Attack] = &[
    h1("silent", SERVED, &["no request within the time limit"]),
    h1("slow_head", SERVED, &["request head not complete in time"]),
    h1("stopped_head", SERVED, &["request head not complete in time"]),
    h1("slow_preface", SERVED, &["no request within the time limit"]),
    h1("stopped_body", SILENT, &["request body stalled"]),
    h1("never_continued", SILENT, &["request body stalled"]),
    h1("stopped_chunk", SILENT, &["request body stalled"]),
    h1("endless_head", SERVED, &["request head too large", "too many headers"]),
    h1("endless_line", SERVED, &["request head too large"]),
    h1("endless_trailers", SILENT, &["request head too large", "too many headers"]),
    h1("endless_extension", SILENT, &["chunk size line too long"]),
    h1("unread", LARGE, &["client does not read"]),
    h1("pipelined_unread", LARGE, &["client does not read"]),
    h1("idle", SERVED, &["idle for too long"]),
];

const SERVERS: &[Attack] = &[
    h1("patient", DEAF, &["no response within"]),
    h1("patient", EARLY, &["no response within"]),
    h1("patient", HALF, &["the server sends nothing any more"]),
    h1("upload", DEAF, &["no response within", "request body stalled"]),
];

fn siege(limits: &[&str]) -> Siege {
    let siege = Siege::new(limits, &[SERVED, 81, LARGE, DEAF, SILENT, EARLY, HALF]);
    siege.lab.serve(&siege.web.ns, &[&format!("http:{LARGE}")]);
    let servers = [("deaf", DEAF), ("silent", SILENT), ("early", EARLY), ("half", HALF)];
    let words = servers.map(|(kind, port)| format!("{kind}:{port}"));
    siege.serve(&words.each_ref().map(String::as_str));
    siege
}

#[test]
fn slow_deaf_and_endless_peers_end_with_a_reason_and_harm_nobody() {
    let siege = siege(LIMITS);
    siege.withstand(CLIENTS);
    siege.withstand(SERVERS);
}

#[test]
fn a_peer_that_vanishes_is_forgotten() {
    let siege = siege(LIMITS);
    let to = |port| siege.web.at(port)[0];
    let open = |port| siege.attacker.ns.connect(to(port), LIMIT).expect("a connection");
    let mut head = open(SERVED);
    let mut body = open(SILENT);
    let mut download = open(LARGE);
    let mut kept = open(SERVED);
    assert_eq!(ask(&mut kept, "/", LIMIT).expect("an answer"), Some(200));
    let write = |stream: &mut std::net::TcpStream, text: &str| {
        std::io::Write::write_all(stream, text.as_bytes()).expect("sent");
        stream.local_addr().expect("an address").port()
    };
    let ports = [
        (write(&mut head, "GET / HT"), "request head not complete in time"),
        (
            write(&mut body, "PUT / HTTP/1.1\r\nHost: lab\r\nContent-Length: 9\r\n\r\nx"),
            "request body stalled",
        ),
        (write(&mut download, "GET /big/900000000 HTTP/1.1\r\nHost: lab\r\n\r\n"), "client does not read"),
        (kept.local_addr().expect("an address").port(), "idle for too long"),
    ];
    // Not a FIN, not an RST, not an ICMP error: nothing comes any more.
    siege.attacker.ns.ip(&["link", "set", "eth0", "down"]);
    let mut witness = siege.connected();
    for (port, reason) in ports {
        eventually(&format!("a record of port {port}: {reason}"), || {
            siege.witness_asks(&mut witness);
            siege.records(port).iter().any(|r| r["reason"].as_str() == Some(reason)).then_some(())
        });
    }
    drop(witness);
    connections(&siege.lab, "the proxy holds none of them", |open| open == 0);
}

/// SYNs whose SYN-ACK is never answered: half-open connections that the listener's queue holds.
const SYNS: &str = r"
import random, socket, struct, sys
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
def checksum(octets):
    total = sum(struct.unpack('>%dH' % (len(octets) // 2), octets))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
addresses = socket.inet_aton(source) + socket.inet_aton(target)
for number in range(20000):
    fields = [20000 + number % 40000, port, random.getrandbits(32), 0, 0x50, 2, 65535]
    pack = lambda check: struct.pack('>HHIIBBHHH', *fields, check, 0)
    check = checksum(addresses + struct.pack('>HH', 6, 20) + pack(0))
    s.sendto(pack(check), (target, 0))
print('sent', number + 1)
";

#[test]
fn half_open_connections_keep_nobody_out() {
    let siege = Siege::new(&[], &[SERVED, 81]);
    // The kernel would answer the SYN-ACKs with RST.
    let rule = "tcp flags & (syn|ack) == (syn|ack) drop";
    let chain = format!("type filter hook input priority 0\n{rule}");
    let ruleset = format!("table inet mute {{\nchain in {{\n{chain}\n}}\n}}");
    siege.attacker.ns.run("nft", &[&ruleset]).success();
    let mut witness = siege.connected();
    for _ in 0..2 {
        let source = siege.attacker.v4.to_string();
        let arguments = [&source, &siege.web.v4.to_string(), "80"].map(String::from);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let sent = crate::scripts::python(&siege.lab, &siege.attacker.ns, SYNS, &arguments);
        assert_eq!(sent.success().stdout.trim(), "sent 20000");
        siege.witness_asks(&mut witness);
    }
    siege.assert_bounded(crate::siege::MEMORY);
}

#[test]
fn one_workload_does_not_take_all_connections() {
    let limits = ["connections-per-source=100", "first-octet-time=10s"];
    let siege = Siege::new(&limits, &[SERVED, 81]);
    let mut command = siege.attacker.ns.command("python3");
    command.arg(Siege::script("http1.py")).args(["silent", &siege.web.v4.to_string(), "80", "1500"]);
    let mut witness = siege.connected();
    let endings = std::thread::scope(|scope| {
        let attack = scope.spawn(|| crate::siege::endings(&process::run(command, Duration::from_secs(120))));
        while !attack.is_finished() {
            siege.witness_asks(&mut witness);
        }
        attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let refused = eventually("a record of each", || {
        let records = siege.observed(&["--verdict", "refused"]);
        let of = |reason: &str| {
            records.iter().filter(|r| r["reason"].as_str().is_some_and(|r| r.contains(reason))).count()
        };
        let (refused, silent) =
            (of("too many connections of one source: 100 a thread"), of("no request within"));
        (refused + silent == endings.len()).then_some(refused)
    });
    println!("{refused} of {} connections refused", endings.len());
    // 100 on each thread at a time; on a slow machine the first have ended before the last come.
    assert!(refused >= 300, "{refused}");
    // It is not held against the workload.
    siege.attacker.ns.expect_status(200, siege.web.at(80)[0], "/", &[]);
}
