//! The HTTP/2 conformance suite, through the proxy to a real server.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    netlab::{Lab, process::tektin_path},
    policies::{cnp, http_port},
};

/// What may fail, by section and title, and why.
const MAY_FAIL: &[(&str, &str, &str)] = &[(
    "http2/3.5",
    "Sends invalid connection preface",
    "octets that are no preface are taken as HTTP/1 and answered with 400, not with GOAWAY",
)];
/// Cases of the suite, and how many of them must pass.
const CASES: usize = 145;
const MUST_PASS: usize = 143;

/// Answered a while after the request's end: a case that sends something wrong on a stream must find it
/// open still, however slow the machine.
const LATE: &str = "/late/";

#[test]
fn http2_conforms() {
    let lab = Lab::new();
    let (web, client) = (lab.workload("web"), lab.workload("client"));
    lab.serve(&web.ns, &["http:8080"]);
    lab.nginx(&web.ns);
    lab.apply(&cnp("web", "web", &format!("ingress: [{{{}}}]", http_port(81, "{path: /.*}"))));
    let report = lab.dir().join("h2spec.xml");
    let mut command = client.ns.command(&h2spec().to_string_lossy());
    command.args(["-h", &web.v4.to_string(), "-p", "81", "-o", "5", "-P", LATE]).arg("-j").arg(&report);
    let finished = crate::netlab::process::run(command, Duration::from_secs(240));
    let text = std::fs::read_to_string(&report).unwrap_or_else(|e| panic!("no report ({e}): {finished:?}"));
    println!("{}", finished.stdout.lines().last().unwrap_or_default());

    let cases = Case::all(&text);
    assert_eq!(cases.len(), CASES, "{}", finished.stdout);
    let count = |outcome| cases.iter().filter(|case| case.outcome == outcome).count();
    let unexpected: Vec<_> = cases
        .iter()
        .filter(|case| case.outcome == Outcome::Failed && !case.may_fail())
        .map(|case| format!("{} {}: {}", case.section, case.title, case.detail))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(count(Outcome::Passed) >= MUST_PASS, "{}", finished.stdout);
    for case in cases.iter().filter(|case| case.outcome != Outcome::Passed) {
        println!("{:?}: {} {}", case.outcome, case.section, case.title);
    }
}

/// Where bootstrap.sh puts it: `tools` in the build directory.
fn h2spec() -> PathBuf {
    let built = tektin_path().ancestors().nth(2).expect("a build directory").join("tools/h2spec");
    assert!(built.exists(), "{} is missing: ./bootstrap.sh test builds it", built.display());
    built
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
    Failed,
}

#[derive(Debug)]
struct Case {
    section: String,
    title: String,
    outcome: Outcome,
    /// What was expected and what came; empty where it passed.
    detail: String,
}

impl Case {
    /// Of a JUnit report: `<testcase package="SECTION" classname="TITLE" …>` with what went wrong in it.
    fn all(report: &str) -> Vec<Self> {
        let mut cases = Vec::new();
        for piece in report.split("<testcase ").skip(1) {
            let (tag, inside) = piece.split_once('>').expect("an element");
            let attributes: BTreeMap<_, _> = tag
                .split("\" ")
                .filter_map(|attribute| attribute.split_once("=\""))
                .map(|(name, value)| (name.trim(), value.trim_end_matches(['"', '/'])))
                .collect();
            let inside = inside.split("</testcase>").next().unwrap_or_default();
            let outcome = match () {
                () if inside.contains("<skipped") => Outcome::Skipped,
                () if inside.contains("<failure") || inside.contains("<error") => Outcome::Failed,
                () => Outcome::Passed,
            };
            let attribute =
                |name| (*attributes.get(name).unwrap_or_else(|| panic!("no {name}: {tag}"))).to_owned();
            let (section, title) = (attribute("package"), attribute("classname"));
            cases.push(Self { section, title, outcome, detail: inside.trim().to_owned() });
        }
        cases
    }

    fn may_fail(&self) -> bool {
        MAY_FAIL.iter().any(|(section, title, _)| *section == self.section && *title == self.title)
    }
}
