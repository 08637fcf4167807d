//! The normal form of a request's path, so that policy judges what the server will serve.
//!
//! RFC 3986 §6.2.2: unreserved characters are decoded, other encodings get upper-case digits, dot
//! segments are removed; besides, runs of slashes become one. The query is kept as it is.

use std::borrow::Cow;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("path does not begin with a slash")]
    NotAbsolute,
    #[error("character that a path cannot have")]
    InvalidCharacter,
    #[error("character that a query cannot have")]
    InvalidQuery,
    #[error("backslash in the path")]
    Backslash,
    #[error("fragment in the request target")]
    Fragment,
    #[error("percent sign without two hexadecimal digits")]
    InvalidEncoding,
    #[error("encoded slash in the path")]
    EncodedSlash,
    #[error("encoded backslash in the path")]
    EncodedBackslash,
    #[error("encoded NUL in the path")]
    EncodedNul,
    #[error("encoded octets that are not UTF-8")]
    InvalidUtf8,
    /// `..;x`: some servers take it for a dot segment, others for a name.
    #[error("dot segment with a parameter")]
    DotSegmentParameter,
    /// `%252e%252e`, `x%252f..`: a dot segment to who decodes more often than once.
    #[error("dot segment under several encodings")]
    HiddenDotSegment,
}

/// Normal form of `path[?query]`. Borrows where the input is normal already, the usual case.
///
/// # Errors
/// A [`PathError`] where the path is malformed or where servers are known to disagree on its meaning.
pub fn normalize(path_and_query: &str) -> Result<Cow<'_, str>, PathError> {
    let (path, query) = match path_and_query.find('?') {
        Some(at) => path_and_query.split_at(at),
        None => (path_and_query, ""),
    };
    query.bytes().try_for_each(check_query_octet)?;
    if scan(path)? == Form::Normal {
        return Ok(Cow::Borrowed(path_and_query));
    }
    let decoded = decode_unreserved(path)?;
    let mut normal = remove_dots(&decoded)?;
    normal.push_str(query);
    Ok(Cow::Owned(normal))
}

#[derive(PartialEq)]
enum Form {
    Normal,
    /// Has an encoding, a dot at the start of a segment, or slashes in a row.
    ToRewrite,
}

fn scan(path: &str) -> Result<Form, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    let mut form = Form::Normal;
    let mut previous = 0;
    for octet in path.bytes() {
        match octet {
            b'\\' => return Err(PathError::Backslash),
            b'#' => return Err(PathError::Fragment),
            // Servers accept these though the grammar has no place for them; browsers send some raw.
            b'"' | b'{' | b'}' | b'|' | b'^' | b'[' | b']' => {}
            b'%' => form = Form::ToRewrite,
            b'/' | b'.' if previous == b'/' => form = Form::ToRewrite,
            b'<' | b'>' | b'`' | 0..=0x20 | 0x7f.. => return Err(PathError::InvalidCharacter),
            _ => {}
        }
        previous = octet;
    }
    Ok(form)
}

fn check_query_octet(octet: u8) -> Result<(), PathError> {
    match octet {
        b'#' => Err(PathError::Fragment),
        b'"' | b'<' | b'>' | 0..=0x20 | 0x7f.. => Err(PathError::InvalidQuery),
        _ => Ok(()),
    }
}

/// Decodes unreserved characters and upper-cases what stays encoded.
fn decode_unreserved(path: &str) -> Result<String, PathError> {
    let octets = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    // What the path means once decoded: only to see whether that is UTF-8.
    let mut meaning = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < octets.len() {
        if octets[at] != b'%' {
            out.push(char::from(octets[at]));
            meaning.push(octets[at]);
            at += 1;
            continue;
        }
        let digits = octets.get(at + 1..at + 3).ok_or(PathError::InvalidEncoding)?;
        let octet = hex(digits[0])? << 4 | hex(digits[1])?;
        match octet {
            0 => return Err(PathError::EncodedNul),
            b'/' => return Err(PathError::EncodedSlash),
            b'\\' => return Err(PathError::EncodedBackslash),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(octet))
            }
            _ => {
                out.push('%');
                out.push(char::from(digits[0].to_ascii_uppercase()));
                out.push(char::from(digits[1].to_ascii_uppercase()));
            }
        }
        meaning.push(octet);
        at += 3;
    }
    std::str::from_utf8(&meaning).map_err(|_| PathError::InvalidUtf8)?;
    Ok(out)
}

fn hex(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::InvalidEncoding),
    }
}

/// Resolves `.` and `..` and merges slashes. Empty segments go first, as on a file system, so that
/// `/a//../b` is `/b`. `..` at the root stays at the root.
fn remove_dots(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            name => {
                check_hidden_dots(name)?;
                out.push('/');
                out.push_str(name);
                continue;
            }
        }
        // A path that ends in an empty or a dot segment names a directory.
        if last {
            out.push('/');
        }
    }
    Ok(out)
}

/// Refuses a segment in which a server finds a dot segment that takes parameters off, or that decodes
/// what a server before it had decoded already.
fn check_hidden_dots(segment: &str) -> Result<(), PathError> {
    // More decodings than three in a row nobody does; and each costs a pass.
    const DECODINGS: usize = 3;
    if !segment.contains(['%', ';']) {
        return Ok(());
    }
    let mut octets = segment.as_bytes().to_vec();
    for decoding in 1..=DECODINGS {
        let before = octets.len();
        octets = decode(&octets);
        let mut names = octets.split(|octet| matches!(octet, b'/' | b'\\'));
        if names.any(|name| matches!(name.split(|octet| *octet == b';').next(), Some(b"." | b".."))) {
            return Err(match decoding {
                1 => PathError::DotSegmentParameter,
                _ => PathError::HiddenDotSegment,
            });
        }
        if octets.len() == before {
            break;
        }
    }
    Ok(())
}

/// All percent encodings; what only looks like one stays.
fn decode(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        if let (b'%', [high, low, after @ ..]) = (octet, behind)
            && let (Ok(high), Ok(low)) = (hex(*high), hex(*low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(octet);
        }
    }
    out
}

#[cfg(test)]
mod tests;
