//! The path's normal form: refused or the same as a plainer reading makes of it, and final.

use l7_parsers::path::normalize;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let plain = plainly(text);
    let normal = match normalize(text) {
        Ok(normal) => normal,
        Err(error) => {
            assert_eq!(plain, None, "refused with {error}");
            return;
        }
    };
    assert_eq!(plain.as_deref(), Some(&*normal), "both readings of {text:?}");
    assert!(normal.len() <= text.len(), "a path does not grow");
    assert_eq!(normalize(&normal).as_deref(), Ok(&*normal), "what is normal stays as it is");

    let (path, query) = normal.split_at(normal.find('?').unwrap_or(normal.len()));
    assert_eq!(query, &text[text.find('?').unwrap_or(text.len())..], "the query is not touched");
    assert!(path.starts_with('/') && !path.contains("//"));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
    let encodings: Vec<&str> = path.split('%').skip(1).map(|rest| &rest[..2]).collect();
    for digits in encodings {
        let octet = u8::from_str_radix(digits, 16).expect("two digits");
        assert_eq!(digits, digits.to_ascii_uppercase());
        assert!(!is_unreserved(octet) && ![0, b'/', b'\\'].contains(&octet), "{digits} stays encoded");
    }
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)
}

/// The same in other words: take the segments apart first, decode each, then walk them as folders.
fn plainly(text: &str) -> Option<String> {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if query.is_some_and(|query| !query.bytes().all(|o| o.is_ascii_graphic() && !b"#\"<>".contains(&o))) {
        return None;
    }
    let segments: Vec<String> = path.strip_prefix('/')?.split('/').map(segment).collect::<Option<_>>()?;
    let whole: Vec<u8> = path.bytes().collect();
    String::from_utf8(meaning(&whole)).ok()?;
    if segments.iter().any(|segment| hides_dots(segment)) {
        return None;
    }
    let mut folders: Vec<&str> = Vec::new();
    for segment in &segments {
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(folders.pop()),
            name => folders.push(name),
        }
    }
    let mut normal: String = folders.iter().map(|name| format!("/{name}")).collect();
    if matches!(segments.last().map(String::as_str), Some("" | "." | "..")) {
        normal.push('/');
    }
    if let Some(query) = query {
        normal.push('?');
        normal.push_str(query);
    }
    Some(normal)
}

/// Whether a segment that is none itself means a dot segment to who decodes it up to three times and
/// takes parameters off.
fn hides_dots(segment: &str) -> bool {
    let is_dots = |name: &[u8]| matches!(name, b"." | b"..");
    let mut octets = segment.as_bytes().to_vec();
    !is_dots(&octets)
        && (0..3).any(|_| {
            octets = meaning(&octets);
            let text: Vec<u8> = octets.iter().map(|o| if *o == b'\\' { b'/' } else { *o }).collect();
            text.split(|o| *o == b'/').any(|name| is_dots(name.split(|o| *o == b';').next().unwrap_or(name)))
        })
}

/// A segment with its unreserved characters decoded; `None` where it has what no segment may have.
fn segment(raw: &str) -> Option<String> {
    let mut parts = raw.split('%');
    let literal = |text: &str| text.bytes().all(|o| o.is_ascii_graphic() && !b"\\#<>`".contains(&o));
    let first = parts.next().unwrap_or_default();
    let mut out = first.to_owned();
    let mut valid = literal(first);
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        match u8::from_str_radix(digits, 16).ok()? {
            0 | b'/' | b'\\' => return None,
            octet if is_unreserved(octet) => out.push(octet as char),
            octet => out.push_str(&format!("%{octet:02X}")),
        }
        valid &= literal(rest);
        out.push_str(rest);
    }
    valid.then_some(out)
}

fn meaning(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((&octet, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| octet == b'%' && digits.bytes().all(|o| o.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => (out.push(decoded), rest = &after[2..]).1,
            None => (out.push(octet), rest = after).1,
        }
    }
    out
}
