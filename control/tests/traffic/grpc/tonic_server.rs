//! The interoperability service on tonic.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv6Addr, TcpListener},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, future::BoxFuture, stream};
use http::Request as HttpRequest;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codec::CompressionEncoding::Gzip,
    metadata::{MetadataMap, MetadataValue},
    server::{Grpc, NamedService},
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::messages::{
    EchoStatus, InputRequest, InputResponse, OutputRequest, OutputResponse, SimpleRequest, SimpleResponse,
    payload,
};
use crate::netlab::Namespace;

/// Serves on a port of the namespace until the process ends.
pub fn start(ns: &Namespace, port: u16) {
    let listener = ns.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a free port"));
    listener.set_nonblocking(true).expect("a socket");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let incoming = TcpListenerStream::new(listener);
            Server::builder().add_service(Interop).serve_with_incoming(incoming).await.expect("serves");
        });
    });
}

#[derive(Clone)]
struct Interop;

impl NamedService for Interop {
    const NAME: &'static str = "grpc.testing.TestService";
}

impl Service<HttpRequest<Body>> for Interop {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path().rsplit('/').next() {
                Some("EmptyCall") => {
                    grpc().unary(service_fn(async |_: Request<()>| Ok(Response::new(()))), request).await
                }
                Some("UnaryCall") => grpc().unary(service_fn(simple), request).await,
                Some("StreamingInputCall") => grpc().client_streaming(service_fn(input), request).await,
                Some("StreamingOutputCall") => grpc().server_streaming(service_fn(output), request).await,
                Some("FullDuplexCall") => grpc().streaming(service_fn(duplex), request).await,
                _ => Status::unimplemented("no such method here").into_http(),
            })
        })
    }
}

fn grpc<A: prost::Message + Default + 'static, Q: prost::Message + Default + 'static>()
-> Grpc<ProstCodec<A, Q>> {
    Grpc::new(ProstCodec::default()).accept_compressed(Gzip).send_compressed(Gzip)
}

/// A status that a request asks for.
fn asked(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(Code::from(status.code), status.message)),
        _ => Ok(()),
    }
}

const INITIAL: &str = "x-grpc-test-echo-initial";
const TRAILING: &str = "x-grpc-test-echo-trailing-bin";

/// What a response says of its request's metadata.
fn echoed(seen: &MetadataMap) -> MetadataMap {
    let mut back = MetadataMap::new();
    if let Some(value) = seen.get(INITIAL) {
        back.insert(INITIAL, value.clone());
    }
    if let Some(value) = seen.get_bin(TRAILING) {
        back.insert_bin(TRAILING, value.clone());
    }
    if seen.contains_key("x-mirror") {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in seen.as_ref() {
            all.entry(name.to_string()).or_default().push(value.as_bytes().escape_ascii().to_string());
        }
        // What is left of a deadline when it comes is never the same.
        all.remove("grpc-timeout");
        back.insert_bin("x-seen-bin", MetadataValue::from_bytes(format!("{all:?}").as_bytes()));
    }
    back
}

async fn simple(request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
    let back = echoed(request.metadata());
    let request = request.into_inner();
    asked(request.response_status)?;
    let size = usize::try_from(request.response_size).map_err(|e| Status::invalid_argument(e.to_string()))?;
    let mut response = Response::new(SimpleResponse { payload: payload(size) });
    *response.metadata_mut() = back;
    Ok(response)
}

async fn input(request: Request<Streaming<InputRequest>>) -> Result<Response<InputResponse>, Status> {
    let mut messages = request.into_inner();
    let mut total = 0;
    while let Some(message) = messages.message().await? {
        total += message.payload.map_or(0, |payload| payload.body.len());
    }
    let aggregated_payload_size = i32::try_from(total).map_err(|e| Status::out_of_range(e.to_string()))?;
    Ok(Response::new(InputResponse { aggregated_payload_size }))
}

type Answers = Pin<Box<dyn Stream<Item = Result<OutputResponse, Status>> + Send>>;

fn answers(request: OutputRequest) -> Answers {
    if let Err(status) = asked(request.response_status) {
        return Box::pin(stream::iter([Err(status)]));
    }
    Box::pin(stream::iter(request.response_parameters).then(async |wanted| {
        tokio::time::sleep(Duration::from_micros(wanted.interval_us.unsigned_abs().into())).await;
        let size = usize::try_from(wanted.size).map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(OutputResponse { payload: payload(size) })
    }))
}

async fn output(request: Request<OutputRequest>) -> Result<Response<Answers>, Status> {
    Ok(Response::new(answers(request.into_inner())))
}

async fn duplex(request: Request<Streaming<OutputRequest>>) -> Result<Response<Answers>, Status> {
    let back = echoed(request.metadata());
    let all = request.into_inner().flat_map(|message| match message {
        Ok(message) => answers(message),
        Err(status) => Box::pin(stream::iter([Err(status)])),
    });
    let mut response = Response::new(Box::pin(all) as Answers);
    *response.metadata_mut() = back;
    Ok(response)
}
