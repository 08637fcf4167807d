//! An engine between a client and a broker that the test plays.

use std::time::Instant;

use bytes::{Buf, Bytes};

use crate::kafka::{
    Closing, Engine, Limits, Policy, Question, Record, Resource, Verdict, decode,
    encode::Pieces,
    header::{self, Header, Start},
    schema::{self, Message},
    value::Value,
};

/// Allows names that begin with `a`, whatever is asked of them, and nothing else.
pub(super) struct Names;

impl Policy for Names {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        let (Resource::Topic(name) | Resource::Group(name) | Resource::TransactionalId(name)) =
            question.resource
        else {
            return Verdict::Deny { rule: 9 };
        };
        if name.starts_with('a') { Verdict::Allow { rule: 5 } } else { Verdict::Deny { rule: 9 } }
    }
}

pub(super) struct Everything;

impl Policy for Everything {
    fn judge(&self, _: &Question<'_>) -> Verdict {
        Verdict::Allow { rule: 5 }
    }
}

pub(super) struct Nothing;

impl Policy for Nothing {
    fn judge(&self, _: &Question<'_>) -> Verdict {
        Verdict::Deny { rule: 9 }
    }
}

pub(super) struct Stage {
    pub(super) engine: Engine,
    pub(super) policy: Box<dyn Policy>,
}

/// A frame as the test sees it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) start: Start,
    pub(super) value: Value,
}

impl Stage {
    pub(super) fn new(policy: impl Policy + 'static) -> Self {
        // Small, so that both ways of a request are taken.
        let limits = Limits { streamed_octets: 64, ..Limits::default() };
        Self { engine: Engine::new(limits), policy: Box::new(policy) }
    }

    pub(super) fn client_says(&mut self, octets: &[u8]) {
        self.engine.ends().from_client.extend_from_slice(octets);
        self.engine.advance(&*self.policy, Instant::now());
    }

    pub(super) fn broker_says(&mut self, octets: &[u8]) {
        self.engine.ends().from_broker.extend_from_slice(octets);
        self.engine.advance(&*self.policy, Instant::now());
    }

    pub(super) fn at_broker(&mut self) -> Bytes {
        let left = self.engine.ends().to_broker.remaining();
        let octets = self.engine.ends().to_broker.copy_to_bytes(left);
        self.engine.advance(&*self.policy, Instant::now());
        octets
    }

    pub(super) fn at_client(&mut self) -> Bytes {
        let left = self.engine.ends().to_client.remaining();
        let octets = self.engine.ends().to_client.copy_to_bytes(left);
        self.engine.advance(&*self.policy, Instant::now());
        octets
    }

    /// The one request that the broker got.
    pub(super) fn request_at_broker(&mut self) -> Seen {
        let octets = self.at_broker();
        read_request(&octets)
    }

    /// The one answer that the client got, to a request of this kind.
    pub(super) fn answer_at_client(&mut self, key: i16, version: i16) -> Seen {
        let octets = self.at_client();
        read_answer(&octets, key, version)
    }

    pub(super) fn records(&mut self) -> Vec<Record> {
        std::iter::from_fn(|| self.engine.record()).collect()
    }

    pub(super) fn closed(&self) -> Option<Closing> {
        self.engine.closed()
    }
}

pub(super) fn message(key: i16) -> &'static Message {
    schema::message(key).expect("a known request")
}

pub(super) fn request(key: i16, version: i16, correlation_id: i32, value: &Value) -> Bytes {
    let message = message(key);
    let flexible = message.flexible.contains(version);
    let start = Start { api_key: key, api_version: version, correlation_id };
    let header = Header { start, client_id: Some("tests".into()), extra: decode::Extra::None };
    let mut pieces = Pieces::default();
    header.write(flexible, &mut pieces);
    pieces.structure(&message.request, value, version, flexible);
    pieces.into_frame().concat().into()
}

pub(super) fn answer(key: i16, version: i16, correlation_id: i32, value: &Value) -> Bytes {
    let message = message(key);
    let flexible = message.flexible.contains(version);
    let mut pieces = Pieces::default();
    header::write_answer(correlation_id, header::answer_is_flexible(message, version), &mut pieces);
    pieces.structure(&message.response, value, version, flexible);
    pieces.into_frame().concat().into()
}

/// # Panics
/// If it is not one whole frame.
pub(super) fn read_request(octets: &Bytes) -> Seen {
    let frame = one_frame(octets);
    let start = Start::read(&frame).unwrap();
    let message = message(start.api_key);
    let flexible = message.flexible.contains(start.api_version);
    let (header, body) = Header::read(&frame, flexible).unwrap();
    let body = frame.slice(body..);
    let decoded = decode::decode(&message.request, &body, start.api_version, flexible, 1 << 20).unwrap();
    Seen { start: header.start, value: decoded.value }
}

/// # Panics
/// If it is not one whole frame.
pub(super) fn read_answer(octets: &Bytes, key: i16, version: i16) -> Seen {
    let frame = one_frame(octets);
    let message = message(key);
    let at = header::skip_answer(&frame, header::answer_is_flexible(message, version)).unwrap();
    let flexible = message.flexible.contains(version);
    let body = frame.slice(at..);
    let decoded = decode::decode(&message.response, &body, version, flexible, 1 << 20).unwrap();
    let correlation_id = (&frame[..4]).get_i32();
    Seen { start: Start { api_key: key, api_version: version, correlation_id }, value: decoded.value }
}

fn one_frame(octets: &Bytes) -> Bytes {
    assert!(octets.len() >= 4, "no frame: {octets:?}");
    assert_eq!((&octets[..4]).get_u32() as usize, octets.len() - 4, "one frame, all of it");
    octets.slice(4..)
}

/// A struct of named fields: `fields(layout, [("Name", value)])`.
pub(super) fn fields<const N: usize>(layout: &schema::Layout, of: [(&str, Value); N]) -> Value {
    let mut value = Value::empty(layout);
    for (name, field) in of {
        assert!(layout.index(name).is_some(), "{name}");
        value.set(layout, name, field);
    }
    value
}
