//! Endpoints from their first to their last day.

use std::collections::BTreeSet;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    netlab::{LIMIT, Lab, clients::Reach, clients::SILENCE, eventually},
    policies::cnp,
};

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(|e| e["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn added_listed_shown_and_deleted() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["echo:80"]);
    assert_eq!(names(&lab.json(&["endpoint", "list"])), BTreeSet::from(["client".into(), "web".into()]));
    let shown = lab.json(&["endpoint", "get", "web"]);
    assert_eq!(shown["ipv4"], web.v4.to_string());
    assert_eq!(shown["ipv6"], web.v6.to_string());
    assert_eq!(shown["namespace"], "default");
    assert_eq!(shown["state"]["state"], "ready", "{shown:#}");
    assert!(shown["labels"].to_string().contains("k8s:app=web"), "{shown:#}");
    let identity = shown["identity"].as_u64().expect("a number");
    assert!((256..=65535).contains(&identity), "{identity}");
    let known = lab.json(&["identity", "get", &identity.to_string()]);
    assert!(known["labels"].to_string().contains("k8s:app=web"), "{known:#}");
    let owner = |lab: &Lab| {
        let list = lab.json(&["ipcache", "list"]);
        let prefix = format!("{}/32", web.v4);
        list.as_array().into_iter().flatten().find(|e| e["prefix"] == prefix).map(|e| e["identity"].clone())
    };
    assert_eq!(owner(&lab), Some(identity.into()));
    for to in web.at(80) {
        client.ns.expect_open(to);
    }
    // The same name or the same namespace again is refused.
    lab.tektin(&["endpoint", "add", "web", "--netns", web.ns.name(), "--label", "app=web"]).exit(1);

    lab.tektin(&["endpoint", "delete", "web"]).success();
    lab.tektin(&["endpoint", "get", "web"]).exit(1);
    lab.tektin(&["endpoint", "delete", "web"]).exit(1);
    assert_eq!(owner(&lab), None);
    assert!(!web.ns.run("ip", &["link", "show", "eth0"]).stdout.contains("eth0"), "its device is gone");
    for to in web.at(80) {
        assert_ne!(client.ns.tcp(to, SILENCE), Reach::Answered);
    }
    // The namespace can be an endpoint again.
    lab.tektin(&["endpoint", "add", "web", "--netns", web.ns.name(), "--label", "app=web"]).success();
    let again = lab.addresses_of("web", web.ns.clone());
    for to in again.at(80) {
        client.ns.expect_open(to);
    }
}

#[test]
fn addresses_belong_to_one_at_a_time() {
    let lab = Lab::new();
    let workloads: Vec<_> = ["a", "b", "c"].map(|name| lab.workload(name)).into();
    let addresses: BTreeSet<_> = workloads.iter().flat_map(|w| w.addresses()).collect();
    assert_eq!(addresses.len(), 6, "all different");
    // An address that is free can be asked for, one in use cannot.
    let ns = lab.namespace("d");
    let add = |ip: &str| {
        lab.tektin(&["endpoint", "add", "d", "--netns", ns.name(), "--label", "app=d", "--ip", ip])
    };
    let refused = add(&workloads[0].v4.to_string());
    assert!(refused.exit(1).stderr.contains(&workloads[0].v4.to_string()), "{}", refused.stderr);
    assert!(!ns.ip(&["link", "show"]).contains("eth0"), "a refused endpoint leaves nothing behind");
    add("10.244.0.77").success();
    let d = lab.addresses_of("d", ns.clone());
    assert_eq!(d.v4.to_string(), "10.244.0.77");
    assert!(!addresses.contains(&d.v6.into()));
    // A restart does not forget who has what.
    lab.kill_agent();
    lab.start_agent();
    let e = lab.workload("e");
    assert!(e.addresses().iter().all(|ip| !addresses.contains(ip) && !d.addresses().contains(ip)), "{e:?}");
    lab.tektin(&["endpoint", "delete", "a"]).success();
    let ns = lab.namespace("f");
    lab.tektin(&[
        "endpoint",
        "add",
        "f",
        "--netns",
        ns.name(),
        "--label",
        "app=f",
        "--ip",
        &workloads[0].v4.to_string(),
    ])
    .success();
    assert_eq!(lab.addresses_of("f", ns).v4, workloads[0].v4, "free again");
}

#[test]
fn a_veth_that_exists_is_adopted() {
    let lab = Lab::new();
    let client = lab.workload("client");
    let ns = lab.namespace("adopted");
    lab.node.ip(&["link", "add", "tt0", "type", "veth", "peer", "name", "eth0", "netns", ns.name()]);
    let add = || {
        lab.tektin(&[
            "endpoint",
            "add",
            "adopted",
            "--netns",
            ns.name(),
            "--veth",
            "tt0",
            "--label",
            "app=adopted",
        ])
    };
    let refused = add();
    assert!(refused.exit(1).stderr.contains("no address"), "{}", refused.stderr);
    // What whoever made the pair (a container runtime) set up is used as it is.
    lab.node.ip(&["address", "add", "10.9.9.1/24", "dev", "tt0"]);
    lab.node.ip(&["address", "add", "fd00:9::1/64", "dev", "tt0", "nodad"]);
    lab.node.ip(&["link", "set", "tt0", "up"]);
    ns.ip(&["address", "add", "10.9.9.2/24", "dev", "eth0"]);
    ns.ip(&["address", "add", "fd00:9::2/64", "dev", "eth0", "nodad"]);
    ns.ip(&["link", "set", "eth0", "up"]);
    ns.ip(&["route", "add", "default", "via", "10.9.9.1"]);
    ns.ip(&["-6", "route", "add", "default", "via", "fd00:9::1"]);
    add().success();
    let adopted = lab.addresses_of("adopted", ns);
    assert_eq!(lab.json(&["endpoint", "get", "adopted"])["veth"], "tt0");
    lab.serve(&adopted.ns, &["echo:80"]);
    for to in adopted.at(80) {
        client.ns.expect_open(to);
    }
    lab.apply(&cnp("adopted", "adopted", "ingress: [{fromEndpoints: [{matchLabels: {app: nobody}}]}]"));
    for to in adopted.at(80) {
        client.ns.expect_silence(to);
    }
    lab.tektin(&["endpoint", "delete", "adopted"]).success();
    assert!(lab.node.ip(&["link", "show", "tt0"]).contains("tt0"), "what was adopted is not deleted");
}

/// The agent is killed while the proxy, which stands still, has not heard of it yet: the policy is still in
/// force then. What comes after that in a deletion is done by hand for one of the two.
#[test]
fn a_deletion_that_an_agent_does_not_survive_is_finished_by_the_next() {
    let lab = Lab::new();
    let client = lab.workload("client");
    for (name, device_is_gone) in [("early", false), ("late", true)] {
        let web = lab.workload(name);
        lab.serve(&web.ns, &["echo:7"]);
        client.ns.expect_open(web.at(7)[0]);
        let veth = lab.json(&["endpoint", "get", name])["veth"].as_str().expect("a name").to_owned();
        let proxies: Vec<Pid> = lab.proxies().into_iter().map(Pid::from_raw).collect();
        let signal = |signal| proxies.iter().for_each(|pid| kill(*pid, signal).expect("a signal"));
        signal(Signal::SIGSTOP);
        let unanswered = std::thread::scope(|scope| {
            let delete = scope.spawn(|| lab.tektin(&["endpoint", "delete", name]));
            let known = lab.dir().join("state/endpoints.json");
            eventually("the deletion has begun", || {
                std::fs::read_to_string(&known).ok()?.contains("\"leaving\": true").then_some(())
            });
            lab.kill_agent();
            delete.join().expect("the command ends")
        });
        assert_ne!(unanswered.code, Some(0), "{}", unanswered.stdout);
        if device_is_gone {
            lab.node.ip(&["link", "delete", &veth]);
        }
        signal(Signal::SIGCONT);
        lab.start_agent();
        assert_eq!(names(&lab.json(&["endpoint", "list"])), BTreeSet::from(["client".into()]));
        assert!(!lab.node.ip(&["link", "show"]).contains(&veth), "its device is gone");
        for map in ["ct", "steered", "ipcache"] {
            let dump = lab.json(&["map", "get", map]).to_string();
            assert!(!dump.contains(&web.v4.to_string()), "{map}: {dump}");
        }
        let known = std::fs::read_to_string(lab.dir().join("state/endpoints.json")).expect("the list");
        assert!(!known.contains(name), "{known}");
    }
}

#[test]
fn two_agents_live_side_by_side() {
    let (one, two) = (Lab::new(), Lab::new());
    let pairs = [&one, &two].map(|lab| {
        let (web, client) = (lab.workload("web"), lab.workload("client"));
        lab.serve(&web.ns, &["http:80"]);
        (web, client)
    });
    // The same names, the same addresses, and nothing to do with each other.
    assert_eq!(pairs[0].0.v4, pairs[1].0.v4);
    one.apply(&cnp("web", "web", "ingress: [{fromEndpoints: [{matchLabels: {app: nobody}}]}]"));
    for family in 0..2 {
        pairs[0].1.ns.expect_silence(pairs[0].0.at(80)[family]);
        pairs[1].1.ns.expect_status(200, pairs[1].0.at(80)[family], "/", &[]);
    }
    assert_eq!(two.json(&["policy", "get"]), Value::Array(Vec::new()));
    assert_eq!(two.json(&["endpoint", "list"]).as_array().map(Vec::len), Some(2));
    // A second agent of the same directories is refused, and the first goes on.
    let mut second = one.node.command(&crate::netlab::process::tektin_path().to_string_lossy());
    second.arg("agent");
    for (flag, path) in [("--state-dir", "state"), ("--run-dir", "run"), ("--policy-dir", "policies")] {
        second.arg(flag).arg(one.dir().join(path));
    }
    second.arg("--pin-dir").arg(one.pin_dir());
    let refused = crate::netlab::process::run(second, LIMIT);
    refused.exit(1);
    one.tektin(&["status"]).success();
}

#[test]
fn a_restart_restores_everything() {
    let lab = Lab::new();
    let (web, client, foe) = (lab.workload("web"), lab.workload("client"), lab.workload("foe"));
    lab.serve(&web.ns, &["http:80", "echo:81"]);
    let rule = crate::policies::http_port(80, "{path: /a}");
    lab.apply(&cnp("web", "web", &format!("ingress: [{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {rule}}}, {{fromCIDR: [198.18.0.2/32]}}]")));
    let state = || {
        let mut endpoints = lab.json(&["endpoint", "list"]);
        for endpoint in endpoints.as_array_mut().expect("a list") {
            endpoint["policy"]["revision"].take();
        }
        (
            endpoints,
            lab.json(&["policy", "get"]),
            lab.json(&["identity", "list"]),
            lab.json(&["ipcache", "list"]),
        )
    };
    let before = state();
    for end in [Lab::kill_agent, Lab::stop_agent] {
        end(&lab);
        lab.start_agent();
        assert_eq!(state(), before);
        for ip in web.addresses() {
            client.ns.expect_status(200, (ip, 80).into(), "/a", &[]);
            client.ns.expect_status(403, (ip, 80).into(), "/b", &[]);
            client.ns.expect_silence((ip, 81).into());
            foe.ns.expect_silence((ip, 80).into());
        }
        lab.world.expect_open((web.v4, 81).into());
    }
}
