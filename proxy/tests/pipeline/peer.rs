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

mod stage;

pub(crate) use stage::Stage;

pub(crate) type Fields = Vec<(String, String)>;

/// A frame, and the fields of its block where it is HEADERS.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) fields: Fields,
    /// Names of those that no table may hold.
    pub(crate) secret: Vec<String>,
}

pub(crate) struct Peer {
    stream: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
    held: Vec<u8>,
    pub(crate) out: Vec<u8>,
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

    /// With the preface and settings sent.
    pub(crate) async fn client(proxy: &Proxy, settings: &[(Setting, u32)]) -> Self {
        let mut client = Self::new(TcpStream::connect(proxy.address).await.unwrap());
        client.out.extend_from_slice(PREFACE);
        put_settings(&mut client.out, settings);
        client.flush().await;
        client
    }

    /// What the proxy connects to, with the preface read and settings sent.
    pub(crate) async fn server(listener: &TcpListener, settings: &[(Setting, u32)]) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = Self::new(stream);
        let mut preface = [0; PREFACE.len()];
        server.stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, PREFACE);
        put_settings(&mut server.out, settings);
        server.flush().await;
        server
    }

    pub(crate) fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) -> &mut Self {
        let mut block = Vec::new();
        self.encoder.start(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), false, &mut block);
        }
        // In pieces, as a peer may.
        put_header_block(&mut self.out, stream, &block, end, 10);
        self
    }

    pub(crate) fn get(&mut self, stream: u32, path: &str) -> &mut Self {
        self.request(stream, "GET", path, &[], true)
    }

    pub(crate) fn post(&mut self, stream: u32, path: &str) -> &mut Self {
        self.request(stream, "POST", path, &[], false)
    }

    pub(crate) fn request(
        &mut self,
        stream: u32,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        end: bool,
    ) -> &mut Self {
        let head = [(":method", method), (":scheme", "http"), (":authority", "web"), (":path", path)];
        self.headers(stream, &[&head[..], more].concat(), end)
    }

    pub(crate) fn data(&mut self, stream: u32, mut data: &[u8], end: bool) -> &mut Self {
        loop {
            let piece;
            (piece, data) = data.split_at(data.len().min(16 << 10));
            let last = end && data.is_empty();
            self.frame(Kind::Data, if last { flag::END_STREAM } else { 0 }, stream, piece);
            if data.is_empty() {
                return self;
            }
        }
    }

    pub(crate) fn widen(&mut self, stream: u32, octets: u32) -> &mut Self {
        put_window_update(&mut self.out, stream, octets);
        self
    }

    pub(crate) fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        let length = payload.len() as u32;
        self.out.extend_from_slice(&FrameHeader { length, kind, flags, stream }.encode());
        self.out.extend_from_slice(payload);
        self
    }

    /// Whether the other end took it all.
    pub(crate) async fn flush(&mut self) -> bool {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await.is_ok()
    }

    /// The next frame, whatever it is; SETTINGS are acknowledged. `None`: the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Seen> {
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
    pub(crate) async fn wait(&mut self, kind: Kind, stream: u32) -> Seen {
        loop {
            let seen = self.next().await.expect("a connection that goes on");
            if (seen.kind, seen.stream) == (kind, stream) {
                return seen;
            }
        }
    }

    /// The next frame that is no housekeeping.
    pub(crate) async fn news(&mut self) -> Option<Seen> {
        loop {
            let seen = self.next().await?;
            if !matches!(seen.kind, Kind::Settings | Kind::WindowUpdate | Kind::Ping) {
                return Some(seen);
            }
        }
    }

    /// The next news, which must be an RST_STREAM on this stream: its code.
    pub(crate) async fn reset(&mut self, stream: u32) -> u32 {
        let seen = self.news().await.unwrap();
        assert_eq!((seen.kind, seen.stream), (Kind::RstStream, stream), "{seen:?}");
        u32::from_be_bytes(seen.payload.try_into().unwrap())
    }

    /// The next news, which must be the answer on this stream: its status.
    pub(crate) async fn status(&mut self, stream: u32) -> String {
        let seen = self.news().await.unwrap();
        assert_eq!((seen.kind, seen.stream), (Kind::Headers, stream), "{seen:?}");
        assert_eq!(seen.fields[0].0, ":status");
        seen.status().to_owned()
    }

    /// The next news, which must be a request: its stream and its path.
    pub(crate) async fn asked(&mut self) -> (u32, String) {
        let seen = self.news().await.unwrap();
        assert_eq!(seen.kind, Kind::Headers, "{seen:?}");
        (seen.stream, seen.fields[3].1.clone())
    }

    /// All frames that come until there is none for a while.
    pub(crate) async fn lull(&mut self, time: Duration) -> Vec<Seen> {
        let mut all = Vec::new();
        while let Ok(Some(seen)) = timeout(time, self.next()).await {
            all.push(seen);
        }
        all
    }
}

impl Seen {
    pub(crate) fn ends(&self) -> bool {
        self.flags & flag::END_STREAM != 0
    }

    pub(crate) fn status(&self) -> &str {
        &self.fields[0].1
    }
}
