//! The fields of a header block in one piece of memory: decoded into it, judged, changed by rules, and
//! encoded out of it.

use l7_parsers::http2::hpack::Field;
use policy_engine::http::{HeaderAction, Headers};

/// Fields in the order in which they came. Names are in lower case once they have been checked.
#[derive(Clone, Default)]
pub(crate) struct Fields {
    octets: Vec<u8>,
    places: Vec<Place>,
}

/// Where a field stands: its name, and its value right behind.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    name: usize,
    value: usize,
    never_indexed: bool,
}

/// A text that stays in the memory of the fields, whatever becomes of its field.
#[derive(Clone, Copy)]
pub(super) struct Text {
    start: usize,
    length: usize,
    /// Of the field that it came in.
    pub(super) never_indexed: bool,
}

impl Fields {
    pub(super) fn push(&mut self, field: &Field<'_>) {
        let start = self.octets.len();
        self.octets.extend_from_slice(field.name);
        self.octets.extend_from_slice(field.value);
        let (name, value) = (field.name.len(), field.value.len());
        self.places.push(Place { start, name, value, never_indexed: field.never_indexed });
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.places.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.places.iter().map(|place| self.at(place))
    }

    fn at(&self, place: &Place) -> Field<'_> {
        let (name, value) = self.octets[place.start..][..place.name + place.value].split_at(place.name);
        Field { name, value, never_indexed: place.never_indexed }
    }

    /// The value of the first field of this name.
    pub(super) fn first(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|field| field.name == name.as_bytes()).map(|field| field.value)
    }

    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113 §6.5.2).
    pub(super) fn list_octets(&self) -> usize {
        self.octets.len() + 32 * self.places.len()
    }

    /// The value of the field at this place of the order.
    pub(super) fn value_of(&self, number: usize) -> Text {
        let place = &self.places[number];
        Text { start: place.start + place.name, length: place.value, never_indexed: place.never_indexed }
    }

    /// Keeps a text along with the fields, in place of another one.
    pub(super) fn keep(&mut self, text: &str, other: Text) -> Text {
        let start = self.octets.len();
        self.octets.extend_from_slice(text.as_bytes());
        Text { start, length: text.len(), ..other }
    }

    /// `None`: not UTF-8.
    pub(super) fn text(&self, text: Text) -> Option<&str> {
        std::str::from_utf8(&self.octets[text.start..][..text.length]).ok()
    }

    /// Takes the first fields out; their texts stay.
    pub(super) fn forget_first(&mut self, number: usize) {
        self.places.drain(..number);
    }

    pub(super) fn remove(&mut self, name: &str) {
        let octets = &self.octets;
        self.places
            .retain(|place| !octets[place.start..][..place.name].eq_ignore_ascii_case(name.as_bytes()));
    }

    /// Makes one field of several that have this name, in the place of the first.
    pub(super) fn join(&mut self, name: &str, between: &[u8]) {
        let mut parts =
            self.places.iter().enumerate().filter(|(_, place)| self.at(place).name == name.as_bytes());
        let Some((first, _)) = parts.next() else { return };
        if parts.next().is_none() {
            return;
        }
        let mut joined = Place { start: self.octets.len(), name: name.len(), value: 0, never_indexed: false };
        let mut text = name.as_bytes().to_vec();
        for field in self.iter().filter(|field| field.name == name.as_bytes()) {
            text.extend_from_slice(if text.len() == name.len() { b"" } else { between });
            text.extend_from_slice(field.value);
            joined.never_indexed |= field.never_indexed;
        }
        joined.value = text.len() - name.len();
        self.remove(name);
        self.octets.extend_from_slice(&text);
        self.places.insert(first, joined);
    }

    /// Does what a rule says.
    pub(super) fn apply(&mut self, action: &HeaderAction) {
        match action {
            HeaderAction::Log { .. } => {}
            HeaderAction::Add { name, value } => self.add(name, value),
            HeaderAction::Replace { name, value } => {
                self.remove(name);
                self.add(name, value);
            }
            HeaderAction::Delete { name } => self.remove(name),
        }
    }

    /// Name and value are well formed: an update with others was refused (`policy::rules`).
    fn add(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        self.push(&Field { name: name.as_bytes(), value: value.as_bytes(), never_indexed: false });
    }
}

impl Headers for Fields {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        for field in self.iter() {
            if field.name.eq_ignore_ascii_case(name.as_bytes()) {
                value(field.value);
            }
        }
    }
}

