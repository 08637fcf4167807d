//! The tables of `testdata/smuggling`, whose README says what a case is.

use std::path::PathBuf;

use serde::Deserialize;

use super::recorder::{Answer, Script};

/// A request that is allowed, and what the server gets of it.
const ALLOWED: &str = "GET /public/a HTTP/1.1\r\nHost: web\r\n\r\n";
const JUDGED: &str = "GET /public/a HTTP/1.1\r\nhost: web\r\n\r\n";
/// A request that is denied wherever it stands.
const HIDDEN: &str = "GET /secret HTTP/1.1\r\nHost: web\r\n\r\n";
/// What the record of a denied request says.
const NO_RULE: &str = "denied";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    send: Option<String>,
    target: Option<String>,
    line: Option<String>,
    fields: Option<String>,
    post: Option<String>,
    chunks: Option<String>,
    status: Vec<u16>,
    reason: Option<String>,
    records: Option<Vec<String>>,
    saw: Option<String>,
    path: Option<String>,
    begins: Option<String>,
    bodies: Option<Vec<String>>,
    #[serde(default)]
    early: String,
    #[serde(default)]
    answers: Vec<String>,
    #[serde(default)]
    closes: bool,
}

/// One case, spelt out.
pub struct Case {
    pub name: String,
    pub send: Vec<u8>,
    /// Where the octets are cut into segments.
    pub cuts: Vec<usize>,
    /// Of the responses, in order; none: the connection ends without a word.
    pub statuses: Vec<u16>,
    pub bodies: Option<Vec<Vec<u8>>>,
    pub saw: Saw,
    /// `VERDICT` or `VERDICT: REASON`, in order.
    pub records: Vec<String>,
    pub script: Script,
}

/// What the server must have got, over all connections of a case.
#[derive(Debug)]
pub enum Saw {
    /// This; a chunked body may be cut into chunks in any way.
    Exactly(Vec<u8>),
    /// The beginning of this, which is no whole request.
    BeginningOf(Vec<u8>),
}

impl Case {
    /// The octets, a segment each.
    pub fn pieces(&self) -> Vec<&[u8]> {
        let (mut rest, mut at, mut pieces) = (&self.send[..], 0, Vec::new());
        for cut in &self.cuts {
            let (piece, behind) = rest.split_at(cut - at);
            pieces.push(piece);
            (rest, at) = (behind, *cut);
        }
        pieces.push(rest);
        pieces
    }
}

/// All HTTP/1 cases.
pub fn http1() -> Vec<Case> {
    ["targets", "request-lines", "fields", "framing", "chunks", "streams", "responses"]
        .into_iter()
        .flat_map(read)
        .collect()
}

fn read(file: &str) -> Vec<Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/smuggling/{file}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<Line> =
        serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    lines.into_iter().map(|line| line.spell_out(file)).collect()
}

impl Line {
    fn spell_out(self, file: &str) -> Case {
        let name = format!("{file}: {}", self.name);
        let forms = [
            self.send,
            self.target.map(|target| format!("GET {target} HTTP/1.1\r\nHost: web\r\n\r\n")),
            self.line.map(|line| format!("{line}\r\nHost: web\r\n\r\n")),
            self.fields.map(|fields| format!("GET /public/a HTTP/1.1\r\n{fields}\r\n\r\n")),
            self.post.map(|rest| format!("POST /public/a HTTP/1.1\r\nHost: web\r\n{rest}")),
            self.chunks.map(|chunks| {
                format!("POST /public/a HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
            }),
        ];
        let mut forms = forms.into_iter().flatten();
        let send = forms.next().unwrap_or_else(|| panic!("{name}: nothing to send"));
        assert!(forms.next().is_none(), "{name}: two things to send");
        let path = self.path.map(|path| format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n"));
        let saw = match (self.saw.or(path), self.begins) {
            (Some(saw), None) => Saw::Exactly(octets(&saw)),
            (None, Some(whole)) => Saw::BeginningOf(octets(&whole)),
            (None, None) => Saw::Exactly(Vec::new()),
            (Some(_), Some(_)) => panic!("{name}: saw and begins"),
        };
        let records = self.records.unwrap_or_else(|| records(&name, &self.status, self.reason.as_deref()));
        let answer = |text: &String| Answer { octets: octets(text), closes: self.closes };
        Case {
            send: octets(&send),
            cuts: Vec::new(),
            statuses: self.status,
            bodies: self.bodies.map(|bodies| bodies.iter().map(|body| octets(body)).collect()),
            saw,
            records,
            script: Script { early: octets(&self.early), answers: self.answers.iter().map(answer).collect() },
            name,
        }
    }
}

/// What the flow records of a case must say where the table does not spell it out.
pub fn records(name: &str, statuses: &[u16], reason: Option<&str>) -> Vec<String> {
    let reason = || reason.unwrap_or_else(|| panic!("{name}: a refusal without a reason"));
    let mut records = Vec::new();
    for status in statuses {
        match status {
            100..=199 => {}
            200..=399 => records.push("forwarded".to_owned()),
            403 => records.push(NO_RULE.to_owned()),
            400..=499 => records.push(format!("refused: {}", reason())),
            _ => records.push(format!("error: {}", reason())),
        }
    }
    if statuses.is_empty() {
        records.push(format!("refused: {}", reason()));
    }
    records
}

/// A character is an octet (so `\xff` is one); `{name}` stands for a text, `{x*5}` for `xxxxx`.
pub fn octets(text: &str) -> Vec<u8> {
    let text = text.replace("{allowed}", ALLOWED).replace("{judged}", JUDGED).replace("{hidden}", HIDDEN);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        out.extend(before.chars().map(octet));
        let repeated = after.split_once('}').and_then(|(inside, behind)| {
            let (piece, times) = inside.rsplit_once('*')?;
            Some((piece, times.parse::<usize>().ok()?, behind))
        });
        if let Some((piece, times, behind)) = repeated {
            let piece: Vec<u8> = piece.chars().map(octet).collect();
            out.extend(piece.repeat(times));
            rest = behind;
        } else {
            out.push(b'{');
            rest = after;
        }
    }
    out.extend(rest.chars().map(octet));
    out
}

fn octet(character: char) -> u8 {
    u8::try_from(u32::from(character)).unwrap_or_else(|_| panic!("{character:?} is no octet"))
}
