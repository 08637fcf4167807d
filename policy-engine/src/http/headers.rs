//! How rules read a request's headers, whoever holds them.

use std::collections::BTreeMap;

/// The headers of a request.
pub trait Headers {
    /// Calls `value` with each value of the header, in order. Names compare without case.
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8]));
}

impl Headers for [(String, String)] {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        for (_, v) in self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
            value(v.as_bytes());
        }
    }
}

impl Headers for Vec<(String, String)> {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        self.as_slice().for_each(name, value);
    }
}

impl Headers for BTreeMap<String, String> {
    fn for_each(&self, name: &str, value: &mut dyn FnMut(&[u8])) {
        for (_, v) in self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
            value(v.as_bytes());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Absent,
    Equal,
    Different,
}

/// Compares a header, several values joined by commas, with a value; without joining them.
pub(super) fn compare(headers: &dyn Headers, name: &str, wanted: &[u8]) -> Comparison {
    let mut present = false;
    let mut rest = Some(wanted);
    headers.for_each(name, &mut |value| {
        if present {
            rest = rest.and_then(|rest| rest.strip_prefix(b","));
        }
        present = true;
        rest = rest.and_then(|rest| rest.strip_prefix(value));
    });
    match (present, rest) {
        (false, _) => Comparison::Absent,
        (true, Some([])) => Comparison::Equal,
        (true, _) => Comparison::Different,
    }
}
