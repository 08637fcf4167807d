//! The same over HTTP/2: frames written by hand, so that nothing mends them on the way.

pub mod frames;
mod hpack;
mod table;

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, TcpStream},
};

use self::{
    frames::{ACK, Frame, HEADERS, Messages, PREFACE, SETTINGS},
    table::{Case, Saw},
};
use super::{
    client::connect,
    policy::{self, Read},
    report::Report,
    stage::{Records, Stage},
};

pub use table::cases;

struct Played<'a> {
    case: &'a Case,
    from: IpAddr,
    outcomes: Vec<String>,
}

impl Stage {
    /// Plays all cases of HTTP/2 and compares what came of them with what the table says.
    pub fn run_http2(&self, cases: &[Case], report: &mut Report) {
        let played = self.each(cases, |case, from| {
            let stream = connect(from, self.server(from, policy::PORT));
            Played { case, from, outcomes: exchange(stream, case) }
        });
        self.settle();
        let expected: Vec<_> = played.iter().map(|one| (one.from, one.case.records.len())).collect();
        let records = self.records(&expected);
        for one in &played {
            report.came_of(&one.case.name, one.case.send.len(), &self.wrong(one, &records));
        }
    }

    fn wrong(&self, played: &Played<'_>, records: &Records) -> Vec<String> {
        let Played { case, from, outcomes } = played;
        let mut wrong = Vec::new();
        if *outcomes != case.outcomes {
            wrong.push(format!("{outcomes:?}, not {:?}", case.outcomes));
        }
        // Streams end in any order.
        let mut said = records.get(from).cloned().unwrap_or_default();
        let mut expected = case.records.clone();
        if let Saw::Beginnings = case.saw {
            // Whether it was judged before it broke is for the threads to say.
            said.retain(|record| !record.starts_with("forwarded"));
        }
        said.sort();
        expected.sort();
        let fits = |(said, expected): (&String, &String)| match expected.strip_suffix('…') {
            Some(beginning) => said.len() > beginning.len() && said.starts_with(beginning),
            None => said == expected,
        };
        if said.len() != expected.len() || !said.iter().zip(&expected).all(fits) {
            wrong.push(format!("records {said:?}, not {expected:?}"));
        }
        let mut seen = Vec::new();
        for connection in self.recorder.connections(*from) {
            // One that was opened and not used.
            if connection.octets.is_empty() {
                continue;
            }
            let messages = Messages::of_client(&connection.octets);
            seen.extend(messages.streams.into_values().map(|message| {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                let end = if message.ended { "" } else { "…" };
                [message.fields, vec![format!("{body}{end}")]].concat()
            }));
        }
        let beginnings = |seen: &[String]| seen.last().is_none_or(|body| body.ends_with('…'));
        let as_said = match &case.saw {
            Saw::Exactly(saw) => seen == *saw,
            Saw::Beginnings => seen.iter().all(|seen| beginnings(seen)),
        };
        if !as_said {
            wrong.push(format!("the server got {seen:?}, not {:?}", case.saw));
        }
        wrong
    }
}

/// What became of each stream (its status or `reset CODE`) and of the connection (`goaway CODE`).
fn exchange(mut stream: TcpStream, case: &Case) -> Vec<String> {
    // A connection that the proxy gives up may close before all was written.
    let _ = stream.write_all(&case.send);
    let mut messages = Messages::default();
    let (mut pending, mut buffer) = (Vec::new(), [0; 4096]);
    let mut asked = true;
    let mut ended = "";
    loop {
        while let Some(frame) = Frame::take(&mut pending) {
            if frame.kind == SETTINGS && !frame.has(ACK) {
                let ack = Frame { kind: SETTINGS, flags: ACK, stream: 0, payload: Vec::new() };
                let _ = stream.write_all(&ack.octets());
            }
            messages.add(&frame);
        }
        let error = messages.goaway.is_some_and(|code| code != 0);
        if asked && (error || outcomes(&messages).len() >= case.outcomes.len()) {
            asked = false;
            let _ = stream.shutdown(Shutdown::Write);
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(octets) => pending.extend_from_slice(&buffer[..octets]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                ended = "hung";
                break;
            }
            Err(_) => break,
        }
    }
    let mut all = outcomes(&messages);
    if !ended.is_empty() {
        all.push(ended.to_owned());
    }
    all
}

fn outcomes(messages: &Messages) -> Vec<String> {
    let of_stream = |message: &frames::Message| {
        let status = message.fields.first().and_then(|field| field.strip_prefix(":status: "));
        status.map(str::to_owned).or(message.reset.map(|code| format!("reset {code}")))
    };
    let mut all: Vec<String> = messages.streams.values().filter_map(of_stream).collect();
    all.extend(messages.goaway.filter(|code| *code != 0).map(|code| format!("goaway {code}")));
    all
}

/// The requests of a connection as a server of HTTP/2 understands them.
pub fn read(octets: &[u8]) -> Vec<Read> {
    let requests = Messages::of_client(octets).streams.into_values();
    requests
        .filter(|message| !message.fields.is_empty())
        .map(|message| {
            let mut read = Read { method: String::new(), target: String::new(), fields: Vec::new() };
            for field in &message.fields {
                let (name, value) = field[1..].split_once(": ").unwrap_or_default();
                let (name, value) = (format!("{}{name}", &field[..1]), value.to_owned());
                match name.as_str() {
                    ":method" => read.method = value,
                    ":path" => read.target = value,
                    ":authority" => read.fields.push(("host".to_owned(), value)),
                    _ => read.fields.push((name, value)),
                }
            }
            read
        })
        .collect()
}

/// The first octets of a connection and its settings, all of them the usual ones.
fn beginning() -> Vec<u8> {
    let settings = Frame { kind: SETTINGS, flags: 0, stream: 0, payload: Vec::new() };
    [PREFACE, &settings.octets()].concat()
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Frame {
    Frame { kind: HEADERS, flags, stream, payload: block.to_vec() }
}
