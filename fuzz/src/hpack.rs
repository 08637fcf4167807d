//! HPACK: any blocks, one after the other, are read as loona-hpack reads them; what is written comes back,
//! from both; a limit of the list hides its end and nothing else.

use l7_parsers::http2::hpack::{Decoded, Decoder, Encoder, HpackError};
use loona_hpack::decoder::DecoderError;

use crate::draw::Draw;

type Owned = (Vec<u8>, Vec<u8>, bool);

const SIZES: [usize; 8] = [4096, 0, 31, 64, 100, 200, 4097, 65536];
const NAMES: [&str; 10] = [
    ":path",
    ":method",
    ":status",
    "te",
    "content-type",
    "content-length",
    "authorization",
    "grpc-message",
    "x-a",
    "x-b",
];
const VALUES: [&str; 9] =
    ["", "GET", "200", "/", "/pkg.Service/Method", "/a?b", "application/grpc", "trailers", "0"];

/// Octets of long strings in one input.
const LONG: usize = 3 << 12;

pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    if kind & 1 == 0 {
        read_alike(SIZES[usize::from(kind >> 1) % SIZES.len()], rest)
    } else {
        round_trip(rest)
    }
}

/// Blocks, each behind an octet that says how long it is.
fn read_alike(most: usize, mut data: &[u8]) {
    let (mut ours, mut limited, mut other) = (Decoder::new(most), Decoder::new(most), other_decoder(most));
    other.set_max_table_size(most.min(4096));
    while let Some((&length, rest)) = data.split_first() {
        let block;
        (block, data) = rest.split_at(rest.len().min(usize::from(length)));
        let mut mine = Vec::new();
        let read = decode(&mut ours, block, usize::MAX, &mut mine);
        let limit = usize::from(length) * 4;
        let mut shown = Vec::new();
        let part = decode(&mut limited, block, limit, &mut shown);
        assert_eq!(read.is_ok(), part.is_ok());
        assert_eq!(shown, mine[..shown.len()]);
        if let Ok(part) = part {
            assert_eq!(part == Decoded::Whole, list_size(&mine) <= limit);
        }
        match (read, other.decode(block)) {
            (Ok(Decoded::Whole), Ok(theirs)) => assert_eq!(pairs(&mine), theirs),
            // It does not take a block of updates alone, nor integers of five octets behind the first.
            (Ok(_), Err(DecoderError::SizeUpdateAtEnd | DecoderError::IntegerDecodingError(_))) => return,
            // It takes updates anywhere.
            (Err(HpackError::LateUpdate), _) | (Err(_), Err(_)) => return,
            (read, theirs) => panic!("{block:x?}: {read:?} {mine:?}, but {theirs:?}"),
        }
    }
}

fn round_trip(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut encoder = Encoder::new();
    let (mut ours, mut other) = (Decoder::new(4096), other_decoder(4096));
    // A few make a table turn over; more only take time.
    let mut long = LONG;
    while !draw.is_used_up() {
        for size in draw.many(2, |draw| draw.one(&SIZES)) {
            encoder.set_max_table(size);
        }
        let list: Vec<Owned> = draw.many(12, |draw| {
            (string(draw, &NAMES, &mut long), string(draw, &VALUES, &mut long), draw.chance(1, 8))
        });
        let mut block = Vec::new();
        encoder.start(&mut block);
        for (name, value, never) in &list {
            encoder.field(name, value, *never, &mut block);
        }
        let mut read = Vec::new();
        assert_eq!(decode(&mut ours, &block, usize::MAX, &mut read), Ok(Decoded::Whole));
        assert_eq!(read, list);
        match other.decode(&block) {
            Ok(theirs) => assert_eq!(theirs, pairs(&list)),
            Err(error) => assert!(list.is_empty(), "{error:?}"),
        }
    }
}

/// Of the vocabulary, the input's own, or so long that others have to leave the table.
fn string(draw: &mut Draw<'_>, of: &[&str], long: &mut usize) -> Vec<u8> {
    match draw.below(8) {
        0..=4 => draw.one(of).as_bytes().to_vec(),
        5 | 6 => draw.many(16, Draw::octet),
        _ => {
            let octet = draw.octet();
            let length = draw.below(1 << 12);
            let length = if length <= *long { length } else { length % 160 };
            *long -= length.min(*long);
            vec![octet; length]
        }
    }
}

fn decode(
    decoder: &mut Decoder,
    block: &[u8],
    limit: usize,
    fields: &mut Vec<Owned>,
) -> Result<Decoded, HpackError> {
    decoder.decode(block, limit, |field| {
        fields.push((field.name.to_vec(), field.value.to_vec(), field.never_indexed));
    })
}

fn other_decoder(most: usize) -> loona_hpack::Decoder<'static> {
    let mut decoder = loona_hpack::Decoder::new();
    decoder.set_max_allowed_table_size(most);
    decoder
}

fn list_size(list: &[Owned]) -> usize {
    list.iter().map(|(name, value, _)| name.len() + value.len() + 32).sum()
}

fn pairs(list: &[Owned]) -> Vec<(Vec<u8>, Vec<u8>)> {
    list.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect()
}
