//! Octets → [`Value`]. Strict, and bounded before it allocates: a length that the rest of the frame
//! cannot hold is refused, and a message has a budget of values whatever its octets say.

use bytes::Bytes;

use super::{
    schema::{Field, Kind, Layout},
    value::Value,
};

/// Why octets are no message of their version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("message ends inside a field")]
    Truncated,
    #[error("length that is negative or beyond the end of the message")]
    Length,
    #[error("null where the version has none")]
    Null,
    #[error("text that is not UTF-8")]
    Text,
    #[error("variable-length number of more than 32 bits")]
    Varint,
    #[error("tagged fields out of order, twice, or of another length than they say")]
    Tag,
    #[error("more values than a message may have")]
    TooManyValues,
}

/// A message and what was left out of it.
pub(super) struct Decoded {
    pub(super) value: Value,
    pub(super) extra: Extra,
}

/// Tagged fields that messages.txt does not know, which are optional by definition, and octets after the
/// end, which librdkafka sends at times and brokers ignore. Nothing that was not understood is passed
/// on: such a message is written again without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    None,
    Dropped,
}

/// Reads a whole body. `values` bounds how many values it may have.
pub(super) fn decode(
    layout: &Layout,
    body: &Bytes,
    version: i16,
    flexible: bool,
    values: usize,
) -> Result<Decoded, Malformed> {
    let mut reader = Reader::new(body, version, flexible, values);
    let value = reader.structure(layout)?;
    if reader.at != reader.end {
        reader.extra = Extra::Dropped;
    }
    Ok(Decoded { value, extra: reader.extra })
}

/// Where octets that nobody here looks into stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Where their length stands.
    pub(super) length_at: usize,
    pub(super) at: usize,
    pub(super) octets: usize,
}

/// Looks for the first octets (records) of a body of which `whole` are to come and `body` are here, which may
/// end anywhere. `None`: they are not here yet, are null, or the body is none of its version. `values` bounds
/// what may come before them.
pub(super) fn first_octets(
    layout: &Layout,
    body: &Bytes,
    whole: usize,
    version: i16,
    flexible: bool,
    values: usize,
) -> Option<Gap> {
    let mut reader = Reader::new(body, version, flexible, values);
    reader.end = whole;
    reader.stops = StopsAt::FirstOctets;
    // It stops there by an error.
    let _ = reader.structure(layout);
    reader.gap
}

/// How far a [`Reader`] goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StopsAt {
    TheEnd,
    FirstOctets,
}

pub(super) struct Reader<'a> {
    frame: &'a Bytes,
    pub(super) at: usize,
    /// Of the message; not all of it may be in `frame`.
    end: usize,
    stops: StopsAt,
    gap: Option<Gap>,
    version: i16,
    flexible: bool,
    values: usize,
    pub(super) extra: Extra,
}

impl<'a> Reader<'a> {
    pub(super) fn new(frame: &'a Bytes, version: i16, flexible: bool, values: usize) -> Self {
        let (stops, gap, extra) = (StopsAt::TheEnd, None, Extra::None);
        Self { frame, at: 0, end: frame.len(), stops, gap, version, flexible, values, extra }
    }

