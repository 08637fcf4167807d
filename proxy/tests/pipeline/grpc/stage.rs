//! Both ends of gRPC calls, frame by frame in the test's own hands.

use std::{cell::Cell, net::SocketAddr, rc::Rc};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    server::SendResponse,
};
use http::{HeaderMap, Request, Response};
use tektin_proxy::{
    Limits,
    link_proto::{PolicyUpdate, Record},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::spawn_local,
};

use super::calls;
use crate::harness::*;

/// Of a connection: several times a stream's, which is 64 KB.
const WINDOW: u32 = 1 << 20;

/// A server whose calls the test answers.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Asked>,
    /// Makes one connection say GOAWAY.
    pub(super) leaves: Rc<Notify>,
    pub(super) connections: Rc<Cell<usize>>,
}

/// A call at its server.
pub(super) struct Asked {
    pub(super) head: http::request::Parts,
    pub(super) body: RecvStream,
    pub(super) respond: SendResponse<Bytes>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, calls) = mpsc::unbounded_channel();
        let (leaves, connections) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let (leaving, counted) = (Rc::clone(&leaves), Rc::clone(&connections));
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.set(counted.get() + 1);
                let (sender, leaving) = (sender.clone(), Rc::clone(&leaving));
                spawn_local(async move {
                    let builder = h2::server::Builder::new().initial_connection_window_size(WINDOW).clone();
                    let mut connection = builder.handshake(stream).await.unwrap();
                    loop {
                        let accepted = tokio::select! {
                            accepted = connection.accept() => accepted,
                            () = leaving.notified() => {
                                connection.graceful_shutdown();
                                continue;
                            }
                        };
                        let Some(Ok((request, respond))) = accepted else { return };
                        let (head, body) = request.into_parts();
                        let _ = sender.send(Asked { head, body, respond });
                    }
                });
            }
        });
        Self { address, calls, leaves, connections }
    }

    pub(super) async fn asked(&mut self) -> Asked {
        self.calls.recv().await.unwrap()
    }
}

impl Asked {
    /// Begins an answer.
    pub(super) fn answer(&mut self) -> SendStream<Bytes> {
        let response = Response::builder().header("content-type", self.head.headers["content-type"].clone());
        self.respond.send_response(response.body(()).unwrap(), false).unwrap()
    }

    /// What comes next of the request; `None`: its end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        read(&mut self.body).await.unwrap()
    }
}

/// What comes next.
pub(super) async fn read(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let octets = body.data().await.transpose()?;
    if let Some(octets) = &octets {
        body.flow_control().release_capacity(octets.len()).unwrap();
    }
    Ok(octets)
}

/// Reads to the end: all octets, and the trailers.
pub(super) async fn rest(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut octets = Vec::new();
    while let Some(part) = read(body).await? {
        octets.extend_from_slice(&part);
    }
    Ok((octets, body.trailers().await?.unwrap_or_default()))
}

pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) proxy: Rc<Proxy>,
    pub(super) client: SendRequest<Bytes>,
}

impl Stage {
    /// A server, a proxy before it that lets these calls pass, and a client of it.
    pub(super) async fn of(allowed: &[(&str, Option<&str>)]) -> Self {
        Self::with_limits(allowed, Limits::default()).await
    }

    pub(super) async fn with_limits(allowed: &[(&str, Option<&str>)], limits: Limits) -> Self {
        let server = Server::start().await;
        let proxy = Proxy::with_limits(server.address, policy(allowed), limits).await;
        let client = connect(&proxy, h2::client::Builder::new().initial_connection_window_size(WINDOW)).await;
        Self { server, proxy, client }
    }

    pub(super) fn call(&mut self, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        call(&mut self.client, path, "application/grpc", &[])
    }

    /// A call that the server has answered to: both ends.
    pub(super) async fn open(&mut self, path: &str) -> Open {
        let (response, up) = self.call(path);
        let mut asked = self.server.asked().await;
        let down = asked.answer();
        let body = response.await.unwrap().into_body();
        Open { up, body, asked, down }
    }

    pub(super) async fn record(&self, number: usize) -> Record {
        self.proxy.record(number).await
    }
}

/// A call under way.
pub(super) struct Open {
    pub(super) up: SendStream<Bytes>,
    pub(super) body: RecvStream,
    pub(super) asked: Asked,
    pub(super) down: SendStream<Bytes>,
}

impl Open {
    /// A message there and one back.
    pub(super) async fn works(&mut self) {
        self.up.send_data(message(b"there"), false).unwrap();
        assert_eq!(self.asked.next().await.unwrap(), message(b"there"));
        self.down.send_data(message(b"back"), false).unwrap();
        assert_eq!(read(&mut self.body).await.unwrap().unwrap(), message(b"back"));
    }
}

pub(super) fn policy(allowed: &[(&str, Option<&str>)]) -> PolicyUpdate {
    update(None, Some(vec![calls(allowed)]))
}

pub(super) async fn connect(proxy: &Proxy, builder: &h2::client::Builder) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (client, connection) = builder.handshake(stream).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    client
}

pub(super) fn call(
    client: &mut SendRequest<Bytes>,
    path: &str,
    content_type: &str,
    metadata: &[(&'static str, &str)],
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post(format!("http://web{path}")).body(()).unwrap();
    request.headers_mut().insert("content-type", content_type.parse().unwrap());
    request.headers_mut().insert("te", "trailers".parse().unwrap());
    for (name, value) in metadata {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    client.send_request(request, false).unwrap()
}

/// As it goes over the wire.
pub(super) fn message(payload: &[u8]) -> Bytes {
    let mut octets = BytesMut::new();
    octets.put_u8(0);
    octets.put_u32(payload.len().try_into().unwrap());
    octets.put_slice(payload);
    octets.freeze()
}

pub(super) fn status(code: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code.parse().unwrap())])
}
