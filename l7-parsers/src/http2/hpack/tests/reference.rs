//! Held against another library: what one end writes the other reads, and both read a block alike.

use super::*;
use crate::http2::hpack::{huffman, integer};
use proptest::{collection::vec, prelude::*, sample::select};

type Pair = (Vec<u8>, Vec<u8>);

const NAMES: [&str; 12] = [
    ":method",
    ":path",
    ":status",
    "accept-encoding",
    "authorization",
    "content-length",
    "content-type",
    "grpc-timeout",
    "te",
    "user-agent",
    "x-some-name",
    "",
];

const VALUES: [&str; 10] = [
    "",
    "GET",
    "200",
    "/",
    "/pkg.Service/Method",
    "gzip, deflate",
    "application/grpc",
    "trailers",
    "0",
    "a\0\n\u{ff}",
];

/// Of few names and values, so that they meet again; some long enough to push out others, or to be
/// larger than the table.
fn a_string(of: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => select(of).prop_map(|text| text.as_bytes().to_vec()),
        3 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..5000_usize).prop_map(|(octet, count)| vec![octet; count]),
    ]
}

fn a_field() -> impl Strategy<Value = Owned> {
    (a_string(&NAMES), a_string(&VALUES), prop::bool::weighted(0.1))
}

fn a_size() -> impl Strategy<Value = usize> {
    prop_oneof![select(&[0, 32, 33, 100, 4095, 4096, 4097][..]), 0..5000_usize]
}

/// One representation of RFC 7541 §6, with indices and sizes that may be none of the table's.
#[derive(Clone, Debug)]
enum Piece {
    Indexed(usize),
    Literal { first: u8, name: Result<usize, (Vec<u8>, bool)>, value: (Vec<u8>, bool) },
    Update(usize),
}

fn a_piece() -> impl Strategy<Value = Piece> {
    let name = prop_oneof![(1..80_usize).prop_map(Ok), (a_string(&NAMES), any::<bool>()).prop_map(Err),];
    let value = (a_string(&VALUES), any::<bool>());
    prop_oneof![
        4 => (1..80_usize).prop_map(Piece::Indexed),
        8 => (select(&[0x40_u8, 0x40, 0x10, 0x00][..]), name, value)
            .prop_map(|(first, name, value)| Piece::Literal { first, name, value }),
        1 => a_size().prop_map(Piece::Update),
    ]
}

fn write(piece: &Piece, out: &mut Vec<u8>) {
    let string = |(octets, coded): &(Vec<u8>, bool), out: &mut Vec<u8>| {
        integer::put(
            if *coded { 0x80 } else { 0 },
            0x7f,
            if *coded { huffman::length(octets) } else { octets.len() },
            out,
        );
        if *coded { huffman::encode(octets, out) } else { out.extend_from_slice(octets) }
    };
    match piece {
        Piece::Indexed(index) => integer::put(0x80, 0x7f, *index, out),
        Piece::Literal { first, name, value } => {
            integer::put(*first, if *first == 0x40 { 0x3f } else { 0x0f }, *name.as_ref().unwrap_or(&0), out);
            if let Err(name) = name {
                string(name, out);
            }
            string(value, out);
        }
        Piece::Update(size) => integer::put(0x20, 0x1f, *size, out),
    }
}

fn other_decoder(most: usize) -> loona_hpack::Decoder<'static> {
    let mut decoder = loona_hpack::Decoder::new();
    decoder.set_max_allowed_table_size(most);
    decoder
}

fn pairs(list: &[Owned]) -> Vec<Pair> {
    list.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect()
}