/// What is wrong with a field of a message (RFC 9113 §8.2); `None`: nothing. Pseudo-headers are not for here.
pub(super) fn fault_of(field: &Field<'_>) -> Option<&'static str> {
    match field.name {
        [] => return Some("header without a name"),
        [b':', ..] => return Some("pseudo-header where there is none"),
        name if name.iter().any(u8::is_ascii_uppercase) => return Some("header name in upper case"),
        name if !name.iter().all(|octet| is_token(*octet)) => {
            return Some("character that a header name cannot have");
        }
        _ => {}
    }
    if !is_value(field.value) {
        return Some("character that a header value cannot have");
    }
    is_hop(field).then_some("header that concerns one connection")
}

/// Of a name (RFC 9110 §5.6.2).
pub(super) fn is_token(octet: u8) -> bool {
    matches!(octet, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// No control characters but the tab.
pub(super) fn is_value(value: &[u8]) -> bool {
    value.iter().all(|octet| (*octet >= b' ' && *octet != 0x7f) || *octet == b'\t')
}

/// Fields that a message of HTTP/2 cannot have (RFC 9113 §8.2.2).
pub(super) fn is_hop(field: &Field<'_>) -> bool {
    match field.name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => true,
        b"te" => !field.value.eq_ignore_ascii_case(b"trailers"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.push(&Field { name: name.as_bytes(), value: value.as_bytes(), never_indexed: false });
        }
        fields
    }

    fn lines(fields: &Fields) -> Vec<(String, String)> {
        let text = |octets| String::from_utf8_lossy(octets).into_owned();
        fields.iter().map(|field| (text(field.name), text(field.value))).collect()
    }

    #[test]
    fn rules_change_them() {
        let (name, value) = ("X-Role".to_owned(), "user".to_owned());
        let before = [("a", "1"), ("x-role", "admin"), ("x-role", "root"), ("b", "")];
        for (action, after) in [
            (HeaderAction::Delete { name: name.clone() }, &[("a", "1"), ("b", "")][..]),
            (
                HeaderAction::Replace { name: name.clone(), value: value.clone() },
                &[("a", "1"), ("b", ""), ("x-role", "user")],
            ),
            (
                HeaderAction::Add { name: name.clone(), value: value.clone() },
                &[("a", "1"), ("x-role", "admin"), ("x-role", "root"), ("b", ""), ("x-role", "user")],
            ),
            (HeaderAction::Log { name, value }, &before),
        ] {
            let mut changed = fields(&before);
            changed.apply(&action);
            assert_eq!(lines(&changed), lines(&fields(after)), "{action:?}");
        }
    }

    #[test]
    fn crumbs_are_joined() {
        for (before, after) in [
            (&[("a", "1"), ("cookie", "x=1")][..], &[("a", "1"), ("cookie", "x=1")][..]),
            (&[("a", "1")], &[("a", "1")]),
            (
                &[("cookie", "x=1"), ("a", "1"), ("cookie", "y=2"), ("b", ""), ("cookie", "z")],
                &[("cookie", "x=1; y=2; z"), ("a", "1"), ("b", "")],
            ),
        ] {
            let mut joined = fields(before);
            joined.join("cookie", b"; ");
            assert_eq!(lines(&joined), lines(&fields(after)));
        }
    }

    #[test]
    fn faults_are_named() {
        for (name, value, fault) in [
            ("x", "y", ""),
            ("x-1_2", "ä \t z", ""),
            ("te", "trailers", ""),
            ("", "y", "without a name"),
            ("X", "y", "upper case"),
            (":x", "y", "pseudo-header"),
            ("x:y", "z", "header name cannot have"),
            ("x y", "y", "header name cannot have"),
            ("x", "y\r", "header value cannot have"),
            ("x", "\0", "header value cannot have"),
            ("x", "\x7f", "header value cannot have"),
            ("te", "gzip", "one connection"),
            ("connection", "close", "one connection"),
            ("upgrade", "h2c", "one connection"),
        ] {
            let field = Field { name: name.as_bytes(), value: value.as_bytes(), never_indexed: false };
            let found = fault_of(&field);
            assert_eq!(found.is_some(), !fault.is_empty(), "{name:?}: {value:?}");
            assert!(found.unwrap_or_default().contains(fault), "{found:?}");
        }
    }
}
