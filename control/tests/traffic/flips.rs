//! Policies change again and again while packets and requests go through: what both the old and the
//! new one allow always passes, what both deny never does.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    netlab::{Lab, clients::KeepAlive, eventually, workload::Workload},
    policies::{cnp, http_port},
};

const ALLOWED: u16 = 7000;
const DENIED: u16 = 7001;
/// How long policies change.
const CHANGING: Duration = Duration::from_secs(3);
/// Flows that packets go through over and over; as many again are new with each round.
const FLOWS: usize = 16;
/// So many requests at the least.
const REQUESTS: u32 = 36;

/// Two ways to allow UDP port [`ALLOWED`] and not [`DENIED`], with rules that come and go beside it:
/// other classes, other ranges, other deciding rules.
fn udp_policies() -> [String; 3] {
    let rule = |from: &str, ports: &str| format!("{{{from} toPorts: [{{ports: [{ports}]}}]}}");
    let port = |first: u16, last: u16| format!("{{port: \"{first}\", endPort: {last}, protocol: UDP}}");
    let client = "fromEndpoints: [{matchLabels: {app: client}}],";
    let narrow = rule(client, &port(ALLOWED, ALLOWED));
    let wide = rule(client, &port(ALLOWED - 9, ALLOWED));
    let more = rule("fromCIDR: [192.0.2.0/24, 198.51.100.0/24],", &port(DENIED, DENIED));
    let everybody = rule("", &port(ALLOWED, ALLOWED));
    let policy = |ingress: &[&String]| {
        let rules: Vec<&str> = ingress.iter().map(|rule| rule.as_str()).collect();
        cnp("web", "web", &format!("ingress: [{}]", rules.join(", ")))
    };
    [policy(&[&narrow]), policy(&[&more, &wide]), policy(&[&everybody, &more])]
}

/// Puts one content after the other in the watched directory, `None` being no file, until `is_over`.
fn flip(lab: &Lab, contents: &[Option<String>], is_over: impl Fn() -> bool) {
    let path = lab.policy_dir().join("flip.yaml");
    let hidden = lab.policy_dir().join(".flip.tmp");
    let mut flips = 0;
    for content in contents.iter().cycle() {
        match content {
            Some(text) => {
                fs::write(&hidden, text).expect("write a policy");
                fs::rename(&hidden, &path).expect("put a policy in place");
            }
            None => fs::remove_file(&path).expect("remove a policy"),
        }
        flips += 1;
        // Some changes meet the one before half way.
        thread::sleep(Duration::from_millis(5 + 7 * (flips as u64 % 5)));
        if is_over() {
            break;
        }
    }
}

/// Over after [`CHANGING`].
fn for_a_while() -> impl Fn() -> bool {
    let end = Instant::now() + CHANGING;
    move || Instant::now() > end
}

