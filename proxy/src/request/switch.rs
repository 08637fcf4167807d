//! What may follow a switch of protocols.

/// `h2c`, `h2`, `HTTP/2.0`, and TLS, inside of which anything may follow.
pub(crate) fn is_http(protocol: &str) -> bool {
    let protocol = protocol.to_ascii_lowercase();
    ["h2", "h3", "http", "tls"].iter().any(|prefix| protocol.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_carries_requests_is_http() {
        for protocol in ["h2c", "H2", "HTTP/2.0", "TLS/1.0", "h3"] {
            assert!(is_http(protocol), "{protocol}");
        }
        assert!(!is_http("websocket"));
    }
}
