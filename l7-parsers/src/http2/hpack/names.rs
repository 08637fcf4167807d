//! The names that the encoder knows: their place in the static table, and which never enter a table.

use super::fixed::FIELDS;

/// Fields whose value is another one each time, and would push out those that return; and secrets,
/// which no guess may be compressed against (RFC 7541 §7.1).
const FLEETING: [&str; 44] = [
    "age",
    "authorization",
    "baggage",
    "content-length",
    "content-range",
    "cookie",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status-details-bin",
    "grpc-tags-bin",
    "grpc-timeout",
    "grpc-trace-bin",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "www-authenticate",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-api-key",
    "x-auth-token",
    "x-b3-parentspanid",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-csrf-token",
    "x-envoy-upstream-service-time",
    "x-request-id",
    "x-request-start",
];

/// A name that has a place in the static table, or in [`FLEETING`], or in both.
#[derive(Clone, Copy)]
pub(super) struct Known {
    name: &'static str,
    /// Its first index in the static table; 0: none.
    pub(super) index: u8,
    /// How many indices it has there.
    count: u8,
    pub(super) fleeting: bool,
}

const MOST: usize = FIELDS.len() + FLEETING.len();
const SLOTS: usize = 256;

struct Names {
    known: [Known; MOST],
    /// By the low bits of a name's hash, or behind: the place in `known`, and 1 added; 0 is the end.
    slots: [u8; SLOTS],
}

static NAMES: Names = build();

const fn build() -> Names {
    let none = Known { name: "", index: 0, count: 0, fleeting: false };
    let mut names = Names { known: [none; MOST], slots: [0; SLOTS] };
    let mut count = 0;
    let mut at = 0;
    while at < FIELDS.len() {
        let name = FIELDS[at].0;
        if count > 0 && equal(names.known[count - 1].name, name) {
            names.known[count - 1].count += 1;
        } else {
            names.known[count] = Known { name, index: at as u8 + 1, count: 1, fleeting: false };
            count += 1;
        }
        at += 1;
    }
    at = 0;
    while at < FLEETING.len() {
        let name = FLEETING[at];
        let mut place = 0;
        while place < count && !equal(names.known[place].name, name) {
            place += 1;
        }
        if place == count {
            names.known[count] = Known { name, ..none };
            count += 1;
        }
        names.known[place].fleeting = true;
        at += 1;
    }
    at = 0;
    while at < count {
        let mut slot = hash(0, names.known[at].name.as_bytes()) as usize % SLOTS;
        while names.slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        names.slots[slot] = at as u8 + 1;
        at += 1;
    }
    names
}

const fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A name with `hash(0, name)`.
#[inline]
pub(super) fn find(hash: u32, name: &[u8]) -> Option<&'static Known> {
    let mut slot = hash as usize % SLOTS;
    loop {
        let known = &NAMES.known[usize::from(NAMES.slots[slot]).checked_sub(1)?];
        if known.name.as_bytes() == name {
            return Some(known);
        }
        slot = (slot + 1) % SLOTS;
    }
}

impl Known {
    /// The index in the static table that has this value too.
    #[inline]
    pub(super) fn with_value(&self, value: &[u8]) -> Option<usize> {
        let first = usize::from(self.index);
        (first..first + usize::from(self.count))
            .find(|&index| !value.is_empty() && FIELDS[index - 1].1.as_bytes() == value)
    }
}

/// A hash for finding, not for trust: who makes two fields collide makes them longer, nothing else.
#[inline]
pub(super) const fn hash(seed: u32, octets: &[u8]) -> u32 {
    let mut state = mix(seed as u64, octets.len() as u64);
    let mut rest = octets;
    while let Some((word, left)) = rest.split_first_chunk::<8>() {
        state = mix(state, u64::from_le_bytes(*word));
        rest = left;
    }
    // What is left of a word: two halves that may overlap.
    let tail = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            (u32::from_le_bytes(*first) as u64) << 32 | u32::from_le_bytes(*last) as u64
        }
        _ => match rest {
            [] => 0,
            [first, .., last] => (*first as u64) << 16 | (rest[1] as u64) << 8 | *last as u64,
            [only] => *only as u64,
        },
    };
    state = mix(state, tail);
    (state ^ state >> 32) as u32
}

#[inline]
const fn mix(state: u64, word: u64) -> u64 {
    (state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
