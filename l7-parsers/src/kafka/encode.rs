//! [`Value`] → octets. Long texts and records are not copied: they go out as the slices that came in.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    schema::{Field, Kind, Layout},
    value::Value,
};

/// From this size on a slice is worth a write of its own.
const SLICE: usize = 4096;

/// Pieces of a frame, in order.
#[derive(Default)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    tail: BytesMut,
}

impl Pieces {
    fn slice(&mut self, octets: &Bytes) {
        if octets.len() < SLICE {
            self.tail.put_slice(octets);
        } else {
            self.done.push(self.tail.split().freeze());
            self.done.push(octets.clone());
        }
    }

    /// The frame with its length in front.
    pub(super) fn into_frame(mut self) -> Vec<Bytes> {
        self.done.push(self.tail.freeze());
        let length: usize = self.done.iter().map(Bytes::len).sum();
        let first = &self.done[0];
        let mut start = BytesMut::with_capacity(4 + first.len());
        start.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        start.put_slice(first);
        self.done[0] = start.freeze();
        self.done
    }

    pub(super) fn int(&mut self, number: i64, octets: usize) {
        self.tail.put_slice(&number.to_be_bytes()[8 - octets..]);
    }

    pub(super) fn varint(&mut self, number: usize) {
        let mut rest = number;
        while rest >= 0x80 {
            self.tail.put_u8((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.tail.put_u8(rest as u8);
    }

    fn length(&mut self, length: Option<usize>, fixed: usize, compact: bool) {
        match (length, compact) {
            (length, true) => self.varint(length.map_or(0, |length| length + 1)),
            (Some(length), false) => self.int(length as i64, fixed),
            (None, false) => self.int(-1, fixed),
        }
    }

    pub(super) fn text(&mut self, text: Option<&Bytes>, compact: bool) {
        self.length(text.map(Bytes::len), 2, compact);
        if let Some(text) = text {
            self.slice(text);
        }
    }

    /// A struct of this layout; what is absent in it gets its default.
    pub(super) fn structure(&mut self, layout: &Layout, value: &Value, version: i16, flexible: bool) {
        let mut tagged = Vec::new();
        for (at, field) in layout.fields.iter().enumerate() {
            let given = value.fields().get(at).unwrap_or(&Value::Absent);
            if field.is_inline(version, flexible) {
                self.field(field, given, version, flexible);
            } else if let (Some((tag, _)), true) = (field.tag, field.versions.contains(version))
                && *given != Value::Absent
            {
                tagged.push((tag, field, given));
            }
        }
        if flexible {
            tagged.sort_by_key(|(tag, ..)| *tag);
            self.varint(tagged.len());
            for (tag, field, given) in tagged {
                let mut inside = Pieces::default();
                inside.field(field, given, version, flexible);
                let length = inside.done.iter().map(Bytes::len).sum::<usize>() + inside.tail.len();
                self.varint(tag as usize);
                self.varint(length);
                inside.done.iter().for_each(|piece| self.tail.put_slice(piece));
                self.tail.put_slice(&inside.tail);
            }
        }
    }

    fn field(&mut self, field: &Field, given: &Value, version: i16, flexible: bool) {
        let mut default = Value::default_of(field);
        if default == Value::Null && !field.nullable.contains(version) {
            default = match field.kind {
                Kind::Array(_) => Value::Array(Vec::new()),
                Kind::Octets => Value::Octets(Bytes::new()),
                _ => Value::text(""),
            };
        }
        let value = if *given == Value::Absent { &default } else { given };
        if let (Kind::Struct(layout), true) = (&field.kind, field.nullable.contains(version)) {
            let null = *value == Value::Null;
            self.int(if null { -1 } else { 1 }, 1);
            if !null {
                self.structure(layout, value, version, flexible);
            }
            return;
        }
        self.value(&field.kind, value, version, flexible);
    }

    fn value(&mut self, kind: &Kind, value: &Value, version: i16, flexible: bool) {
        match (kind, value) {
            (Kind::Bool, value) => self.int(i64::from(*value == Value::Bool(true)), 1),
            (Kind::Int8, value) => self.int(value.as_int().unwrap_or(0), 1),
            (Kind::Int16 | Kind::Uint16, value) => self.int(value.as_int().unwrap_or(0), 2),
            (Kind::Int32, value) => self.int(value.as_int().unwrap_or(0), 4),
            (Kind::Int64, value) => self.int(value.as_int().unwrap_or(0), 8),
            (Kind::Float64, Value::Float(bits)) => self.tail.put_u64(*bits),
            (Kind::Float64, _) => self.tail.put_u64(0),
            (Kind::Uuid, value) => self.tail.put_slice(&value.as_uuid().unwrap_or_default()),
            (Kind::Text, Value::Text(text)) => self.text(Some(text), flexible),
            (Kind::Text, _) => self.text(None, flexible),
            (Kind::Octets, Value::Octets(octets)) => {
                self.length(Some(octets.len()), 4, flexible);
                self.slice(octets);
            }
            (Kind::Octets, _) => self.length(None, 4, flexible),
            (Kind::Struct(layout), value) => self.structure(layout, value, version, flexible),
            (Kind::Array(element), Value::Array(elements)) => {
                self.length(Some(elements.len()), 4, flexible);
                elements.iter().for_each(|item| self.value(element, item, version, flexible));
            }
            (Kind::Array(_), _) => self.length(None, 4, flexible),
        }
    }
}
