//! gRPC's interoperability cases on tonic, over one connection.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::Hasher,
    io,
    net::{SocketAddr, TcpStream},
    sync::Mutex,
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use tonic::{
    Code, Extensions, Request, Response, Status, Streaming,
    client::Grpc,
    codec::CompressionEncoding::Gzip,
    metadata::{MetadataMap, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

use super::messages::{
    InputRequest, InputResponse, OutputRequest, OutputResponse, SimpleRequest, SimpleResponse, Wanted,
    payload, status, wanted,
};
use crate::netlab::{LIMIT, Namespace};

const REQUESTS: [usize; 4] = [27182, 8, 1828, 45904];
const RESPONSES: [i32; 4] = [31415, 9, 2653, 58979];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each case as it is known.
    Allowed,
    /// A policy denies the calls: streams are left open, so that only the denial ends them.
    Denied,
}

/// A client with one connection; it makes no second one.
pub struct Client {
    grpc: Grpc<Channel>,
    mode: Mode,
}

impl Client {
    /// Must be called in a runtime.
    pub async fn connect(ns: &Namespace, to: SocketAddr, mode: Mode) -> Self {
        let stream = ns.connect(to, LIMIT).expect("a connection");
        stream.set_nonblocking(true).expect("a socket");
        let only = Mutex::new(Some(stream));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = only.lock().expect("no poisoning").take();
            async move {
                let gone = || io::Error::other("the only connection is gone");
                let stream: TcpStream = stream.ok_or_else(gone)?;
                tokio::net::TcpStream::from_std(stream).map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address");
        // Streams that a test does not read must not fill the client's own window.
        let endpoint = endpoint.initial_stream_window_size(1 << 17).initial_connection_window_size(1 << 24);
        let channel = endpoint.connect_with_connector(connector).await.expect("HTTP/2");
        Self { grpc: Grpc::new(channel), mode }
    }

    /// Another one on the same connection.
    pub fn again(&self) -> Self {
        self.with(self.grpc.clone())
    }

    /// The outcome of a case, and where calls are denied that of one which is not.
    pub async fn case(&mut self, name: &str) -> String {
        let outcome = tokio::time::timeout(LIMIT, self.run(name)).await.expect("an end in time");
        if self.mode == Mode::Allowed {
            return format!("{name}: {outcome}");
        }
        let probe = match name {
            "empty_unary" => self.unary::<_, SimpleResponse>("UnaryCall", Request::new(large())).await,
            _ => self.unary::<_, ()>("EmptyCall", Request::new(())).await,
        };
        format!("{name}: {outcome}, and then {}", probe.split(' ').next().unwrap_or_default())
    }

    async fn run(&mut self, name: &str) -> String {
        match name {
            "empty_unary" => self.unary::<_, ()>("EmptyCall", Request::new(())).await,
            "large_unary" => self.unary::<_, SimpleResponse>("UnaryCall", Request::new(large())).await,
            "client_streaming" => self.input().await,
            "server_streaming" => self.output().await,
            "ping_pong" => {
                let requests = REQUESTS
                    .into_iter()
                    .zip(RESPONSES)
                    .map(|(size, response)| OutputRequest { payload: payload(size), ..wanted(&[response]) });
                self.duplex(Request::new(self.open(requests.collect()))).await
            }
            "empty_stream" => self.duplex(Request::new(self.open(vec![]))).await,
            "cancel_after_begin" => self.cancel_after_begin().await,
            "cancel_after_first_response" => self.cancel_after_first_response().await,
            "timeout_on_sleeping_server" => self.timeout().await,
            "status_code_and_message" => {
                let asks = SimpleRequest {
                    response_status: status("test status message"),
                    ..SimpleRequest::default()
                };
                let one = self.unary::<_, SimpleResponse>("UnaryCall", Request::new(asks)).await;
                let asks = OutputRequest {
                    response_status: status("test status message"),
                    ..OutputRequest::default()
                };
                format!("{one}; {}", self.duplex(Request::new(self.open(vec![asks]))).await)
            }
            "special_status_message" => {
                let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
                let asks = SimpleRequest { response_status: status(message), ..SimpleRequest::default() };
                self.unary::<_, SimpleResponse>("UnaryCall", Request::new(asks)).await
            }
            "unimplemented_method" => self.unary::<_, ()>("UnimplementedCall", Request::new(())).await,
            "unimplemented_service" => {
                let path = "/grpc.testing.UnimplementedService/UnimplementedCall";
                self.unary_at::<_, ()>(path, Request::new(())).await
            }
            "custom_metadata" => {
                let one = self.unary::<_, SimpleResponse>("UnaryCall", echoed(Request::new(large()))).await;
                let open = self.open(vec![wanted(&[314159])]);
                format!("{one}; {}", self.duplex(echoed(Request::new(open))).await)
            }
            "mirrored_metadata" => {
                self.unary::<_, SimpleResponse>("UnaryCall", mirrored(SimpleRequest::default())).await
            }
            "client_compressed_unary" => {
                let mut squeezed = self.with(self.grpc.clone().send_compressed(Gzip));
                squeezed.unary::<_, SimpleResponse>("UnaryCall", mirrored(large())).await
            }
            "server_compressed_unary" => {
                let mut squeezed = self.with(self.grpc.clone().accept_compressed(Gzip));
                squeezed.unary::<_, SimpleResponse>("UnaryCall", mirrored(large())).await
            }
            "client_compressed_streaming" => self.with(self.grpc.clone().send_compressed(Gzip)).input().await,
            "server_compressed_streaming" => {
                self.with(self.grpc.clone().accept_compressed(Gzip)).output().await
            }
            other => panic!("no case {other}"),
        }
    }

    fn with(&self, grpc: Grpc<Channel>) -> Self {
        Self { grpc, mode: self.mode }
    }

    /// These messages, and where calls are denied no end after them.
    fn open<M: Send + 'static>(&self, messages: Vec<M>) -> impl Stream<Item = M> + Send + use<M> {
        let rest = stream::pending().take(usize::from(self.mode == Mode::Denied));
        stream::iter(messages).chain(rest)
    }

    async fn unary<Q, A>(&mut self, method: &str, request: Request<Q>) -> String
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.unary_at::<Q, A>(&format!("/grpc.testing.TestService/{method}"), request).await
    }

    async fn unary_at<Q, A>(&mut self, path: &str, request: Request<Q>) -> String
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.grpc.ready().await.expect("the connection");
        let codec = ProstCodec::<Q, A>::default();
        told(self.grpc.unary(request, path.parse().expect("a path"), codec).await)
    }

    async fn input(&mut self) -> String {
        let messages = REQUESTS.map(|size| InputRequest { payload: payload(size) }).to_vec();
        let request = Request::new(self.open(messages));
        let codec = ProstCodec::<InputRequest, InputResponse>::default();
        self.grpc.ready().await.expect("the connection");
        told(self.grpc.client_streaming(request, test("StreamingInputCall"), codec).await)
    }

    async fn output(&mut self) -> String {
        read(self.ask(wanted(&RESPONSES)).await).await
    }

    /// A call with one request and these responses.
    pub async fn ask(&mut self, asks: OutputRequest) -> Result<Response<Streaming<OutputResponse>>, Status> {
        let codec = ProstCodec::<OutputRequest, OutputResponse>::default();
        self.grpc.ready().await.expect("the connection");
        self.grpc.server_streaming(Request::new(asks), test("StreamingOutputCall"), codec).await
    }

    /// A call in both directions.
    pub async fn begin<S>(
        &mut self,
        request: Request<S>,
    ) -> Result<Response<Streaming<OutputResponse>>, Status>
    where
        S: Stream<Item = OutputRequest> + Send + 'static,
    {
        let codec = ProstCodec::<OutputRequest, OutputResponse>::default();
        self.grpc.ready().await.expect("the connection");
        self.grpc.streaming(request, test("FullDuplexCall"), codec).await
    }

    async fn duplex<S>(&mut self, request: Request<S>) -> String
    where
        S: Stream<Item = OutputRequest> + Send + 'static,
    {
        read(self.begin(request).await).await
    }

    async fn cancel_after_begin(&mut self) -> String {
        let request = Request::new(stream::pending::<InputRequest>());
        let codec = ProstCodec::<InputRequest, InputResponse>::default();
        self.grpc.ready().await.expect("the connection");
        let call = self.grpc.client_streaming(request, test("StreamingInputCall"), codec);
        // Dropped where nothing has come by then, and that is how tonic cancels.
        match tokio::time::timeout(Duration::from_millis(20), call).await {
            Err(_) => "CANCELLED".to_owned(),
            Ok(ended) => told(ended),
        }
    }

    async fn cancel_after_first_response(&mut self) -> String {
        let request = Request::new(stream::iter([wanted(&[31415])]).chain(stream::pending()));
        match self.begin(request).await {
            Ok(response) => match response.into_inner().message().await {
                Ok(first) => format!("{} octets, then dropped", first.map_or(0, |m| octets(&m).len())),
                Err(status) => told_status(&status, &[]),
            },
            Err(status) => told_status(&status, &[]),
        }
    }

    async fn timeout(&mut self) -> String {
        let sleeps = Wanted { size: 31415, interval_us: 1_500_000 };
        let asks = OutputRequest { response_parameters: vec![sleeps], ..OutputRequest::default() };
        let mut request = Request::new(self.open(vec![asks]));
        let patience = if self.mode == Mode::Denied { LIMIT } else { Duration::from_millis(200) };
        request.set_timeout(patience);
        let outcome = self.duplex(request).await;
        // The client's clock says the one, the server's the other; they run out together. Where the
        // server is tonic, neither ends a stream whose head has come.
        match outcome.split(' ').next() {
            Some("Cancelled" | "DeadlineExceeded") => "at its deadline".to_owned(),
            _ => outcome,
        }
    }
}

