//! What becomes of the identities' numbers where their file is lost or an old one: the kernel's tables still carry
//! them, so none may stand for somebody else.

use std::{collections::BTreeMap, fs};

use crate::{
    netlab::{Lab, NODE_V4},
    policies::{cnp, port},
};

/// Numbers of endpoints by name, and of prefixes by their text.
fn numbers(lab: &Lab) -> BTreeMap<String, u64> {
    let mut numbers = BTreeMap::new();
    for (command, name, number) in [("endpoint", "name", "identity"), ("ipcache", "prefix", "identity")] {
        let list = lab.json(&[command, "list"]);
        for entry in list.as_array().expect("a list") {
            let name = entry[name].as_str().expect("a name").to_owned();
            numbers.insert(name, entry[number].as_u64().expect("a number"));
        }
    }
    numbers
}

/// No number that somebody had is another's now. Those below 256 always mean the same.
#[track_caller]
fn none_is_anothers(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, extra: &[u64]) {
    for (name, number) in after.iter().filter(|(_, number)| **number >= 256) {
        // A workload and its addresses have one number.
        let had: Vec<_> = before.iter().filter(|(_, old)| *old == number).map(|(name, _)| name).collect();
        assert!(had.is_empty() || had.contains(&name), "{name} has {number}, which was that of {had:?}");
        assert!(!extra.contains(number), "{name} has {number}, which policies of before knew");
    }
}

#[test]
fn a_number_that_the_kernel_carries_is_not_given_to_another() {
    let lab = Lab::new();
    let [web, client, foe] = ["web", "client", "foe"].map(|name| lab.workload(name));
    lab.serve(&web.ns, &["echo:7"]);
    let file = lab.policy_dir().join("web.yaml");
    let write = |prefix: &str| {
        let from = format!("{{fromEndpoints: [{{matchLabels: {{app: client}}}}], {}}}", port(7, "TCP"));
        fs::write(&file, cnp("web", "web", &format!("ingress: [{from}, {{fromCIDR: [{prefix}]}}]")))
            .expect("a policy file");
    };
    let holds = || {
        for to in web.at(7) {
            client.ns.expect_open(to);
            foe.ns.expect_silence(to);
        }
    };
    // No address has that prefix's number: it is the node's. Only the policy knows it.
    write(&format!("{NODE_V4}/32"));
    let known = lab.dir().join("state/identities.log");
    let line = |text: String| text.lines().find(|line| line.contains(NODE_V4)).map(str::to_owned);
    let hidden = crate::netlab::eventually("the prefix has a number", || {
        let line: serde_json::Value = serde_json::from_str(&line(fs::read_to_string(&known).ok()?)?).ok()?;
        line["prefix"]["id"].as_u64()
    });
    holds();
    let before = numbers(&lab);
    assert!(!before.values().any(|number| *number == hidden), "{before:?}");
    assert!(lab.json(&["map", "get", "peer_class"]).to_string().contains(&hidden.to_string()));

    lab.kill_agent();
    fs::write(&known, "").expect("the file is emptied");
    write("203.0.113.0/24");
    lab.start_agent();
    let after = numbers(&lab);
    none_is_anothers(&before, &after, &[hidden]);
    holds();

    // A file that says something else than the kernel.
    let [one, other] = ["client", "foe"].map(|name| format!("\"id\":{}", after[name]));
    let text = fs::read_to_string(&known).expect("the file");
    assert!(text.contains(&one) && text.contains(&other), "{text}");
    lab.kill_agent();
    let swapped = text.replace(&one, "\"id\":0").replace(&other, &one).replace("\"id\":0", &other);
    fs::write(&known, swapped).expect("the numbers are exchanged");
    lab.start_agent();
    none_is_anothers(&after, &numbers(&lab), &[]);
    holds();
}
