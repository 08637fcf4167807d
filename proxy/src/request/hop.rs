//! Fields that concern one connection and not the message (RFC 9110 §7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use super::Switch;

/// Whether the connection ends with the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Yes,
    No,
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes out what ends at this hop, before anybody judges the request: what is judged is what is
/// sent. An upgrade that the client asks for stays, but for upgrades to another HTTP version, after
/// which requests would pass unread.
pub(super) fn clean_request(headers: &mut HeaderMap, version: Version) -> Switch {
    let options = connection_options(headers);
    let asks = |option: &str| options.iter().any(|name| name == option);
    let upgrade = if asks("upgrade") && version == Version::HTTP_11 { protocols(headers) } else { None };
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|octet| *octet == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    strip(headers, &options);
    headers.remove(header::UPGRADE);
    headers.remove(HTTP2_SETTINGS);
    headers.remove(header::TE);
    // Trailers come after the verdict, so they end here, and with them their announcement.
    headers.remove(header::TRAILER);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    let option = match (&upgrade, trailers) {
        (Some(_), true) => Some("upgrade, te"),
        (Some(_), false) => Some("upgrade"),
        (None, true) => Some("te"),
        (None, false) => None,
    };
    if let Some(option) = option {
        headers.insert(header::CONNECTION, HeaderValue::from_static(option));
    }
    match upgrade {
        Some(protocols) => {
            headers.insert(header::UPGRADE, protocols);
            Switch::Upgrade
        }
        None => Switch::No,
    }
}

/// Takes out what ends at this hop; `switched` keeps what a 101 is about.
pub(crate) fn clean_response(headers: &mut HeaderMap, switched: bool) -> Closing {
    let options = connection_options(headers);
    let upgrade = headers.get(header::UPGRADE).cloned();
    strip(headers, &options);
    if !switched {
        // Other responses only advertise: whoever took this up would be refused again.
        headers.remove(header::UPGRADE);
    } else if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if options.iter().any(|name| name == "close") { Closing::Yes } else { Closing::No }
}

fn strip(headers: &mut HeaderMap, options: &[String]) {
    for name in options {
        headers.remove(name.as_str());
    }
    for name in [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// Lower case.
fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let mut options = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let Ok(value) = value.to_str() else { continue };
        options.extend(
            value.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()),
        );
    }
    options
}

/// The protocols to offer upstream; `None`: none is left.
fn protocols(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut offered = Vec::new();
    for value in headers.get_all(header::UPGRADE) {
        let Ok(value) = value.to_str() else { continue };
        offered.extend(
            value.split(',').map(str::trim).filter(|protocol| !protocol.is_empty() && !is_http(protocol)),
        );
    }
    if offered.is_empty() { None } else { HeaderValue::from_str(&offered.join(", ")).ok() }
}

/// `h2c`, `h2`, `HTTP/2.0`, and TLS, inside of which anything may follow.
pub(crate) fn is_http(protocol: &str) -> bool {
    let protocol = protocol.to_ascii_lowercase();
    ["h2", "h3", "http", "tls"].iter().any(|prefix| protocol.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn named_fields_end_here() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("x-kept", "1"),
            ("keep-alive", "5"),
        ]);
        assert_eq!(clean_request(&mut map, Version::HTTP_11), Switch::No);
        assert_eq!(map, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn upgrades_pass_but_not_to_http() {
        let mut map = headers(&[("connection", "Upgrade"), ("upgrade", "h2c, websocket")]);
        assert_eq!(clean_request(&mut map, Version::HTTP_11), Switch::Upgrade);
        assert_eq!(map, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        let mut map = headers(&[
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AA"),
        ]);
        assert_eq!(clean_request(&mut map, Version::HTTP_11), Switch::No);
        assert!(map.is_empty());
        let mut map = headers(&[("upgrade", "websocket")]);
        assert_eq!(clean_request(&mut map, Version::HTTP_11), Switch::No);
        assert!(map.is_empty());
        let mut map = headers(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        assert_eq!(clean_request(&mut map, Version::HTTP_10), Switch::No);
    }

    #[test]
    fn te_is_trailers_or_nothing() {
        let mut map = headers(&[("connection", "TE"), ("te", "gzip;q=0.5, trailers")]);
        assert_eq!(clean_request(&mut map, Version::HTTP_11), Switch::No);
        assert_eq!(map, headers(&[("connection", "te"), ("te", "trailers")]));
    }

    #[test]
    fn responses_say_whether_they_close() {
        let mut map = headers(&[("connection", "close"), ("transfer-encoding", "chunked"), ("a", "b")]);
        assert_eq!(clean_response(&mut map, false), Closing::Yes);
        assert_eq!(map, headers(&[("a", "b")]));
        let mut map = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(clean_response(&mut map, true), Closing::No);
        assert_eq!(map.len(), 2);
    }
}