fn test(method: &str) -> http::uri::PathAndQuery {
    format!("/grpc.testing.TestService/{method}").parse().expect("a path")
}

fn large() -> SimpleRequest {
    SimpleRequest { response_size: 314159, payload: payload(271828), ..SimpleRequest::default() }
}

fn echoed<T>(mut request: Request<T>) -> Request<T> {
    let metadata = request.metadata_mut();
    metadata.insert("x-grpc-test-echo-initial", MetadataValue::from_static("test_initial_metadata_value"));
    metadata.insert_bin("x-grpc-test-echo-trailing-bin", MetadataValue::from_bytes(b"\xab\xab\xab\0\xff"));
    request
}

fn mirrored<T>(message: T) -> Request<T> {
    let mut metadata = MetadataMap::new();
    for (name, value) in [("x-mirror", "1"), ("x-twice", "one"), ("x-twice", "two, three"), ("x-empty", "")] {
        metadata.append(name, MetadataValue::from_static(value));
    }
    metadata.append("x-long", "l".repeat(4000).parse().expect("a value"));
    metadata.append("cookie", MetadataValue::from_static("a=b; c=d"));
    let octets: Vec<u8> = (0..=255).collect();
    metadata.append_bin("x-octets-bin", MetadataValue::from_bytes(&octets));
    Request::from_parts(metadata, Extensions::default(), message)
}

