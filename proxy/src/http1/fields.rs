//! A message's header fields on their way through: which end at this hop, which go on.

use std::borrow::Cow;

use l7_parsers::http1::Field;
use policy_engine::http::{HeaderAction, Headers};

use crate::request::is_http;

/// Fields that go on, in the order in which they came.
#[derive(Default)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, [u8]>)>);

impl Headers for Fields<'_> {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        for found in self.values(name) {
            value(found);
        }
    }
}

impl<'a> Fields<'a> {
    pub(super) fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, [u8]>>) {
        self.0.push((name.into(), value.into()));
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    pub(super) fn apply(&mut self, action: &HeaderAction) {
        match action {
            HeaderAction::Log { .. } => {}
            HeaderAction::Add { name, value } => self.push(name.clone(), value.clone().into_bytes()),
            HeaderAction::Replace { name, value } => {
                let mut new = Some(Cow::Owned(value.clone().into_bytes()));
                // The first one takes the value, the others go.
                self.0.retain_mut(|(own, value)| {
                    !is(own, name) || new.take().map(|new| *value = new).is_some()
                });
                if let Some(new) = new {
                    self.push(name.clone(), new);
                }
            }
            HeaderAction::Delete { name } => self.remove(name),
        }
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    }

    /// Writes a line for each field. Names in lower case, so that what servers see has one form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.0 {
            let from = out.len();
            out.extend_from_slice(name.as_bytes());
            out[from..].make_ascii_lowercase();
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// A copy that does not depend on the read octets.
    pub(super) fn to_owned(&self) -> Fields<'static> {
        let own = |(name, value): &(Cow<'_, str>, Cow<'_, [u8]>)| {
            (Cow::Owned(name.to_string()), Cow::Owned(value.to_vec()))
        };
        Fields(self.0.iter().map(own).collect())
    }
}

/// What a message's Connection fields say (RFC 9110 §7.6.1).
#[derive(Default)]
pub(super) struct ConnectionOptions<'a>(Vec<&'a str>);

impl<'a> ConnectionOptions<'a> {
    pub(super) fn of(fields: impl Iterator<Item = Field<'a>>) -> Self {
        let mut options = Vec::new();
        for field in fields.filter(|field| is(field.name, "connection")) {
            let value = std::str::from_utf8(field.value).unwrap_or_default();
            options.extend(value.split(',').map(str::trim).filter(|option| !option.is_empty()));
        }
        Self(options)
    }

    pub(super) fn has(&self, option: &str) -> bool {
        self.0.iter().any(|own| is(own, option))
    }

    /// Whether the field ends at this hop. Transfer codings do: each side of the proxy has its own.
    pub(super) fn ends_here(&self, name: &str) -> bool {
        // Most names differ in length already.
        let hop = match name.len() {
            2 => is(name, "te"),
            7 => is(name, "upgrade"),
            10 => is(name, "connection") || is(name, "keep-alive"),
            14 => is(name, "http2-settings"),
            16 => is(name, "proxy-connection"),
            17 => is(name, "transfer-encoding"),
            _ => false,
        };
        hop || self.has(name)
    }
}

pub(super) fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// The protocols that an Upgrade field offers or chooses, but for other versions of HTTP, after which
/// requests would pass unread.
pub(super) fn other_protocols<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
    let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
    let protocols = texts.flat_map(|text| text.split(',').map(str::trim));
    protocols.filter(|protocol| !protocol.is_empty() && !is_http(protocol)).collect()
}

/// The names in a Trailer field, lower case: what else comes behind a body ends at this hop.
pub(super) fn announced_trailers<'a>(fields: impl Iterator<Item = Field<'a>>) -> Vec<String> {
    let mut names = Vec::new();
    for field in fields.filter(|field| is(field.name, "trailer")) {
        let value = std::str::from_utf8(field.value).unwrap_or_default();
        names.extend(value.split(',').map(|name| name.trim().to_ascii_lowercase()));
    }
    names
}