/// Both read the block, and say the same but where ours is the stricter one. Whether to go on.
fn read_alike(ours: &mut Decoder, other: &mut loona_hpack::Decoder<'_>, block: &[u8]) -> bool {
    use loona_hpack::decoder::DecoderError;
    let mine = decode(ours, block);
    match (mine, other.decode(block)) {
        (Ok(mine), Ok(theirs)) => {
            assert_eq!(pairs(&mine), theirs);
            true
        }
        // A block of updates alone is one; it has the integers up to 2^28.
        (Ok(_), Err(DecoderError::SizeUpdateAtEnd | DecoderError::IntegerDecodingError(_))) => false,
        (Err(HpackError::LateUpdate), _) => false,
        (Err(_), Err(_)) => false,
        (mine, theirs) => panic!("{mine:?}, but {theirs:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_ours_writes_both_read(
        blocks in vec((vec(a_size(), 0..3), vec(a_field(), 0..12)), 1..12),
    ) {
        let mut encoder = Encoder::new();
        let (mut ours, mut other) = (Decoder::new(4096), other_decoder(4096));
        for (sizes, list) in &blocks {
            for &size in sizes {
                encoder.set_max_table(size);
            }
            let mut block = Vec::new();
            encoder.start(&mut block);
            for (name, value, never) in list {
                encoder.field(name, value, *never, &mut block);
            }
            let read = decode(&mut ours, &block).unwrap();
            prop_assert_eq!(&read, list);
            prop_assert_eq!(ours.table().size(), encoder.table().size());
            prop_assert!(sizes.last().is_none_or(|&size| encoder.table().size() <= size));
            // The other one does not take a block that has only updates, and has then made them.
            if !list.is_empty() {
                prop_assert_eq!(other.decode(&block).unwrap(), pairs(list));
            } else {
                let _ = other.decode(&block);
            }
        }
    }

    #[test]
    fn what_the_other_writes_ours_reads(lists in vec(vec(a_field(), 0..12), 1..12)) {
        let (mut encoder, mut ours) = (loona_hpack::Encoder::new(), Decoder::new(4096));
        for list in lists {
            let list = pairs(&list);
            let block = encoder.encode(list.iter().map(|(name, value)| (&name[..], &value[..])));
            prop_assert_eq!(pairs(&decode(&mut ours, &block).unwrap()), list);
        }
    }

    #[test]
    fn any_representation_is_read_alike(
        most in a_size(),
        blocks in vec((vec(a_size(), 0..3), vec(a_piece(), 0..12), any::<bool>()), 1..8),
    ) {
        let (mut ours, mut other) = (Decoder::new(most), other_decoder(most));
        other.set_max_table_size(most.min(4096));
        for (sizes, pieces, cut) in blocks {
            let mut block = Vec::new();
            sizes.into_iter().map(|size| Piece::Update(size % (most + 1))).for_each(|update| write(&update, &mut block));
            pieces.iter().for_each(|piece| write(piece, &mut block));
            if cut {
                block.truncate(block.len() / 2);
            }
            if !read_alike(&mut ours, &mut other, &block) {
                break;
            }
            prop_assert!(ours.table().size() <= most);
            prop_assert!(ours.memory() <= 2 * most.max(256) + most / 32 * 16 * 2 + 64 + 1024 + 64);
        }
    }

    #[test]
    fn any_octets_are_read_alike(blocks in vec(vec(any::<u8>(), 0..24), 1..6)) {
        let (mut ours, mut other) = (Decoder::new(4096), other_decoder(4096));
        for block in blocks {
            if !read_alike(&mut ours, &mut other, &block) {
                break;
            }
        }
    }

    #[test]
    fn a_limit_only_hides_the_end(limit in 0..2000_usize, lists in vec(vec(a_field(), 0..12), 1..6)) {
        let mut encoder = Encoder::new();
        let (mut all, mut some) = (Decoder::new(4096), Decoder::new(4096));
        for list in lists {
            let mut block = Vec::new();
            list.iter().for_each(|(name, value, never)| encoder.field(name, value, *never, &mut block));
            let whole = decode(&mut all, &block).unwrap();
            let mut shown = Vec::new();
            let decoded = some.decode(&block, limit, |field| shown.push(owned(field))).unwrap();
            let size = |fields: &[Owned]| -> usize { fields.iter().map(|(name, value, _)| name.len() + value.len() + 32).sum() };
            prop_assert_eq!(decoded == Decoded::Whole, size(&whole) <= limit);
            prop_assert_eq!(&shown[..], &whole[..shown.len()]);
            prop_assert!(shown.len() == whole.len() || size(&whole[..=shown.len()]) > limit);
        }
    }
}
