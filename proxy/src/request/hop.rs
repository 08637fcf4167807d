//! Fields that concern one connection and not the message (RFC 9110 §7.6.1).

use http::{HeaderMap, HeaderName, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes out what ends at this hop.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    for name in connection_options(headers) {
        headers.remove(name.as_str());
    }
    // Responses only advertise upgrades: whoever took one up would be refused.
    for name in [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE]
    {
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

/// `h2c`, `h2`, `HTTP/2.0`, and TLS, inside of which anything may follow.
pub(crate) fn is_http(protocol: &str) -> bool {
    let protocol = protocol.to_ascii_lowercase();
    ["h2", "h3", "http", "tls"].iter().any(|prefix| protocol.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_ends_here() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("keep-alive", "5"),
            ("a", "b"),
        ]);
        clean_response(&mut map);
        assert_eq!(map, headers(&[("a", "b")]));
    }

    #[test]
    fn whatever_carries_requests_is_http() {
        for protocol in ["h2c", "H2", "HTTP/2.0", "TLS/1.0", "h3"] {
            assert!(is_http(protocol), "{protocol}");
        }
        assert!(!is_http("websocket"));
    }
}
