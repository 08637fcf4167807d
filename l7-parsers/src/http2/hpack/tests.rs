mod appendix_c;
mod limits;
mod reference;

use super::{Decoded, Decoder, Encoder, Field, HpackError};

type Owned = (Vec<u8>, Vec<u8>, bool);

fn owned(field: Field<'_>) -> Owned {
    (field.name.to_vec(), field.value.to_vec(), field.never_indexed)
}

/// All fields of a block that is within any limit.
fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Owned>, HpackError> {
    let mut fields = Vec::new();
    match decoder.decode(block, usize::MAX, |field| fields.push(owned(field)))? {
        Decoded::Whole => Ok(fields),
        Decoded::Overlong => panic!("over no limit"),
    }
}

fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.start(&mut block);
    for (name, value) in fields {
        encoder.field(name.as_bytes(), value.as_bytes(), false, &mut block);
    }
    block
}

fn fields(fields: &[(&str, &str)]) -> Vec<Owned> {
    fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec(), false)).collect()
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |octet: u8| (octet as char).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
