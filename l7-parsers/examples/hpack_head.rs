//! What a head costs in HPACK: `cargo run --release -p l7-parsers --example hpack_head`.
//!
//! The least of many rounds, in nanoseconds a head, on a table that knows the head's fields (as that of a
//! connection with many calls does), and for fields that no table holds.

use std::{hint::black_box, time::Instant};

use l7_parsers::http2::hpack::{Decoded, Decoder, Encoder};

type Head = &'static [(&'static str, &'static str)];

const GRPC: Head = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/helloworld.Greeter/SayHello"),
    (":authority", "10.244.0.17:50051"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.75.0"),
    ("te", "trailers"),
    ("grpc-accept-encoding", "gzip"),
    ("x-tenant", "blue"),
    ("accept-encoding", "identity"),
];
const ANSWER: Head =
    &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0"), ("grpc-message", "")];
const BROWSER: Head = &[
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/search?q=once"),
    (":authority", "www.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("x-request-id", "7f9c24e5-5c2b-4f0e-9d27-3f2f6d2f7b10"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
];

fn main() {
    for (name, head) in [("gRPC request", GRPC), ("gRPC answer", ANSWER), ("browser's request", BROWSER)] {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let mut block = Vec::new();
        encode(&mut encoder, head, &mut block);
        let first = block.len();
        assert_eq!(decoder.decode(&block, usize::MAX, |_| ()), Ok(Decoded::Whole));
        let written = least(|| encode(&mut encoder, black_box(head), &mut block));
        let mut octets = 0;
        let read = least(|| {
            let decoded = decoder.decode(black_box(&block), 1 << 16, |field| {
                octets += black_box(field.name).len() + black_box(field.value).len();
            });
            assert_eq!(decoded, Ok(Decoded::Whole));
        });
        let last = block.len();
        println!(
            "{name:<18} {} fields, {first} octets, then {last}: {written:>4} ns to write, {read:>4} ns to read",
            head.len()
        );
    }
}

fn encode(encoder: &mut Encoder, head: Head, block: &mut Vec<u8>) {
    block.clear();
    encoder.start(block);
    for (name, value) in head {
        encoder.field(name.as_bytes(), value.as_bytes(), false, block);
    }
}

fn least(mut work: impl FnMut()) -> u128 {
    const TIMES: u32 = 20_000;
    let round = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        (0..TIMES).for_each(|_| work());
        begun.elapsed().as_nanos() / u128::from(TIMES)
    };
    (0..30).map(|_| round(&mut work)).min().unwrap_or_default()
}
