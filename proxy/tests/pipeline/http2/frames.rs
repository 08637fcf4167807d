//! Peers that speak HTTP/2 frame by frame, so that they can do what no library does.

use l7_parsers::http2::{
    frame::{FrameHeader, HEADER, Kind, PREFACE, flag, put_header_block, put_settings, put_settings_ack},
    hpack::{Decoded, Decoder, Encoder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(super) type Lines = Vec<(String, String)>;

/// Either end of a connection.
pub(super) struct Peer {
    stream: TcpStream,
    encoder: Encoder,
    decoder: Decoder,
}

/// A frame as it came; of HEADERS the fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    pub(super) last: bool,
    pub(super) payload: Vec<u8>,
    pub(super) fields: Lines,
}

impl Peer {
    /// Of a client: with the preface and settings sent.
    pub(super) async fn client(proxy: &super::Proxy) -> Self {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let mut octets = PREFACE.to_vec();
        put_settings(&mut octets, &[]);
        stream.write_all(&octets).await.unwrap();
        Self::of(stream)
    }

    /// Of a server: with the preface read and settings sent.
    pub(super) async fn server(mut stream: TcpStream) -> Self {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, *PREFACE);
        let mut octets = Vec::new();
        put_settings(&mut octets, &[]);
        stream.write_all(&octets).await.unwrap();
        Self::of(stream)
    }

    fn of(stream: TcpStream) -> Self {
        Self { stream, encoder: Encoder::new(), decoder: Decoder::new(4096) }
    }

    pub(super) async fn send(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        let header = FrameHeader { length, kind, flags, stream }.encode();
        self.stream.write_all(&[&header[..], payload].concat()).await.unwrap();
    }

    pub(super) async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], last: bool) {
        let (mut block, mut octets) = (Vec::new(), Vec::new());
        self.encoder.start(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), false, &mut block);
        }
        // In pieces, as a peer may.
        put_header_block(&mut octets, stream, &block, last, 10);
        self.stream.write_all(&octets).await.unwrap();
    }

    pub(super) async fn ask(&mut self, stream: u32, path: &str, more: &[(&str, &str)], last: bool) {
        let head = [(":method", "POST"), (":scheme", "http"), (":authority", "web"), (":path", path)];
        self.headers(stream, &[&head[..], more].concat(), last).await;
    }

    /// The next frame that is no housekeeping. `None`: the connection has ended.
    pub(super) async fn next(&mut self) -> Option<Came> {
        loop {
            let mut head = [0; HEADER];
            self.stream.read_exact(&mut head).await.ok()?;
            let header = FrameHeader::parse(&head);
            let mut payload = vec![0; header.length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let mut fields = Lines::new();
            match header.kind {
                Kind::Settings if !header.has(flag::ACK) => {
                    let mut octets = Vec::new();
                    put_settings_ack(&mut octets);
                    self.stream.write_all(&octets).await.unwrap();
                    continue;
                }
                Kind::Settings | Kind::WindowUpdate | Kind::Ping => continue,
                Kind::Headers => {
                    assert!(header.has(flag::END_HEADERS));
                    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
                    let whole = self.decoder.decode(&payload, 1 << 20, |field| {
                        fields.push((text(field.name), text(field.value)));
                    });
                    assert_eq!(whole, Ok(Decoded::Whole));
                    payload.clear();
                }
                _ => {}
            }
            let last = matches!(header.kind, Kind::Data | Kind::Headers) && header.has(flag::END_STREAM);
            return Some(Came { kind: header.kind, stream: header.stream, last, payload, fields });
        }
    }

    /// Of an RST_STREAM on this stream, which must be next: its code.
    pub(super) async fn reset(&mut self, stream: u32) -> u32 {
        let came = self.next().await.unwrap();
        assert_eq!((came.kind, came.stream), (Kind::RstStream, stream), "{came:?}");
        u32::from_be_bytes(came.payload.try_into().unwrap())
    }

    /// Of the answer on this stream, which must be next: its status.
    pub(super) async fn status(&mut self, stream: u32) -> String {
        let came = self.next().await.unwrap();
        assert_eq!((came.kind, came.stream), (Kind::Headers, stream), "{came:?}");
        assert_eq!(came.fields[0].0, ":status");
        came.fields[0].1.clone()
    }

    /// Of a request, which must be next: its stream and its path.
    pub(super) async fn asked(&mut self) -> (u32, String) {
        let came = self.next().await.unwrap();
        assert_eq!(came.kind, Kind::Headers, "{came:?}");
        (came.stream, came.fields[3].1.clone())
    }
}
