//! The examples of RFC 7541 appendix C.

use super::*;
use crate::http2::hpack::integer::{self, Reader};

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

const RESPONSES: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
];

fn table(decoder: &Decoder) -> Vec<(String, String)> {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
    let table = decoder.table();
    (0..table.len()).map(|at| table.at(at).unwrap()).map(|(name, value)| (text(name), text(value))).collect()
}

/// Decodes blocks in sequence; after each the table has the size that the RFC shows.
fn sequence(max: usize, blocks: &[&str], lists: &[&[(&str, &str)]], sizes: &[usize]) -> Decoder {
    let mut decoder = Decoder::new(max);
    for ((block, list), &size) in blocks.iter().zip(lists).zip(sizes) {
        assert_eq!(decode(&mut decoder, &octets(block)).unwrap(), fields(list));
        assert_eq!(decoder.table().size(), size);
    }
    decoder
}

#[test]
fn c1_integers() {
    for (first, mask, value, written) in
        [(0, 0x1f, 10, "0a"), (0, 0x1f, 1337, "1f9a0a"), (0, 0xff, 42, "2a"), (0xe0, 0x1f, 10, "ea")]
    {
        let mut out = Vec::new();
        integer::put(first, mask, value, &mut out);
        assert_eq!(out, octets(written));
        let mut reader = Reader { block: &out, at: 0 };
        let first = reader.octet().unwrap();
        assert_eq!(reader.integer(first, mask).unwrap() as usize, value);
        assert_eq!(reader.at, out.len());
    }
}

#[test]
fn c2_literals_and_an_index() {
    let one = |block: &str| {
        let mut decoder = Decoder::new(4096);
        (decode(&mut decoder, &octets(block)).unwrap(), decoder.table().size())
    };
    assert_eq!(
        one("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"),
        (fields(&[("custom-key", "custom-header")]), 55)
    );
    assert_eq!(one("040c 2f73 616d 706c 652f 7061 7468"), (fields(&[(":path", "/sample/path")]), 0));
    assert_eq!(
        one("1008 7061 7373 776f 7264 0673 6563 7265 74"),
        (vec![(b"password".to_vec(), b"secret".to_vec(), true)], 0)
    );
    assert_eq!(one("82"), (fields(&[(":method", "GET")]), 0));
}

#[test]
fn c3_requests_without_huffman() {
    let decoder = sequence(
        4096,
        &[
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        &REQUESTS,
        &[57, 110, 164],
    );
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        table(&decoder),
        [
            text("custom-key", "custom-value"),
            text("cache-control", "no-cache"),
            text(":authority", "www.example.com")
        ]
    );
}

#[test]
fn c4_requests_with_huffman() {
    let blocks = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    sequence(4096, &blocks, &REQUESTS, &[57, 110, 164]);
    // The encoder chooses as the RFC's example does.
    let mut encoder = Encoder::new();
    for (block, list) in blocks.iter().zip(REQUESTS) {
        assert_eq!(encode(&mut encoder, list), octets(block));
    }
    assert_eq!(encoder.table().size(), 164);
}

#[test]
fn c5_responses_without_huffman_and_with_evictions() {
    let decoder = sequence(
        256,
        &[
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
             3d31",
        ],
        &RESPONSES,
        &[222, 222, 215],
    );
    let names: Vec<_> = table(&decoder).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["set-cookie", "content-encoding", "date"]);
}

#[test]
fn c6_responses_with_huffman_and_with_evictions() {
    sequence(
        256,
        &[
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ],
        &RESPONSES,
        &[222, 222, 215],
    );
}
