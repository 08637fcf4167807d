//! What is wrong with a document is said, and the policy in force stays.

use crate::{
    netlab::{LIMIT, Lab, clients::url, eventually, workload::Workload},
    policies::{cnp, http_port},
};

/// A document that must be refused, and words that its refusal must have: which one, where, why.
struct Bad {
    what: &'static str,
    text: String,
    words: &'static [&'static str],
}

fn bad_documents() -> Vec<Bad> {
    let web = |sections: &str| cnp("web", "web", sections);
    let many: Vec<String> = (1..=41).map(|p| format!("{{port: \"{p}\", protocol: TCP}}")).collect();
    vec![
        Bad {
            what: "broken YAML",
            text: "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: web\nspec:\n  - ]\n"
                .into(),
            words: &["line"],
        },
        Bad {
            what: "an unknown field",
            text: web("ingress: [{fromEndpoint: [{matchLabels: {app: client}}]}]"),
            words: &["CiliumNetworkPolicy default/web", "spec.ingress[0].fromEndpoint", "unknown"],
        },
        Bad {
            what: "a bad regular expression",
            text: web(&format!("ingress: [{{{}}}]", http_port(80, "{path: \"/a(\"}"))),
            words: &["CiliumNetworkPolicy default/web", "spec.ingress[0].toPorts[0].rules.http[0].path"],
        },
        Bad {
            what: "a bad CIDR",
            text: web("ingress: [{fromCIDR: [10.0.0.0/8, 10.0.0.0/33]}]"),
            words: &["CiliumNetworkPolicy default/web", "spec.ingress[0].fromCIDR[1]", "33"],
        },
        Bad {
            what: "an exception outside its CIDR",
            text: web("ingress: [{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [192.168.0.0/16]}]}]"),
            words: &[
                "CiliumNetworkPolicy default/web",
                "spec.ingress[0].fromCIDRSet[0].except[0]",
                "192.168.0.0/16",
            ],
        },
        Bad {
            what: "41 ports",
            text: web(&format!("ingress: [{{toPorts: [{{ports: [{}]}}]}}]", many.join(", "))),
            words: &["CiliumNetworkPolicy default/web", "spec.ingress[0].toPorts[0].ports", "40"],
        },
        Bad {
            what: "rules that nothing enforces yet",
            text: web(
                "ingress: [{toPorts: [{ports: [{port: \"9092\", protocol: TCP}], rules: {l7proto: r2d2}}]}]",
            ),
            words: &[
                "CiliumNetworkPolicy default/web",
                "spec.ingress[0].toPorts[0].rules.l7proto",
                "not enforced yet",
            ],
        },
        Bad {
            what: "a good document beside a bad one",
            text: format!(
                "{}---\n{}",
                cnp("fine", "web", "ingress: [{}]"),
                web("ingress: [{fromCIDR: [nonsense]}]")
            ),
            words: &["CiliumNetworkPolicy default/web", "spec.ingress[0].fromCIDR[0]", "nonsense"],
        },
    ]
}

fn good() -> String {
    cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(80, "{path: /a}")))
}

#[track_caller]
fn the_good_policy_holds(web: &Workload, client: &Workload, after: &str) {
    for to in web.at(80) {
        for (path, status) in [("/a", 200), ("/b", 403)] {
            let reply = client.ns.curl(LIMIT, &url(to, path), &[]);
            assert_eq!(reply.status, status, "after {after}: {to}{path}");
        }
    }
}

#[track_caller]
fn says(text: &str, bad: &Bad) {
    for word in bad.words {
        assert!(text.contains(word), "{}: no {word:?} in:\n{text}", bad.what);
    }
}

#[test]
fn a_bad_document_changes_nothing_when_applied() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&good());
    let in_force = lab.json(&["policy", "get"]);
    for bad in bad_documents() {
        let refused = lab.try_apply(&bad.text);
        says(&refused.exit(1).stderr, &bad);
        assert!(refused.stderr.contains("apply-"), "the file is named: {}", refused.stderr);
        assert_eq!(lab.json(&["policy", "get"]), in_force, "after {}", bad.what);
        the_good_policy_holds(&web, &client, bad.what);
    }
}

