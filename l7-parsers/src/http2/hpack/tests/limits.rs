//! What is refused, what is bounded, and what the encoder keeps out of tables.

use super::*;
use crate::http2::hpack::huffman;

#[track_caller]
fn refused(block: &str, error: HpackError) {
    assert_eq!(decode(&mut Decoder::new(4096), &octets(block)), Err(error));
}

#[test]
fn broken_blocks_are_refused() {
    refused("80", HpackError::Index(0));
    refused("be", HpackError::Index(62));
    refused("7f00 00", HpackError::Index(63));
    refused("ff", HpackError::Truncated);
    refused("ff80 8080 8080", HpackError::Integer);
    refused("ff80 8080 8010", HpackError::Integer);
    refused("ffff ffff ff0f", HpackError::Integer);
    refused("ff81 ffff ff0f", HpackError::Integer);
    refused("ff80 ffff ff0f", HpackError::Index(u32::MAX));
    refused("00", HpackError::Truncated);
    refused("0001", HpackError::Truncated);
    refused("0001 61", HpackError::Truncated);
    refused("0001 6102 61", HpackError::Truncated);
    refused("007f ffff ffff 0f", HpackError::Integer);
    refused("007f 80ff ffff 0f61", HpackError::Truncated);
    refused("8220", HpackError::LateUpdate);
    refused("3fe2 1f", HpackError::Update(4097));
}

#[test]
fn updates_stand_before_the_fields() {
    let mut decoder = Decoder::new(4096);
    decode(&mut decoder, &octets("4001 6101 62 be")).unwrap();
    assert_eq!(decoder.table().size(), 34);
    assert_eq!(decode(&mut decoder, &octets("20 3fe1 1f 82")).unwrap(), fields(&[(":method", "GET")]));
    assert_eq!((decoder.table().size(), decoder.table().max()), (0, 4096));
    assert_eq!(decode(&mut decoder, &octets("be")), Err(HpackError::Index(62)));
}

#[test]
fn a_smaller_setting_binds_the_peer() {
    let mut decoder = Decoder::new(100);
    assert_eq!(decode(&mut decoder, &octets("3f46")), Err(HpackError::Update(101)));
    let mut decoder = Decoder::new(100);
    assert_eq!(decode(&mut decoder, &octets("3f45")), Ok(vec![]));
    // A larger one is used only once the peer says so.
    assert_eq!(Decoder::new(65536).table().max(), 4096);
}

#[test]
fn huffman_padding_is_at_most_seven_ones() {
    let decoded = |code: &str| {
        let mut out = Vec::new();
        huffman::decode(&octets(code), &mut out).map(|()| out)
    };
    assert_eq!(decoded("1f"), Ok(b"a".to_vec()));
    assert_eq!(decoded("1fff"), Err(HpackError::Huffman), "eight bits more");
    assert_eq!(decoded("1e"), Err(HpackError::Huffman), "a zero");
    assert_eq!(decoded("ff"), Err(HpackError::Huffman), "no symbol at all");
    assert_eq!(decoded("ffff fffc"), Err(HpackError::Huffman), "the end's symbol");
    assert_eq!(decoded("ffff ffff"), Err(HpackError::Huffman));
    assert_eq!(decoded(""), Ok(vec![]));
}

#[test]
fn huffman_codes_of_all_octets_come_back() {
    for octet in 0..=255u8 {
        for count in 1..=9 {
            let string = vec![octet; count];
            let mut code = Vec::new();
            huffman::encode(&string, &mut code);
            assert_eq!(code.len(), huffman::length(&string));
            let mut back = Vec::new();
            huffman::decode(&code, &mut back).unwrap();
            assert_eq!(back, string);
        }
    }
}

#[test]
fn fields_over_the_limit_are_read_but_not_shown() {
    // Three entries of 34 octets each, then the first of them again.
    let block = octets("4001 6101 31 4001 6201 32 4001 6301 33 c0");
    let mut decoder = Decoder::new(4096);
    let mut shown = Vec::new();
    let decoded = decoder.decode(&block, 34 * 2, |field| shown.push(field.name.to_vec())).unwrap();
    assert_eq!((decoded, shown), (Decoded::Overlong, vec![b"a".to_vec(), b"b".to_vec()]));
    assert_eq!(decoder.table().size(), 34 * 3);
    // A small one behind the one that was too large is not shown either.
    let mut shown = 0;
    let decoded =
        Decoder::new(4096).decode(&octets("0001 6103 313131 0001 6100"), 35, |_| shown += 1).unwrap();
    assert_eq!((decoded, shown), (Decoded::Overlong, 0));
    let decoded = Decoder::new(4096).decode(&block, 34 * 4, |_| ()).unwrap();
    assert_eq!(decoded, Decoded::Whole);
}

