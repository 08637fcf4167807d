//! A stand-in for the agent: one thread, canned answers, and a memory of what it was asked.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// `GET /v1/status`.
    pub line: String,
    pub body: serde_json::Value,
}

pub struct Agent {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What to answer: a status and a body; an endless one is repeated until nobody listens.
#[derive(Clone)]
pub enum Answer {
    Once(u16, String),
    Endless(String),
}

impl Agent {
    /// Answers every request the same way.
    pub fn answering(answer: Answer) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("agent.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let memory = asked.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a connection"), &answer, &memory);
            }
        });
        Self { dir, asked }
    }

    pub fn answering_json(status: u16, body: &serde_json::Value) -> Self {
        Self::answering(Answer::Once(status, body.to_string()))
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no poisoning").clone()
    }
}

fn serve(stream: UnixStream, answer: &Answer, memory: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request line");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        if header.trim().is_empty() {
            break;
        }
        let header = header.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    memory.lock().expect("no poisoning").push(Asked {
        line: line.trim_end().trim_end_matches(" HTTP/1.1").to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let mut stream = reader.into_inner();
    match answer {
        Answer::Once(status, body) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).expect("an answer");
        }
        Answer::Endless(line) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").expect("a head");
            while stream.write_all(line.as_bytes()).is_ok() {}
        }
    }
}
