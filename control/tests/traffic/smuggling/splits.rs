//! One stream, cut everywhere: how TCP carries it must not change what it means.

use super::{
    cases::{Case, Saw, octets},
    recorder::Script,
};

/// Allowed, denied and refused, on one connection.
const HEADS: &str = "{allowed}{hidden}GET /public/a HTTP/1.1\r\nHost : web\r\n\r\n";
/// A body whose framing is cut as well, and a denied request right behind it.
const CHUNKS: &str = "POST /public/a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
    3;x=\"y;\"\r\nabc\r\n0a\r\n0123456789\r\n0\r\nT: 1\r\n\r\n{hidden}";
const CHUNKS_JUDGED: &str = "POST /public/a HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n\
    d\r\nabc0123456789\r\n0\r\n\r\n";

/// Both streams whole, cut in two at each octet, and octet by octet.
pub fn cases() -> Vec<Case> {
    let heads = || Case {
        name: String::new(),
        send: octets(HEADS),
        cuts: Vec::new(),
        statuses: vec![200, 403, 400],
        bodies: None,
        saw: Saw::Exactly(octets("{judged}")),
        records: ["forwarded", "denied", "refused: space before the colon of a header"]
            .map(str::to_owned)
            .to_vec(),
        script: Script::default(),
    };
    let chunks = || Case {
        send: octets(CHUNKS),
        statuses: vec![200, 403],
        saw: Saw::Exactly(octets(CHUNKS_JUDGED)),
        records: ["forwarded", "denied"].map(str::to_owned).to_vec(),
        ..heads()
    };
    let mut all = everywhere("heads", &heads);
    all.extend(everywhere("chunks", &chunks));
    all
}

fn everywhere(what: &str, stream: &dyn Fn() -> Case) -> Vec<Case> {
    let length = stream().send.len();
    let mut cuts: Vec<Vec<usize>> = (1..length).map(|at| vec![at]).collect();
    cuts.push((1..length).collect());
    cuts.push(Vec::new());
    cuts.into_iter()
        .map(|cuts| Case {
            name: format!("{what} cut at {:?}", &cuts[..cuts.len().min(4)]),
            cuts,
            ..stream()
        })
        .collect()
}
