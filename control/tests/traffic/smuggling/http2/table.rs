//! `testdata/smuggling/http2.yaml`, whose beginning says what a case is.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::{
    beginning,
    frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame},
    headers, hpack,
};
use crate::smuggling::cases::{octets, records};

type Field = (String, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    fields: Option<Vec<Field>>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    add: Vec<Field>,
    #[serde(default)]
    without: Vec<String>,
    body: Option<String>,
    trailers: Option<Vec<Field>>,
    #[serde(default)]
    cuts: Vec<usize>,
    frames: Option<Vec<RawFrame>>,
    expect: Vec<String>,
    reason: Option<String>,
    records: Option<Vec<String>>,
    path: Option<String>,
    also: Option<Vec<String>>,
    saw: Option<Vec<Vec<String>>>,
    #[serde(default)]
    breaks: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFrame {
    kind: u8,
    #[serde(default)]
    flags: u8,
    stream: u32,
    #[serde(default)]
    payload: String,
}

/// One case, spelt out.
pub struct Case {
    pub name: String,
    pub send: Vec<u8>,
    /// `STATUS` or `reset CODE` of each stream, then `goaway CODE`.
    pub outcomes: Vec<String>,
    pub records: Vec<String>,
    pub saw: Saw,
}

/// What the server must have got.
#[derive(Debug)]
pub enum Saw {
    /// Of each request its fields, and last its body, with `…` where it never ended.
    Exactly(Vec<Vec<String>>),
    /// Nothing, or requests that never ended.
    Beginnings,
}

pub fn cases() -> Vec<Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/smuggling/http2.yaml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<Line> =
        serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    lines.into_iter().map(Line::spell_out).collect()
}

impl Line {
    fn spell_out(self) -> Case {
        let name = format!("http2: {}", self.name);
        let block = hpack::encode(&self.fields());
        let frames = match &self.frames {
            Some(frames) => frames.iter().map(|frame| frame.spell_out(&block)).collect(),
            None => self.usual_frames(&block),
        };
        let send = frames.iter().fold(beginning(), |send, frame| [send, frame.octets()].concat());
        let statuses: Vec<u16> = self.expect.iter().filter_map(|text| text.parse().ok()).collect();
        let records = match (self.records, &self.reason) {
            (Some(records), _) => records,
            (None, Some(reason)) if statuses.is_empty() => vec![format!("refused: {reason}")],
            (None, reason) => records(&name, &statuses, reason.as_deref()),
        };
        let saw = self.saw.unwrap_or_else(|| {
            let path = self.path.as_deref().unwrap_or("/public/a");
            let method = self.set.get(":method").map_or("GET", String::as_str);
            let head = [method, "http", "web", path];
            let names = [":method", ":scheme", ":authority", ":path"];
            let head = names.iter().zip(head).map(|(name, value)| format!("{name}: {value}"));
            let mut seen: Vec<String> = head.chain(self.also.into_iter().flatten()).collect();
            seen.push(self.body.clone().unwrap_or_default());
            statuses.iter().filter(|status| **status == 200).map(|_| seen.clone()).collect()
        });
        let saw = if self.breaks { Saw::Beginnings } else { Saw::Exactly(saw) };
        Case { name, send, outcomes: self.expect, records, saw }
    }

    /// The fields to send: a GET of `/public/a` with the changes asked for.
    fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/public/a"), (":authority", "web")];
        let usual = usual.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let mut fields = self.fields.clone().unwrap_or(usual);
        for (name, value) in &mut fields {
            if let Some(other) = self.set.get(name) {
                value.clone_from(other);
            }
        }
        fields.retain(|(name, _)| !self.without.contains(name));
        fields.extend_from_slice(&self.add);
        raw(&fields)
    }

    fn usual_frames(&self, block: &[u8]) -> Vec<Frame> {
        let more = self.body.is_some() || self.trailers.is_some();
        let end_stream = if more { 0 } else { END_STREAM };
        let mut pieces = Vec::new();
        let mut at = 0;
        for cut in self.cuts.iter().chain([&block.len()]) {
            pieces.push(&block[at..*cut]);
            at = *cut;
        }
        let last = pieces.len() - 1;
        let end = |number: usize| if number == last { END_HEADERS } else { 0 };
        let mut frames = vec![headers(1, end_stream | end(0), pieces[0])];
        for (number, piece) in pieces.iter().enumerate().skip(1) {
            frames.push(Frame { kind: CONTINUATION, flags: end(number), stream: 1, payload: piece.to_vec() });
        }
        if let Some(body) = &self.body {
            let flags = if self.trailers.is_some() { 0 } else { END_STREAM };
            frames.push(Frame { kind: DATA, flags, stream: 1, payload: octets(body) });
        }
        if let Some(trailers) = &self.trailers {
            frames.push(headers(1, END_STREAM | END_HEADERS, &hpack::encode(&raw(trailers))));
        }
        frames
    }
}

impl RawFrame {
    /// `{block}` is the header block, `{block<5}` its first five octets, `{block>5}` the others.
    fn spell_out(&self, block: &[u8]) -> Frame {
        let mut payload = Vec::new();
        let mut rest = self.payload.as_str();
        while let Some((before, after)) = rest.split_once("{block") {
            payload.extend(octets(before));
            let (part, behind) = after.split_once('}').expect("{block} ends");
            let at = |text: &str| text.parse::<usize>().expect("a number").min(block.len());
            payload.extend_from_slice(match part.split_at_checked(1) {
                Some(("<", end)) => &block[..at(end)],
                Some((">", start)) => &block[at(start)..],
                _ => block,
            });
            rest = behind;
        }
        payload.extend(octets(rest));
        Frame { kind: self.kind, flags: self.flags, stream: self.stream, payload }
    }
}

fn raw(fields: &[Field]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (octets(name), octets(value))).collect()
}
