//! A client that writes octets as they are given and reads until the other side ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::netlab::LIMIT;

/// A response, read as the standard says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// Lower case.
    pub head: String,
    pub body: Vec<u8>,
}

/// Everything that came back, and how it ended.
#[derive(Debug, Default)]
pub struct Exchange {
    pub octets: Vec<u8>,
    /// The other side neither said more nor closed within the limit.
    pub hung: bool,
}

/// Must run inside the client's namespace.
pub fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    // An address of a whole local prefix stands on no device.
    if from.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }
        .expect("free bind");
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap_or_else(|e| panic!("{from}: {e}"));
    socket.connect_timeout(&to.into(), LIMIT).unwrap_or_else(|e| panic!("{from} to {to}: {e}"));
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    stream
}

/// Sends the pieces, a segment each, ends its side, and reads to the end.
pub fn exchange(mut stream: TcpStream, pieces: &[&[u8]]) -> Exchange {
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        // A refusal may have closed the connection before all was written.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut exchange = Exchange::default();
    if let Err(error) = stream.read_to_end(&mut exchange.octets) {
        exchange.hung = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    }
    exchange
}

impl Exchange {
    /// The responses in it. What is no whole response is one of status 0 at the end. `head`: the
    /// first request was a HEAD.
    pub fn responses(&self, head: bool) -> Vec<Response> {
        let mut rest = &self.octets[..];
        let mut responses = Vec::new();
        let mut answers_head = head;
        while !rest.is_empty() {
            let Some((response, octets)) = parse(rest, answers_head) else {
                responses.push(Response { status: 0, head: String::new(), body: rest.to_vec() });
                break;
            };
            answers_head &= response.status < 200;
            rest = &rest[octets..];
            responses.push(response);
        }
        responses
    }
}

fn parse(octets: &[u8], head_only: bool) -> Option<(Response, usize)> {
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&octets[..end]).ok()?.to_ascii_lowercase();
    let status = head.strip_prefix("http/1.")?.get(2..)?.get(..3)?.parse().ok()?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (body, used) = if status < 200 || [204, 304].contains(&status) || head_only {
        (Vec::new(), 0)
    } else if field("transfer-encoding: ") == Some("chunked") {
        chunks(&octets[end..])?
    } else if let Some(length) = field("content-length: ") {
        let length = length.parse().ok()?;
        (octets.get(end..end + length)?.to_vec(), length)
    } else {
        (octets[end..].to_vec(), octets.len() - end)
    };
    Some((Response { status, head, body }, end + used))
}

fn chunks(octets: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = octets[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&octets[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        body.extend_from_slice(octets.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= octets.len()).then_some((body, at));
        }
    }
}
