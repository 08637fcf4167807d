//! Many connections of one thread at once, whose bodies say whose they are: no octet is lost, doubled, or
//! another's, however they come.

mod http2;

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{spawn_local, yield_now},
};

use crate::harness::*;

/// A source of choices (xorshift).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn one_in(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }

    /// Mostly small.
    fn length(&mut self) -> usize {
        let most = [1, 10, 300, 4_000, 5_000, 40_000, 150_000][self.below(7) as usize];
        self.below(most) as usize
    }

    async fn pause(&mut self) {
        match self.below(12) {
            0 => tokio::time::sleep(Duration::from_millis(self.below(4))).await,
            1..4 => yield_now().await,
            _ => {}
        }
    }
}

fn body(seed: u64, length: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    (0..length).map(|_| dice.below(256) as u8).collect()
}

/// A message with this head, whose body and its form follow from the seed.
fn message(head: &str, seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed ^ 0xf0f0);
    let content = body(seed, dice.length());
    let mut out = head.as_bytes().to_vec();
    if dice.one_in(2) {
        out.extend(format!("Content-Length: {}\r\n\r\n", content.len()).bytes());
        out.extend(content);
        return out;
    }
    out.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    let mut rest = &content[..];
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(rest.len().min(1 + dice.below(9_000) as usize));
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
        rest = behind;
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// In pieces of any size. False: nobody takes it.
async fn say(to: &mut OwnedWriteHalf, octets: &[u8], dice: &mut Dice) -> bool {
    let mut rest = octets;
    while !rest.is_empty() {
        let most = if dice.one_in(3) { 10 } else { 100_000 };
        let (piece, behind) = rest.split_at(rest.len().min(1 + dice.below(most) as usize));
        if to.write_all(piece).await.is_err() {
            return false;
        }
        rest = behind;
        dice.pause().await;
    }
    true
}

struct Hearing {
    from: OwnedReadHalf,
    held: Vec<u8>,
    dice: Dice,
}

impl Hearing {
    async fn more(&mut self) -> Option<()> {
        self.dice.pause().await;
        let most = if self.dice.one_in(3) { 20 } else { 60_000 };
        let mut buffer = vec![0; 1 + self.dice.below(most) as usize];
        match self.from.read(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(octets) => {
                self.held.extend_from_slice(&buffer[..octets]);
                Some(())
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.held.windows(end.len()).position(|window| window == end) {
                return Some(self.held.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn octets(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.held.len() < count {
            self.more().await?;
        }
        Some(self.held.drain(..count).collect())
    }

    /// Head and content of a whole message.
    async fn message(&mut self) -> Option<(String, Vec<u8>)> {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await?).unwrap().to_ascii_lowercase();
        if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
            let content = self.octets(length.parse().unwrap()).await?;
            return Some((head, content));
        }
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let mut content = Vec::new();
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8(line).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap_or_else(|_| panic!("{line:?}"));
            content.extend(self.octets(length).await?);
            assert_eq!(self.octets(2).await?, b"\r\n");
            if length == 0 {
                return Some((head, content));
            }
        }
    }
}

fn seed_of(head: &str) -> u64 {
    let path = head.split(' ').nth(1).unwrap();
    path.strip_prefix("/public/").unwrap_or_else(|| panic!("{head}")).parse().unwrap()
}

const ANSWER: u64 = 1 << 40;

fn check(seed: u64, content: &[u8]) {
    let expected = body(seed, Dice::new(seed ^ 0xf0f0).length());
    assert_eq!(content.len(), expected.len(), "of {seed}");
    assert!(content == expected, "another's octets in {seed}");
}

async fn serve(stream: TcpStream, seed: u64, unruly: bool) {
    let mut dice = Dice::new(seed);
    let (from, mut to) = stream.into_split();
    let mut hearing = Hearing { from, held: Vec::new(), dice: dice.clone() };
    while let Some((head, content)) = hearing.message().await {
        let seed = seed_of(&head);
        check(seed, &content);
        let mut answer = message("HTTP/1.1 200 OK\r\n", seed | ANSWER);
        if unruly && dice.one_in(10) {
            answer.truncate(dice.below(answer.len() as u64) as usize);
            say(&mut to, &answer, &mut dice).await;
            if dice.one_in(2) {
                let _ = SockRef::from(to.as_ref()).set_linger(Some(Duration::ZERO));
            }
            return;
        }
        if !say(&mut to, &answer, &mut dice).await {
            return;
        }
    }
}

/// One connection. Returns how many of its requests were answered in full.
async fn ask(address: SocketAddr, seed: u64, unruly: bool) -> u64 {
    let mut dice = Dice::new(seed);
    let requests = 1 + dice.below(12);
    let stream = TcpStream::connect(address).await.unwrap();
    if dice.one_in(4) {
        let _ = SockRef::from(&stream).set_recv_buffer_size(3000);
        let _ = SockRef::from(&stream).set_send_buffer_size(3000);
    }
    let leaves = (unruly && dice.one_in(4)).then(|| dice.below(200_000));
    let (from, mut to) = stream.into_split();
    let (mut asking, told) = (dice.clone(), Rc::new(Cell::new(0)));
    let heard = Rc::clone(&told);
    let halves = dice.one_in(3);
    let sends = spawn_local(async move {
        for number in 0..requests {
            let seed = seed * 100 + number;
            let request = message(&format!("POST /public/{seed} HTTP/1.1\r\nHost: a\r\n"), seed);
            // Some of them do not wait for their answers.
            while !asking.clone().one_in(3) && heard.get() < number {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if Rc::strong_count(&heard) == 1 {
                    return to;
                }
            }
            if !say(&mut to, &request, &mut asking).await {
                return to;
            }
        }
        if halves {
            let _ = to.shutdown().await;
        }
        to
    });
    let mut hearing = Hearing { from, held: Vec::new(), dice };
    let mut octets = 0;
    for number in 0..requests {
        let seed = (seed * 100 + number) | ANSWER;
        let Some((head, content)) = hearing.message().await else {
            assert!(unruly, "request {number} of {requests} has no answer");
            break;
        };
        if !head.starts_with("http/1.1 200") {
            assert!(unruly && head.starts_with("http/1.1 502"), "{head}");
            break;
        }
        check(seed, &content);
        told.set(number + 1);
        octets += content.len() as u64;
        if leaves.is_some_and(|leaves| octets > leaves) {
            if hearing.dice.one_in(2) {
                let _ = SockRef::from(hearing.from.as_ref()).set_linger(Some(Duration::ZERO));
            }
            sends.abort();
            break;
        }
    }
    let answered = told.get();
    drop(told);
    drop(sends.await);
    answered
}

async fn soak(unruly: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), public_only()).await;
    spawn_local(async move {
        for seed in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            spawn_local(serve(stream, seed, unruly));
        }
    });
    let clients: Vec<_> = (1..25).map(|seed| spawn_local(ask(proxy.address, seed, unruly))).collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    let records = proxy.record_count() as u64;
    assert!(records >= answered, "{records} records of {answered} answers");
    if !unruly {
        assert_eq!(records, answered);
    }
}

#[test]
fn each_gets_its_own() {
    run(soak(false));
}

#[test]
fn each_gets_its_own_where_others_break_off() {
    run(soak(true));
}
