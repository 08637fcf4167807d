//! Which protocol a client speaks, from its first octets.

use std::io;

use crate::{
    capture::{Captured, Flow},
    http1::{Clock, Limit},
    worker::Worker,
};

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// With prior knowledge.
    Http2,
    /// Only where rules expect it.
    Kafka,
}

/// What a connection may turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Http,
    HttpOrKafka,
}

/// A captured connection whose protocol is known.
pub struct Detected {
    pub captured: Captured,
    pub protocol: Protocol,
    /// Octets read so far; they belong to the protocol's parser.
    pub read: Vec<u8>,
}

/// Why there is no request to judge.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error("not HTTP")]
    NotHttp,
    #[error("neither Kafka nor HTTP")]
    NotKafka,
    #[error("no request within the time limit")]
    Silent,
    #[error("closed before a request")]
    Closed,
    #[error("request cut off")]
    CutOff,
    #[error("broken connection: {0}")]
    Broken(#[source] io::Error),
}

impl Captured {
    /// Reads until the octets can only be one protocol's.
    ///
    /// # Errors
    /// Where they are of no expected protocol, or none come in time. Returns the flow to name in the record.
    pub async fn detect(
        mut self,
        expected: Expected,
        worker: &Worker,
    ) -> Result<Detected, (Flow, DetectError)> {
        let flow = self.flow;
        let limits = &worker.limits;
        let (mut read, mut clock) = (Vec::new(), Clock::default());
        let mut time = limits.first_octet_time;
        loop {
            let (stream, mut limit) = (&mut self.stream, Limit::of(time));
            let reading = clock.within(&mut limit, |cx| worker.poll_read_more(stream, &mut read, cx));
            let result = match reading.await {
                Err(_) => Err(DetectError::Silent),
                Ok(Err(error)) => Err(DetectError::Broken(error)),
                Ok(Ok(0)) if read.is_empty() => Err(DetectError::Closed),
                Ok(Ok(0)) => Err(DetectError::CutOff),
                Ok(Ok(_)) => protocol_of(&read, expected),
            };
            match result {
                Err(error) => return Err((flow, error)),
                Ok(Some(protocol)) => return Ok(Detected { captured: self, protocol, read }),
                // A few octets of the preface at a time make no progress worth another full wait.
                Ok(None) => time = limits.head_time.min(time) / 2,
            }
        }
    }
}

/// What octets, of which there is one at least, can only be. `None`: still a beginning of the HTTP/2
/// preface.
///
/// # Errors
/// [`DetectError::NotHttp`], [`DetectError::NotKafka`]
pub fn protocol_of(read: &[u8], expected: Expected) -> Result<Option<Protocol>, DetectError> {
    if read.starts_with(PREFACE) {
        return Ok(Some(Protocol::Http2));
    }
    if PREFACE.starts_with(read) {
        return Ok(None);
    }
    // A method, or the empty line that old clients send before one.
    match read[0] {
        b'\r' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~' => {
            Ok(Some(Protocol::Http1))
        }
        first if first.is_ascii_alphanumeric() => Ok(Some(Protocol::Http1)),
        // The length of a first Kafka request, which is far below 16 MiB.
        0 if expected == Expected::HttpOrKafka => Ok(Some(Protocol::Kafka)),
        _ if expected == Expected::HttpOrKafka => Err(DetectError::NotKafka),
        _ => Err(DetectError::NotHttp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_octets_tell() {
        assert!(matches!(protocol_of(b"GET", Expected::Http), Ok(Some(Protocol::Http1))));
        assert!(matches!(protocol_of(b"P", Expected::Http), Ok(None)));
        assert!(matches!(protocol_of(b"PO", Expected::Http), Ok(Some(Protocol::Http1))));
        assert!(matches!(protocol_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Expected::Http), Ok(None)));
        assert!(matches!(protocol_of(PREFACE, Expected::Http), Ok(Some(Protocol::Http2))));
        assert!(matches!(
            protocol_of(b"PRI * HTTP/2.0\r\n\r\nXX", Expected::Http),
            Ok(Some(Protocol::Http1))
        ));
        for not_http in [&b"\x16\x03\x01"[..], b"\x00", b" GET", b"\xff", b"{\"a\"", b"\n"] {
            assert!(
                matches!(protocol_of(not_http, Expected::Http), Err(DetectError::NotHttp)),
                "{not_http:?}"
            );
        }
        let expected = Expected::HttpOrKafka;
        assert!(matches!(protocol_of(b"\x00\x00", expected), Ok(Some(Protocol::Kafka))));
        assert!(matches!(protocol_of(b"GET", expected), Ok(Some(Protocol::Http1))));
        assert!(matches!(protocol_of(b"\x16\x03", expected), Err(DetectError::NotKafka)));
    }
}
