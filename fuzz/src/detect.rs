//! The first octets of a connection: what was told from some of them stays told when more come.

use tektin_proxy::detect::{Expected, Protocol, protocol_of};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn run(data: &[u8]) {
    for expected in [Expected::Http, Expected::HttpOrKafka] {
        read(data, expected);
    }
}

fn read(data: &[u8], expected: Expected) {
    let mut told = None;
    for end in 1..=data.len().min(64) {
        let now = match protocol_of(&data[..end], expected) {
            Ok(None) => {
                assert!(told.is_none() && PREFACE.starts_with(&data[..end]));
                continue;
            }
            Ok(Some(protocol)) => Ok(protocol),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(now == Ok(Protocol::Http2), data[..end].starts_with(PREFACE));
        let kafka = data[0] == 0 && expected == Expected::HttpOrKafka;
        assert_eq!(now == Ok(Protocol::Kafka), kafka);
        assert!(end > 1 || now.is_ok() || !data[0].is_ascii_alphanumeric());
        let told = told.get_or_insert_with(|| now.clone());
        assert_eq!(*told, now, "told otherwise from {end} octets");
    }
}