fn revision(lab: &Lab) -> u64 {
    let status = lab.tektin(&["status", "--output", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("a status");
    status["policy"]["revision"].as_u64().expect("a revision")
}

/// Sends numbered packets to both ports while `change` runs, from flows that stand and from new ones.
/// Returns how many were sent to each, and the numbers that came to each.
fn send_meanwhile(
    (web, client): (&Workload, &Workload),
    change: impl FnOnce() + Send,
) -> (u32, [Vec<u32>; 2]) {
    let bind = |port: u16| {
        let socket = UdpSocket::bind(("0.0.0.0", port)).expect("a UDP socket");
        socket.set_nonblocking(true).expect("not to wait");
        socket
    };
    let ports = [ALLOWED, DENIED];
    let servers = web.ns.inside(|| ports.map(bind));
    let to: Vec<SocketAddr> = ports.iter().map(|port| web.at(*port)[0]).collect();
    let standing: Vec<UdpSocket> = client.ns.inside(|| (0..FLOWS).map(|_| bind(0)).collect());
    let done = AtomicBool::new(false);
    let mut came = [Vec::new(), Vec::new()];
    let receive = |came: &mut [Vec<u32>; 2]| {
        for (server, came) in servers.iter().zip(came) {
            let mut number = [0; 4];
            while server.recv(&mut number).is_ok() {
                came.push(u32::from_be_bytes(number));
            }
        }
    };
    let sent = thread::scope(|scope| {
        scope.spawn(|| {
            change();
            done.store(true, Ordering::Release);
        });
        let mut sent = 0u32;
        while !done.load(Ordering::Acquire) {
            let new: Vec<UdpSocket> = client.ns.inside(|| (0..FLOWS).map(|_| bind(0)).collect());
            for socket in standing.iter().chain(&new) {
                for to in &to {
                    // A refusal of an earlier packet's port is told here; this one is sent all the same.
                    let sending = || socket.send_to(&sent.to_be_bytes(), to).ok();
                    (0..100).find_map(|_| sending()).expect("a packet sent");
                }
                sent += 1;
            }
            receive(&mut came);
            thread::sleep(Duration::from_millis(2));
        }
        sent
    });
    eventually("all packets have come", || {
        receive(&mut came);
        (came[0].len() as u32 >= sent).then_some(())
    });
    thread::sleep(Duration::from_millis(100));
    receive(&mut came);
    (sent, came)
}

#[test]
fn a_packet_that_old_and_new_policy_allow_always_passes() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    let policies = udp_policies();
    let path = lab.policy_dir().join("flip.yaml");
    fs::write(&path, &policies[0]).expect("write a policy");
    eventually("the policy is in force", || {
        let shown = lab.tektin(&["endpoint", "get", &web.name, "--output", "json"]).stdout;
        shown.contains("CiliumNetworkPolicy default/web").then_some(())
    });
    let before = revision(&lab);

    // From policy to policy.
    let contents = policies.clone().map(Some);
    let (sent, [allowed, denied]) = send_meanwhile((&web, &client), || {
        flip(&lab, &contents, for_a_while());
    });
    assert_eq!(allowed.len(), sent as usize, "of {sent} packets that both policies allow");
    assert_eq!(denied, [0u32; 0], "of {sent} packets that both policies deny");
    let changes = revision(&lab) - before;
    assert!(changes > 20, "{changes} changes were put in force");

    // Between a policy and none, which allows everything.
    fs::write(&path, &policies[1]).expect("write a policy");
    let contents = [None, Some(policies[0].clone()), None, Some(policies[2].clone())];
    let (sent, [allowed, denied]) = send_meanwhile((&web, &client), || {
        flip(&lab, &contents, for_a_while());
    });
    assert_eq!(allowed.len(), sent as usize, "of {sent} packets that are allowed with a policy and without");
    assert!(!denied.is_empty() && denied.len() < sent as usize, "{} of {sent}", denied.len());
}

#[test]
fn a_request_that_old_and_new_policy_allow_always_passes() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let policy = |rules: &str| cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, rules)));
    let contents = [
        Some(policy("{path: /a}")),
        Some(policy("{path: /x}, {path: /a, method: GET}")),
        Some(policy("{path: \"/a?\"}")),
    ];
    fs::write(lab.policy_dir().join("flip.yaml"), contents[0].as_ref().expect("a policy")).expect("write it");
    let to = web.at(80)[0];
    eventually("the policy is in force", || {
        (client.ns.curl(Duration::from_secs(5), &format!("http://{to}/b"), &[]).status == 403).then_some(())
    });
    let before = revision(&lab);
    let done = AtomicBool::new(false);
    let requests = thread::scope(|scope| {
        scope.spawn(|| flip(&lab, &contents, || done.load(Ordering::Acquire)));
        let _over = Over(&done);
        let mut kept = KeepAlive::connect(&lab, &client.ns, to);
        let mut requests = 0;
        let while_changing = for_a_while();
        while requests < REQUESTS || !while_changing() {
            let mut new = KeepAlive::connect(&lab, &client.ns, to);
            for connection in [&mut kept, &mut new] {
                for (path, status) in [("/a", "200 "), ("/b", "403 "), ("/a", "200 ")] {
                    let answer = connection.request("GET", path);
                    assert!(answer.starts_with(status), "{path}: {answer}");
                    requests += 1;
                }
            }
        }
        requests
    });
    let changes = revision(&lab) - before;
    assert!(changes > 20, "{changes} changes while {requests} requests were made");
}

/// Tells the other thread that it is over, also where a check fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