fn octets(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

fn shown(metadata: &MetadataMap) -> String {
    let mut all = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in metadata.as_ref() {
        all.entry(name.to_string()).or_default().push(value.as_bytes().escape_ascii().to_string());
    }
    all.remove("date");
    format!("{all:?}")
}

fn summed(messages: &[Vec<u8>]) -> String {
    let mut hasher = DefaultHasher::new();
    messages.iter().for_each(|message| hasher.write(message));
    format!("{} messages {:016x}", messages.len(), hasher.finish())
}

fn told_status(status: &Status, messages: &[Vec<u8>]) -> String {
    let (code, message) = (status.code(), status.message());
    format!("{code:?} {message:?} {} {}", summed(messages), shown(status.metadata()))
}

fn told<A: prost::Message>(result: Result<Response<A>, Status>) -> String {
    match result {
        Ok(response) => {
            let messages = [octets(response.get_ref())];
            format!("{:?} {} {}", Code::Ok, summed(&messages), shown(response.metadata()))
        }
        Err(status) => told_status(&status, &[]),
    }
}

async fn read<A: prost::Message>(result: Result<Response<Streaming<A>>, Status>) -> String {
    let (head, mut stream, _) = match result {
        Ok(response) => response.into_parts(),
        Err(status) => return told_status(&status, &[]),
    };
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(octets(&message)),
            Ok(None) => break,
            Err(status) => return told_status(&status, &messages),
        }
    }
    let trailers = stream.trailers().await.ok().flatten().unwrap_or_default();
    format!("{:?} {} {} {}", Code::Ok, summed(&messages), shown(&head), shown(&trailers))
}
