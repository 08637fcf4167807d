//! `host[:port]`: what is accepted has one host and one port for everybody.

use std::net::Ipv6Addr;

use l7_parsers::authority::{check, same};

pub fn run(data: &[u8]) {
    let (value, other) = match data.iter().position(|octet| *octet == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, data),
    };
    assert_eq!(check(value).is_ok(), plainly(value), "{:?}", String::from_utf8_lossy(value));
    assert!(same(value, value));
    assert_eq!(same(value, other), same(other, value));
    if check(value).is_ok() && check(other).is_ok() && same(value, other) {
        assert_eq!(parts(value), parts(other), "the same host and port");
    }
}

/// Lower-case host and port, 80 where none is given.
fn parts(value: &[u8]) -> (String, u16) {
    let text = std::str::from_utf8(value).expect("accepted").to_ascii_lowercase();
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host.to_owned(), port.parse().expect("a port")),
        _ => (text, 80),
    }
}

fn plainly(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_one = |port: &str| {
        port.len() <= 5 && port.bytes().all(|o| o.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    if !port.is_none_or(port_is_one) {
        return false;
    }
    match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&+=".contains(c))
        }
    }
}
