//! Messages with random content.

use bytes::Bytes;

use crate::kafka::{
    encode::Pieces,
    schema::{Kind, Layout},
    value::Value,
};

/// Numbers out of a seed; the tests need variety, and the same each time.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

pub(super) fn random_struct(layout: &Layout, version: i16, dice: &mut Dice) -> Value {
    let fields = layout.fields.iter().map(|field| {
        let tagged = field.tag.is_some_and(|(_, versions)| versions.contains(version));
        if !field.versions.contains(version) || tagged && dice.roll(2) == 0 {
            return Value::Absent;
        }
        if !tagged && field.nullable.contains(version) && dice.roll(4) == 0 {
            return Value::Null;
        }
        let value = random(&field.kind, version, dice);
        // A tagged field with its default may as well be left out, and kafka-protocol does.
        if tagged && value == Value::default_of(field) { Value::Absent } else { value }
    });
    Value::Struct(fields.collect())
}

fn random(kind: &Kind, version: i16, dice: &mut Dice) -> Value {
    let letters = |dice: &mut Dice| -> String {
        (0..dice.roll(9)).map(|_| char::from(b'a' + dice.roll(26) as u8)).collect()
    };
    match kind {
        Kind::Bool => Value::Bool(dice.roll(2) == 1),
        Kind::Int8 => Value::Int(dice.roll(256) as i64 - 128),
        Kind::Int16 => Value::Int(dice.roll(1 << 16) as i64 - (1 << 15)),
        Kind::Uint16 => Value::Int(dice.roll(1 << 16) as i64),
        Kind::Int32 => Value::Int(dice.roll(1 << 32) as i64 - (1 << 31)),
        Kind::Int64 => Value::Int(dice.roll(u64::MAX).cast_signed()),
        Kind::Float64 => Value::Float((dice.roll(1000) as f64 / 8.0).to_bits()),
        Kind::Uuid => Value::Uuid([dice.roll(256) as u8; 16]),
        Kind::Text => Value::text(&letters(dice)),
        Kind::Octets => Value::Octets(Bytes::from(letters(dice))),
        Kind::Struct(layout) => random_struct(layout, version, dice),
        Kind::Array(element) => {
            Value::Array((0..dice.roll(3)).map(|_| random(element, version, dice)).collect())
        }
    }
}

pub(super) fn written(layout: &Layout, value: &Value, version: i16, flexible: bool) -> Bytes {
    let mut pieces = Pieces::default();
    pieces.structure(layout, value, version, flexible);
    let frame: Vec<u8> = pieces.into_frame().concat();
    Bytes::from(frame).slice(4..)
}
