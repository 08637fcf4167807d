use l7_parsers::http1::{Limits, Scanner, Step};

use super::*;

/// What goes to the server for a request with these header lines.
fn sent(version: &str, lines: &str) -> String {
    let octets = format!("GET /a {version}\r\n{lines}\r\n");
    let Step::Head { octets: length, head } = Scanner::new(Limits::default()).step(octets.as_bytes()) else {
        panic!("{octets:?} is no head");
    };
    assert_eq!(length, octets.len());
    String::from_utf8(Request::read(octets.as_bytes(), head).unwrap().encode().head).unwrap()
}

#[test]
fn named_fields_end_here() {
    assert_eq!(
        sent(
            "HTTP/1.1",
            "Host: a\r\nConnection: close, X-Secret\r\nx-secret: 1\r\nX-Kept: 1\r\nKeep-Alive: 5\r\n"
        ),
        "GET /a HTTP/1.1\r\nhost: a\r\nx-kept: 1\r\n\r\n"
    );
}

#[test]
fn upgrades_pass_but_not_to_http() {
    assert_eq!(
        sent("HTTP/1.1", "Host: a\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n"),
        "GET /a HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    let plain = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0, HTTP/2.0\r\n",
        "Upgrade: websocket\r\n",
    ] {
        assert_eq!(sent("HTTP/1.1", &format!("Host: a\r\n{lines}")), plain, "{lines}");
    }
    assert_eq!(sent("HTTP/1.0", "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"), plain);
}

#[test]
fn te_is_trailers_or_nothing() {
    assert_eq!(
        sent("HTTP/1.1", "Host: a\r\nConnection: TE\r\nTE: gzip;q=0.5, trailers\r\n"),
        "GET /a HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n"
    );
    assert_eq!(sent("HTTP/1.1", "Host: a\r\nTE: gzip\r\n"), "GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn old_requests_become_new_ones_where_they_name_a_host() {
    assert_eq!(sent("HTTP/1.0", "Host: a\r\n"), "GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(sent("HTTP/1.0", ""), "GET /a HTTP/1.0\r\n\r\n");
}
