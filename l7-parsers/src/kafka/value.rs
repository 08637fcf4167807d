//! A message in memory, whatever its kind: a tree of values beside a [`Layout`].

use bytes::Bytes;

use super::schema::{Field, Kind, Layout};

/// Texts and octets are slices of the frame that they came in; nothing is copied.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Not in this version, or a tagged field that was left out.
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    /// The bits of a float.
    Float(u64),
    Uuid([u8; 16]),
    /// Checked to be UTF-8 when read.
    Text(Bytes),
    Octets(Bytes),
    Array(Vec<Value>),
    Struct(Vec<Value>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn as_uuid(&self) -> Option<[u8; 16]> {
        match self {
            Self::Uuid(id) => Some(*id),
            _ => None,
        }
    }

    /// Elements of an array; none of anything else.
    pub(super) fn elements(&self) -> &[Value] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// Fields of a struct; none of anything else.
    pub(super) fn fields(&self) -> &[Value] {
        match self {
            Self::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// The field of a struct, [`Value::Absent`] where there is none.
    pub(super) fn get(&self, layout: &Layout, name: &str) -> &Value {
        layout.index(name).and_then(|at| self.fields().get(at)).unwrap_or(&Self::Absent)
    }

    pub(super) fn get_mut(&mut self, layout: &Layout, name: &str) -> Option<&mut Value> {
        match self {
            Self::Struct(fields) => fields.get_mut(layout.index(name)?),
            _ => None,
        }
    }

    /// The elements of an array, which is empty afterwards.
    pub(super) fn take_elements(&mut self) -> Vec<Value> {
        match self {
            Self::Array(elements) => std::mem::take(elements),
            _ => Vec::new(),
        }
    }

    /// Writes a field, if the layout has it.
    pub(super) fn set(&mut self, layout: &Layout, name: &str, value: Value) {
        if let Some(field) = self.get_mut(layout, name) {
            *field = value;
        }
    }

    /// Copies what is a slice of a frame, so that the frame can go.
    pub(super) fn detach(&mut self) {
        match self {
            Self::Text(octets) | Self::Octets(octets) => *octets = Bytes::copy_from_slice(octets),
            Self::Array(values) | Self::Struct(values) => values.iter_mut().for_each(Self::detach),
            Self::Absent | Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Uuid(_) => {}
        }
    }

    /// Octets of memory that it takes.
    pub(super) fn octets(&self) -> usize {
        let inside = match self {
            Self::Text(octets) | Self::Octets(octets) => octets.len(),
            Self::Array(values) | Self::Struct(values) => values.iter().map(Self::octets).sum(),
            Self::Absent | Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Uuid(_) => 0,
        };
        size_of::<Self>() + inside
    }

    /// A struct where every field has its default.
    pub(super) fn empty(layout: &Layout) -> Self {
        Self::Struct(vec![Self::Absent; layout.fields.len()])
    }

    /// What the field has where nobody says otherwise.
    pub(super) fn default_of(field: &Field) -> Self {
        match (&field.kind, field.default) {
            (_, Some("null")) => Self::Null,
            (Kind::Bool, default) => Self::Bool(default == Some("true")),
            (Kind::Float64, default) => {
                let number: f64 = default.map_or(0.0, |text| text.parse().unwrap_or(0.0));
                Self::Float(number.to_bits())
            }
            (Kind::Uuid, _) => Self::Uuid([0; 16]),
            (Kind::Text, default) => Self::text(default.unwrap_or_default()),
            (Kind::Octets, _) => Self::Octets(Bytes::new()),
            (Kind::Struct(layout), _) => Self::empty(layout),
            (Kind::Array(_), _) => Self::Array(Vec::new()),
            (_, default) => Self::Int(default.map_or(0, |text| text.parse().unwrap_or(0))),
        }
    }
}
