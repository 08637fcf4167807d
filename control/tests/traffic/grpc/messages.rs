//! The messages of `interop.proto`, for tonic.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Flag {
    #[prost(bool, tag = "1")]
    pub value: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Payload {
    #[prost(bytes = "bytes", tag = "2")]
    pub body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SimpleRequest {
    #[prost(int32, tag = "2")]
    pub response_size: i32,
    #[prost(message, optional, tag = "3")]
    pub payload: Option<Payload>,
    #[prost(message, optional, tag = "6")]
    pub response_compressed: Option<Flag>,
    #[prost(message, optional, tag = "7")]
    pub response_status: Option<EchoStatus>,
    #[prost(message, optional, tag = "8")]
    pub expect_compressed: Option<Flag>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SimpleResponse {
    #[prost(message, optional, tag = "1")]
    pub payload: Option<Payload>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InputRequest {
    #[prost(message, optional, tag = "1")]
    pub payload: Option<Payload>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InputResponse {
    #[prost(int32, tag = "1")]
    pub aggregated_payload_size: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Wanted {
    #[prost(int32, tag = "1")]
    pub size: i32,
    #[prost(int32, tag = "2")]
    pub interval_us: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OutputRequest {
    #[prost(message, repeated, tag = "2")]
    pub response_parameters: Vec<Wanted>,
    #[prost(message, optional, tag = "3")]
    pub payload: Option<Payload>,
    #[prost(message, optional, tag = "7")]
    pub response_status: Option<EchoStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OutputResponse {
    #[prost(message, optional, tag = "1")]
    pub payload: Option<Payload>,
}

/// Octets that differ from place to place, so that none can be lost or doubled unseen.
pub fn payload(size: usize) -> Option<Payload> {
    let body = (0..size).map(|at| (at * 7 + (at >> 8)).to_le_bytes()[0]).collect();
    Some(Payload { body })
}

pub fn wanted(sizes: &[i32]) -> OutputRequest {
    let response_parameters = sizes.iter().map(|size| Wanted { size: *size, interval_us: 0 }).collect();
    OutputRequest { response_parameters, ..OutputRequest::default() }
}

pub fn status(message: &str) -> Option<EchoStatus> {
    Some(EchoStatus { code: 2, message: message.to_owned() })
}
