//! Ten thousand connections that ask once and then for nothing.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::{
    netlab::eventually,
    siege::{Siege, connections},
};

/// Or as many as the proxy's limit of open files lets in: three of five are for clients. Where there are
/// not twice as many files, connections to the server go while nobody asks for anything.
const COUNT: usize = 10_000;

fn count(siege: &Siege) -> usize {
    let limits =
        std::fs::read_to_string(format!("/proc/{}/limits", siege.proxy())).expect("limits of the proxy");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    let files: usize = line.split_whitespace().next().and_then(|soft| soft.parse().ok()).expect("a number");
    COUNT.min((files - 256) * 3 / 5 * 9 / 10)
}

/// The clients: opens all, asks once on each and again on the first ones, says so, and waits until all are
/// closed from the other side.
const CLIENTS: &str = r"
import resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
to, count = (sys.argv[1], 80), int(sys.argv[2])
def ask(some):
    for s in some:
        s.sendall(b'GET / HTTP/1.1\r\nHost: web\r\n\r\n')
    return sum(s.recv(65536).startswith(b'HTTP/1.1 200') for s in some)
all, answered = [], 0
while len(all) < count:
    some = [socket.create_connection(to, timeout=60) for _ in range(min(100, count - len(all)))]
    answered += ask(some)
    all += some
poll, open = select.epoll(), {s.fileno(): s for s in all}
print('open', len(open), 'answered', answered, 'again', ask(all[:100]), flush=True)
for s in all:
    poll.register(s, select.EPOLLIN | select.EPOLLRDHUP)
del all
while open:
    events = poll.poll(60)
    if not events:
        break
    for fd, _ in events:
        poll.unregister(fd)
        open.pop(fd).close()
print('left', len(open), flush=True)
";

#[test]
fn ten_thousand_idle_connections() {
    // Long enough for a slow machine to open them all; the records' ring has room for all their ends.
    let siege = Siege::new(&["idle-time=30s"], &[80, 81]);
    let count = count(&siege);
    let before = siege.proxy_memory("VmRSS");
    let file = siege.lab.dir().join("idle.py");
    std::fs::write(&file, CLIENTS).expect("a script");
    let mut command = siege.attacker.ns.command("python3");
    command.arg(&file).args([siege.web.v4.to_string(), count.to_string()]);
    let mut clients =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("nsenter starts python3");
    let mut said = BufReader::new(clients.stdout.take().expect("a pipe")).lines();
    let mut line = || said.next().expect("a line").expect("text");
    assert_eq!(line(), format!("open {count} answered {count} again 100"));
    let mut witness = siege.connected();
    siege.witness_asks(&mut witness);
    let during = siege.proxy_memory("VmRSS");
    let each = during.saturating_sub(before) / count;
    println!(
        "{count} idle connections: {} kB before, {} kB with them, {each} octets each",
        before >> 10,
        during >> 10
    );
    siege.assert_bounded(150 << 20);
    assert_eq!(line(), "left 0");
    clients.wait().expect("python3 ends");
    siege.witness_asks(&mut witness);
    drop(witness);
    connections(&siege.lab, "none is left in the proxy", |open| open == 0);
    eventually("each end has a record", || {
        let records = siege.observed(&["--verdict", "refused"]);
        let ended = records.iter().filter(|r| r["reason"] == "idle for too long").count();
        let lost = siege.lab.json(&["status"])["flows"]["lost_proxy"].as_u64().expect("a count");
        (ended + usize::try_from(lost).expect("a small count") == count).then_some(())
    });
}
