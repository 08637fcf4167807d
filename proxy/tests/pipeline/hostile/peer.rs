//! Either end of HTTP/2, frame by frame, so that it may say what no library would.

use std::time::Duration;

use l7_parsers::http2::{
    frame::{
        FrameHeader, HEADER, Kind, PREFACE, Setting, flag, put_header_block, put_settings, put_settings_ack,
        put_window_update,
    },
    hpack::{Decoder, Encoder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::harness::Proxy;

pub(super) type Fields = Vec<(String, String)>;

/// A frame, and the fields of its block where it is HEADERS.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
    pub(super) fields: Fields,
    /// Names of those that no table may hold.
    pub(super) secret: Vec<String>,
}

pub(super) struct Peer {
    stream: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
    held: Vec<u8>,
    pub(super) out: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            encoder: Encoder::new(),
            decoder: Decoder::new(4096),
            held: Vec::new(),
            out: Vec::new(),
        }
    }

    pub(super) async fn client(proxy: &Proxy, settings: &[(Setting, u32)]) -> Self {
        let mut client = Self::new(TcpStream::connect(proxy.address).await.unwrap());
        client.out.extend_from_slice(PREFACE);
        put_settings(&mut client.out, settings);
        client.flush().await;
        client
    }

    /// What the proxy connects to.
    pub(super) async fn server(listener: &TcpListener, settings: &[(Setting, u32)]) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = Self::new(stream);
        let mut preface = [0; PREFACE.len()];
        server.stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, PREFACE);
        put_settings(&mut server.out, settings);
        server.flush().await;
        server
    }

    pub(super) fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let mut block = Vec::new();
        self.encoder.start(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), false, &mut block);
        }
        put_header_block(&mut self.out, stream, &block, end, 16 << 10);
    }

    pub(super) fn get(&mut self, stream: u32, path: &str) {
        self.request(stream, "GET", path, true);
    }

    pub(super) fn request(&mut self, stream: u32, method: &str, path: &str, end: bool) {
        let fields = [(":method", method), (":scheme", "http"), (":authority", "web"), (":path", path)];
        self.headers(stream, &fields, end);
    }

    pub(super) fn data(&mut self, stream: u32, mut data: &[u8], end: bool) {
        loop {
            let piece;
            (piece, data) = data.split_at(data.len().min(16 << 10));
            let last = end && data.is_empty();
            self.frame(Kind::Data, if last { flag::END_STREAM } else { 0 }, stream, piece);
            if data.is_empty() {
                return;
            }
        }
    }

    pub(super) fn widen(&mut self, stream: u32, octets: u32) {
        put_window_update(&mut self.out, stream, octets);
    }

    pub(super) fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = payload.len() as u32;
        self.out.extend_from_slice(&FrameHeader { length, kind, flags, stream }.encode());
        self.out.extend_from_slice(payload);
    }

    /// Whether the other end took it all.
    pub(super) async fn flush(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await.is_ok()
    }

    /// The next frame, whatever it is; SETTINGS are acknowledged. `None`: the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some((&head, rest)) = self.held.split_first_chunk::<HEADER>() {
                let header = FrameHeader::parse(&head);
                if let Some(payload) = rest.get(..header.length as usize) {
                    let payload = payload.to_vec();
                    self.held.drain(..HEADER + payload.len());
                    return Some(self.seen(&header, payload).await);
                }
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(octets) => self.held.extend_from_slice(&buffer[..octets]),
            }
        }
    }

    async fn seen(&mut self, header: &FrameHeader, payload: Vec<u8>) -> Seen {
        let &FrameHeader { kind, flags, stream, .. } = header;
        let (mut fields, mut secret) = (Fields::new(), Vec::new());
        if kind == Kind::Settings && !header.has(flag::ACK) {
            put_settings_ack(&mut self.out);
            self.flush().await;
        }
        if kind == Kind::Headers {
            assert!(header.has(flag::END_HEADERS), "a short head");
            let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
            let whole = self.decoder.decode(&payload, usize::MAX, |field| {
                fields.push((text(field.name), text(field.value)));
                secret.extend(field.never_indexed.then(|| text(field.name)));
            });
            assert!(whole.is_ok());
        }
        Seen { kind, flags, stream, payload, fields, secret }
    }

    /// The next frame of this kind on this stream.
    pub(super) async fn wait(&mut self, kind: Kind, stream: u32) -> Seen {
        loop {
            let seen = self.next().await.expect("a connection that goes on");
            if (seen.kind, seen.stream) == (kind, stream) {
                return seen;
            }
        }
    }

    /// All frames that come until there is none for a while.
    pub(super) async fn lull(&mut self, time: Duration) -> Vec<Seen> {
        let mut all = Vec::new();
        while let Ok(Some(seen)) = timeout(time, self.next()).await {
            all.push(seen);
        }
        all
    }
}

impl Seen {
    pub(super) fn ends(&self) -> bool {
        self.flags & flag::END_STREAM != 0
    }

    pub(super) fn status(&self) -> &str {
        &self.fields[0].1
    }
}