#[test]
fn a_bad_document_changes_nothing_in_the_directory() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let file = lab.policy_dir().join("web.yaml");
    let error = || lab.json(&["status"])["policy"]["files"][0]["error"].as_str().map(str::to_owned);
    std::fs::write(&file, good()).expect("a policy file");
    eventually("the good file is in force", || {
        (client.ns.curl(LIMIT, &url(web.at(80)[0], "/b"), &[]).status == 403).then_some(())
    });
    for bad in bad_documents() {
        std::fs::write(&file, &bad.text).expect("a policy file");
        let said = eventually("the file is refused", error);
        says(&said, &bad);
        the_good_policy_holds(&web, &client, bad.what);
        std::fs::write(&file, good()).expect("a policy file");
        eventually("the file is good again", || error().is_none().then_some(()));
    }
}

#[test]
fn an_agent_that_starts_with_a_bad_file_keeps_the_last_good_one() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    lab.apply(&good());
    std::fs::write(lab.policy_dir().join("bad.yaml"), &bad_documents()[1].text).expect("a policy file");
    lab.kill_agent();
    lab.start_agent();
    the_good_policy_holds(&web, &client, "a start with a bad file");
    let status = lab.json(&["status"]);
    assert!(status["policy"]["files"][0]["error"].is_string(), "{status}");
}

/// Where the file itself is good, the copy is of no interest; where it is not, nobody knows what it closed, and
/// what is in force stays so.
#[test]
fn an_agent_with_a_damaged_copy_starts_from_the_good_file_or_not_at_all() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.nginx(&web.ns);
    let file = lab.policy_dir().join("web.yaml");
    let copy = lab.dir().join("state/policy-files/web.yaml");
    std::fs::write(&file, good()).expect("a policy file");
    eventually("the copy is there", || copy.exists().then_some(()));
    lab.kill_agent();
    std::fs::write(&copy, "spec: [").expect("damage");
    lab.start_agent();
    the_good_policy_holds(&web, &client, "a start with a damaged copy");
    let log = || std::fs::read_to_string(lab.agent_log()).expect("the agent's log");
    assert!(log().contains("the copy of its last good content is damaged"), "{}", log());
    eventually("the copy is made anew", || (std::fs::read_to_string(&copy).ok()? == good()).then_some(()));
    lab.kill_agent();
    std::fs::write(&copy, "spec: [").expect("damage");
    std::fs::write(&file, &bad_documents()[1].text).expect("a bad policy file");
    lab.spawn_agent();
    eventually("the agent ends", || lab.agent_has_ended().then_some(()));
    let said = log();
    let last = said.lines().rfind(|line| line.contains("policy-files/web.yaml")).expect("a last word");
    says(last, &bad_documents()[1]);
    the_good_policy_holds(&web, &client, "no start");
    std::fs::write(&file, good()).expect("a policy file");
    lab.start_agent();
    the_good_policy_holds(&web, &client, "the file is corrected");
}

/// As the kubelet writes a mounted ConfigMap: all files are links through one link, which is exchanged. What
/// else goes on in the directory must not put that off.
#[test]
fn files_that_are_links_through_an_exchanged_link_are_read_again() {
    use std::os::unix::fs::symlink;
    let lab = Lab::new();
    let directory = lab.policy_dir();
    let exchange = |version: &str, text: &str| {
        std::fs::create_dir(directory.join(version)).expect("a directory");
        std::fs::write(directory.join(version).join("web.yaml"), text).expect("a policy file");
        symlink(version, directory.join("..data_tmp")).expect("a link");
        std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("the link moves");
    };
    let in_force = |text: &str| {
        std::fs::write(directory.join("noise.txt"), "").expect("a file");
        lab.json(&["policy", "get"]).to_string().contains(text).then_some(())
    };
    exchange("..1", &cnp("web", "web", "ingress: [{fromEntities: [world]}]"));
    symlink("..data/web.yaml", directory.join("web.yaml")).expect("a link");
    eventually("the first version is in force", || in_force("world"));
    exchange("..2", &cnp("web", "web", "ingress: [{fromEntities: [cluster]}]"));
    eventually("the second version is in force", || in_force("cluster"));
}