#[test]
fn fresh_ends_hold_no_memory_and_used_ones_a_bounded_one() {
    let (mut decoder, mut encoder) = (Decoder::new(4096), Encoder::new());
    assert_eq!((decoder.memory(), encoder.table().memory()), (0, 0));
    for round in 0..5000 {
        let value = "v".repeat(round % 700);
        let list = [("some-name", value.as_str()), (":path", &format!("/{round}")), ("x", "")];
        let block = encode(&mut encoder, &list);
        assert_eq!(decode(&mut decoder, &block).unwrap(), fields(&list));
        assert!(decoder.table().size() <= 4096 && encoder.table().size() <= 4096);
        assert!(decoder.memory() <= 2 * 4096 + 256 * 16 + 1024, "{}", decoder.memory());
    }
    let long = "w".repeat(100_000);
    let block = encode(&mut encoder, &[("x", &long)]);
    assert_eq!(decode(&mut decoder, &block).unwrap(), fields(&[("x", &long)]));
    assert!(decoder.memory() <= 2 * 4096 + 256 * 16 + 1024, "{}", decoder.memory());
}

#[test]
fn secrets_and_what_changes_stay_out_of_the_table() {
    let mut encoder = Encoder::new();
    for (name, value) in [
        ("authorization", "Bearer 1"),
        ("cookie", "a=b"),
        ("set-cookie", "a=b"),
        ("content-length", "12"),
        ("grpc-timeout", "1S"),
        ("traceparent", "00-1-1-00"),
        (":path", "/search?q=1"),
        ("x", &"y".repeat(1024)),
    ] {
        let first = encode(&mut encoder, &[(name, value)]);
        assert_eq!(encode(&mut encoder, &[(name, value)]), first);
        assert_eq!(first[0] & 0xf0, 0, "{name}");
    }
    let mut block = Vec::new();
    encoder.field(b"a", b"b", true, &mut block);
    assert_eq!(block, b"\x10\x01a\x01b");
    assert_eq!(encoder.table().len(), 0);
    // Everything else is one octet the second time.
    for list in
        [[(":path", "/pkg.Service/Method")], [("te", "trailers")], [("content-type", "application/grpc")]]
    {
        encode(&mut encoder, &list);
        assert_eq!(encode(&mut encoder, &list).len(), 1);
    }
}

#[test]
fn the_peers_setting_is_kept_and_said() {
    let list = [("a", "b")];
    let mut encoder = Encoder::new();
    encode(&mut encoder, &list);
    encoder.set_max_table(1 << 20);
    assert_eq!(encode(&mut encoder, &list), octets("be"), "4096 is enough");
    encoder.set_max_table(0);
    encoder.set_max_table(4096);
    assert_eq!(encode(&mut encoder, &list), octets("20 3fe1 1f 4001 6101 62"));
    encoder.set_max_table(0);
    assert_eq!(encode(&mut encoder, &list), octets("20 0001 6101 62"));
    assert_eq!(encode(&mut encoder, &list), octets("0001 6101 62"));
}

/// Fields that return among ones that do not; numbers of entries go round more than once.
#[test]
fn fields_that_return_are_found() {
    let (mut decoder, mut encoder) = (Decoder::new(4096), Encoder::new());
    let (rounds, mut indexed) = (150_000, 0);
    for round in 0..rounds {
        let (returns, once) = ((round % 23).to_string(), round.to_string());
        for (field, counts) in [(("a", returns.as_str()), true), (("c", once.as_str()), false)] {
            let block = encode(&mut encoder, &[field]);
            assert_eq!(decode(&mut decoder, &block).unwrap(), fields(&[field]));
            indexed += usize::from(counts && block[0] & 0x80 != 0);
        }
    }
    // The table has room for some 110: each of the 23 is put out, and added again, every 87 rounds or so,
    // when it has been used three times more: a quarter of its uses is written at length.
    assert!(indexed > rounds * 74 / 100, "{indexed}");
}
