//! `host[:port]`, as in a Host field, an authority-form target or an `:authority`.

/// The value is no `host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid host")]
pub struct InvalidAuthority;

/// Checks that `value` is `host` or `host:port`: a registered name or IPv4 address of RFC 3986
/// without percent-encodings, or a bracketed IPv6 address. No user information, no list.
///
/// # Errors
/// [`InvalidAuthority`]: anything else, the empty value too.
pub fn check(value: &[u8]) -> Result<(), InvalidAuthority> {
    let port = if value.first() == Some(&b'[') {
        let end = value.iter().position(|octet| *octet == b']').ok_or(InvalidAuthority)?;
        let address = std::str::from_utf8(&value[1..end]).map_err(|_| InvalidAuthority)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| InvalidAuthority)?;
        &value[end + 1..]
    } else {
        let end = value.iter().position(|octet| *octet == b':').unwrap_or(value.len());
        if end == 0 || !value[..end].iter().copied().all(is_name_octet) {
            return Err(InvalidAuthority);
        }
        &value[end..]
    };
    match port {
        [] => Ok(()),
        [b':', digits @ ..] if is_port(digits) => Ok(()),
        _ => Err(InvalidAuthority),
    }
}

/// Whether two authorities of `http` mean the same: letters' case and a default port aside.
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    without_default_port(one).eq_ignore_ascii_case(without_default_port(other))
}

fn without_default_port(authority: &[u8]) -> &[u8] {
    authority.strip_suffix(b":80").unwrap_or(authority)
}

fn is_port(digits: &[u8]) -> bool {
    (1..=5).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 0xffff
}

// Not all of RFC 3986's sub-delims: `,` and `;` make lists in some servers' eyes, and no name has quotes.
fn is_name_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(octet, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'+' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid() {
        for value in ["a", "a.b-c_d", "10.0.0.1:80", "[::1]", "[fd00::1]:8080", "a:65535", "localhost."] {
            assert_eq!(check(value.as_bytes()), Ok(()), "{value}");
        }
    }

    #[test]
    fn invalid() {
        for value in [
            "", ":80", "a:", "a:65536", "a:000080", "a:8o", "a b", "a,b", "a/b", "u@a", "a#", "a?b", "[::1",
            "[::1]x", "[::g]", "a:1:2", "a%2e", "\u{e9}", "a\\b", "::1",
        ] {
            assert_eq!(check(value.as_bytes()), Err(InvalidAuthority), "{value}");
        }
    }

    #[test]
    fn sameness() {
        assert!(same(b"A.example:80", b"a.EXAMPLE"));
        assert!(!same(b"a:81", b"a"));
        assert!(!same(b"a", b"b"));
    }
}
