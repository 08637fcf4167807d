//! Many streams of one connection at a time, and streams that somebody reads slowly.

use std::{fs, time::Duration};

use futures::{StreamExt, future::join_all, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::{
    messages::{OutputRequest, OutputResponse, payload, wanted},
    stage::{Stage, start_go},
    tonic_client::{Client, Mode},
};
use crate::netlab::LIMIT;

const CLIENTS: &[(&str, &str)] = &[("client", "grpc: [{service: grpc.testing.TestService}]")];

const STREAMS: usize = 1000;
/// What the proxy's memory may grow by, in KB: not what slow peers have been sent, but what is on its way.
const GROWTH: usize = 48 << 10;

/// Resident memory of the lab's proxy, in KB.
fn memory(stage: &Stage) -> usize {
    let [proxy] = stage.lab.proxies()[..] else { panic!("one proxy") };
    let status = fs::read_to_string(format!("/proc/{proxy}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

pub fn within<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(4 * LIMIT, future).await.expect("an end in time") })
}

/// A call in both directions, open: it has had one answer.
pub struct Call {
    to: mpsc::Sender<OutputRequest>,
    pub from: Streaming<OutputResponse>,
}

impl Call {
    pub async fn begin(client: &Client) -> Self {
        let (to, requests) = mpsc::channel(4);
        to.send(wanted(&[100])).await.expect("room");
        let mut client = client.again();
        let response = client.begin(Request::new(ReceiverStream::new(requests))).await.expect("an answer");
        let mut call = Self { to, from: response.into_inner() };
        call.answered().await;
        call
    }

    async fn answered(&mut self) {
        let message = self.from.message().await.expect("a message").expect("no end yet");
        assert_eq!(message.payload.expect("a payload").body.len(), 100);
    }

    async fn finish(self) {
        let Self { to, mut from } = self;
        drop(to);
        assert!(from.message().await.expect("status 0").is_none());
    }
}

#[test]
fn a_thousand_streams_are_open_on_one_connection() {
    let stage = Stage::new(CLIENTS, start_go);
    within(async {
        let client = Client::connect(&stage.client("client").ns, stage.v4(), Mode::Allowed).await;
        Call::begin(&client).await.finish().await;
        let before = memory(&stage);
        let mut calls = join_all((0..STREAMS).map(|_| Call::begin(&client))).await;
        let open = memory(&stage);
        println!("{STREAMS} streams open: the proxy has {before} KB before, {open} KB then");
        // None has ended: each is asked once more, when all are open.
        join_all(calls.iter_mut().map(async |call| {
            call.to.send(wanted(&[100])).await.expect("the stream is open");
            call.answered().await;
        }))
        .await;
        join_all(calls.into_iter().map(Call::finish)).await;
        assert!(open < before + GROWTH, "{before} KB, {open} KB");
    });
}

/// Streams that are not read for a while: the sizes of their messages, large ones and many small ones.
const SLOW: [&[i32]; 3] = [&[1 << 20; 32], &[100; 20_000], &[1 << 14; 2000]];

#[test]
fn streams_that_are_read_slowly_stall_no_other() {
    let stage = Stage::new(CLIENTS, start_go);
    within(async {
        let mut client = Client::connect(&stage.client("client").ns, stage.v4(), Mode::Allowed).await;
        println!("{}", client.case("large_unary").await);
        let before = memory(&stage);
        let mut slow = Vec::new();
        for sizes in SLOW {
            slow.push(client.ask(wanted(sizes)).await.expect("a response").into_inner());
        }
        for _ in 0..50 {
            let outcome = client.case("large_unary").await;
            assert!(outcome.starts_with("large_unary: Ok "), "{outcome}");
        }
        let then = memory(&stage);
        println!("{} streams are not read: the proxy has {before} KB before, {then} KB then", SLOW.len());
        assert!(then < before + GROWTH, "{before} KB, {then} KB");
        for (sizes, mut slow) in SLOW.iter().zip(slow) {
            let mut messages = 0;
            while let Some(message) = slow.message().await.expect("a message") {
                let size = message.payload.expect("a payload").body.len();
                assert_eq!(i32::try_from(size).expect("small"), sizes[messages]);
                messages += 1;
            }
            assert_eq!(messages, sizes.len());
        }
    });
}

/// What is sent on a stream that the server does not read: 32 MB in all.
const UPLOAD: usize = 32;

#[test]
fn a_server_that_reads_a_stream_slowly_stalls_no_other() {
    let stage = Stage::new(CLIENTS, start_go);
    within(async {
        let mut client = Client::connect(&stage.client("client").ns, stage.v4(), Mode::Allowed).await;
        let before = memory(&stage);
        // grpc-go's server sleeps before it answers and reads on.
        let mut first = wanted(&[100]);
        first.response_parameters[0].interval_us = 4_000_000;
        let rest = (0..UPLOAD).map(|_| OutputRequest { payload: payload(1 << 20), ..wanted(&[100]) });
        let mut slow = client.again();
        let slow = async {
            let call = slow.begin(Request::new(stream::iter([first]).chain(stream::iter(rest)))).await;
            let mut answers = call.expect("a response").into_inner();
            let mut messages = 0;
            while let Some(message) = answers.message().await.expect("a message") {
                assert_eq!(message.payload.expect("a payload").body.len(), 100);
                messages += 1;
            }
            messages
        };
        let others = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            for _ in 0..20 {
                let outcome = client.case("large_unary").await;
                assert!(outcome.starts_with("large_unary: Ok "), "{outcome}");
            }
            memory(&stage)
        };
        let (messages, then) = futures::join!(slow, others);
        println!("one stream is not read: the proxy has {before} KB before, {then} KB then");
        assert!(then < before + GROWTH, "{before} KB, {then} KB");
        assert_eq!(messages, UPLOAD + 1);
    });
}