    fn take(&mut self, octets: usize) -> Result<&'a [u8], Malformed> {
        if octets > self.end - self.at {
            return Err(Malformed::Truncated);
        }
        let taken = self.frame.get(self.at..self.at + octets).ok_or(Malformed::Truncated)?;
        self.at += octets;
        Ok(taken)
    }

    pub(super) fn int(&mut self, octets: usize) -> Result<i64, Malformed> {
        let taken = self.take(octets)?;
        let sign = if taken[0] & 0x80 == 0 { 0 } else { -1 };
        Ok(taken.iter().fold(sign, |number, octet| number << 8 | i64::from(*octet)))
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut number = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let octet = self.take(1)?[0];
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| Malformed::Varint);
            }
        }
        Err(Malformed::Varint)
    }

    /// Length of a text, octets or an array; `None` is null.
    fn length(&mut self, fixed: usize, compact: bool) -> Result<Option<usize>, Malformed> {
        let length = if compact { i64::from(self.varint()?) - 1 } else { self.int(fixed)? };
        match length {
            -1 => Ok(None),
            _ => match usize::try_from(length) {
                Ok(length) if length <= self.end - self.at => Ok(Some(length)),
                _ => Err(Malformed::Length),
            },
        }
    }

    fn slice(&mut self, length: usize) -> Result<Bytes, Malformed> {
        let from = self.at;
        self.take(length)?;
        Ok(self.frame.slice(from..self.at))
    }

    pub(super) fn text(&mut self, compact: bool) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.length(2, compact)? else { return Ok(None) };
        let text = self.slice(length)?;
        std::str::from_utf8(&text).map_err(|_| Malformed::Text)?;
        Ok(Some(text))
    }

    fn spend(&mut self, values: usize) -> Result<(), Malformed> {
        self.values = self.values.checked_sub(values).ok_or(Malformed::TooManyValues)?;
        Ok(())
    }

    fn structure(&mut self, layout: &Layout) -> Result<Value, Malformed> {
        self.spend(layout.fields.len())?;
        let mut fields = Vec::with_capacity(layout.fields.len());
        for field in &layout.fields {
            fields.push(if field.is_inline(self.version, self.flexible) {
                self.field(field)?
            } else {
                Value::Absent
            });
        }
        if self.flexible {
            self.tags(Some(layout), &mut fields)?;
        }
        Ok(Value::Struct(fields))
    }

    /// The tagged section at the end of a struct or of a header (`layout` is none there).
    pub(super) fn tags(&mut self, layout: Option<&Layout>, fields: &mut [Value]) -> Result<(), Malformed> {
        let mut next = 0_u64;
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            if u64::from(tag) < next || length > self.end - self.at {
                return Err(Malformed::Tag);
            }
            next = u64::from(tag) + 1;
            let known = layout.into_iter().flat_map(|layout| layout.fields.iter().enumerate());
            match known.into_iter().find(|(_, field)| field.is_tagged(tag, self.version)) {
                Some((at, field)) => {
                    let outer = std::mem::replace(&mut self.end, self.at + length);
                    let value = self.field(field)?;
                    if self.at != self.end {
                        return Err(Malformed::Tag);
                    }
                    self.end = outer;
                    fields[at] = value;
                }
                None => {
                    self.at += length;
                    self.extra = Extra::Dropped;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<Value, Malformed> {
        let nullable = field.nullable.contains(self.version);
        let value = match &field.kind {
            Kind::Struct(layout) if nullable => match self.int(1)? {
                -1 => Value::Null,
                1 => self.structure(layout)?,
                _ => return Err(Malformed::Null),
            },
            kind => self.value(kind)?,
        };
        if value == Value::Null && !nullable {
            return Err(Malformed::Null);
        }
        Ok(value)
    }

    fn value(&mut self, kind: &Kind) -> Result<Value, Malformed> {
        Ok(match kind {
            Kind::Bool => Value::Bool(self.int(1)? != 0),
            Kind::Int8 => Value::Int(self.int(1)?),
            Kind::Int16 => Value::Int(self.int(2)?),
            Kind::Uint16 => Value::Int(self.int(2)? & 0xffff),
            Kind::Int32 => Value::Int(self.int(4)?),
            Kind::Int64 => Value::Int(self.int(8)?),
            Kind::Float64 => Value::Float(self.int(8)?.cast_unsigned()),
            Kind::Uuid => {
                let mut id = [0; 16];
                id.copy_from_slice(self.take(16)?);
                Value::Uuid(id)
            }
            Kind::Text => self.text(self.flexible)?.map_or(Value::Null, Value::Text),
            Kind::Octets => {
                let length_at = self.at;
                let length = self.length(4, self.flexible)?;
                if self.stops == StopsAt::FirstOctets {
                    self.gap = length.map(|octets| Gap { length_at, at: self.at, octets });
                    return Err(Malformed::Truncated);
                }
                match length {
                    Some(length) => Value::Octets(self.slice(length)?),
                    None => Value::Null,
                }
            }
            Kind::Struct(layout) => self.structure(layout)?,
            Kind::Array(element) => match self.length(4, self.flexible)? {
                Some(count) => self.array(element, count)?,
                None => Value::Null,
            },
        })
    }

    /// Each element takes an octet at least, so `count` is no more than what is left of the frame.
    fn array(&mut self, element: &Kind, count: usize) -> Result<Value, Malformed> {
        self.spend(count)?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            let before = self.at;
            let value = self.value(element)?;
            if value == Value::Null {
                return Err(Malformed::Null);
            }
            if self.at == before {
                return Err(Malformed::Length);
            }
            elements.push(value);
        }
        Ok(Value::Array(elements))
    }
}

impl Field {
    /// Whether the version has the field among the plain ones.
    pub(super) fn is_inline(&self, version: i16, flexible: bool) -> bool {
        self.versions.contains(version)
            && !(flexible && self.tag.is_some_and(|(_, versions)| versions.contains(version)))
    }

    pub(super) fn is_tagged(&self, tag: u32, version: i16) -> bool {
        self.versions.contains(version)
            && self.tag.is_some_and(|(number, versions)| number == tag && versions.contains(version))
    }
}
