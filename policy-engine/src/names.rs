//! The syntax of names, as Kubernetes and Cilium demand it. Each check says what is wrong in words
//! that follow the name of the field.

/// A label key with an optional source: `app`, `k8s:app`, `k8s:example.com/app`.
pub(crate) fn cilium_label_key(key: &str) -> Result<(), String> {
    match key.split_once(':') {
        None => label_key(key),
        Some((source, rest)) => {
            if source.is_empty() || !source.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(format!("the source before the colon of {key:?} must be letters and digits"));
            }
            if rest.contains(':') {
                return Err(format!("{key:?} has more than one colon; a key is SOURCE:KEY or KEY"));
            }
            label_key(rest)
        }
    }
}

/// A Kubernetes label key: a name of at most 63 characters, or DNS-PREFIX/NAME.
pub(crate) fn label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|reason| format!("the prefix of label key {key:?}: {reason}"))?;
            name
        }
    };
    if name.is_empty() || name.len() > 63 || !qualified(name) {
        return Err(format!(
            "{key:?} is no label key: 1 to 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends"
        ));
    }
    Ok(())
}

/// A Kubernetes label value, which may be empty.
pub(crate) fn label_value(value: &str) -> Result<(), String> {
    if value.len() > 63 || !(value.is_empty() || qualified(value)) {
        return Err(format!(
            "{value:?} is no label value: at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends"
        ));
    }
    Ok(())
}

fn qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The name of an object.
pub(crate) fn dns_subdomain(name: &str) -> Result<(), String> {
    if name.len() > 253 || !name.split('.').all(dns_part) {
        return Err(format!(
            "{name:?} must be at most 253 lower-case letters, digits, '-' or '.', with a letter or digit at both ends of each part"
        ));
    }
    Ok(())
}

/// The name of a namespace.
pub(crate) fn dns_label(name: &str) -> Result<(), String> {
    if name.len() > 63 || !dns_part(name) {
        return Err(format!(
            "{name:?} must be at most 63 lower-case letters, digits or '-', with a letter or digit at both ends"
        ));
    }
    Ok(())
}

fn dns_part(part: &str) -> bool {
    let bytes = part.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.first().is_some_and(inner)
        && bytes.last().is_some_and(inner)
        && bytes.iter().all(|b| inner(b) || *b == b'-')
}

/// The name of a port (IANA service name): 1 to 15 letters, digits and single inner dashes, with a letter.
pub(crate) fn is_service_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_alphabetic())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

/// The known name that a misspelt one most likely means.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower = word.to_ascii_lowercase();
    let (distance, name) = known.iter().map(|k| (edits(&lower, &k.to_ascii_lowercase()), *k)).min()?;
    (distance <= (word.len() + 1) / 3).then_some(name)
}

/// Levenshtein distance, in bytes; far too long words are simply far away.
fn edits(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return LONGEST;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names() {
        for good in ["1a", "Z", "a9", "a-9", "a-b9-1", "1-a-9", "http", "abcdefghijklmno"] {
            assert!(is_service_name(good), "{good}");
        }
        for bad in ["", "1", "a--9", "-a9", "a9-", "1-2-3-4", "abcdefghijklmnop", "a_b", "é"] {
            assert!(!is_service_name(bad), "{bad}");
        }
    }

    #[test]
    fn label_keys() {
        for good in ["app", "k8s:app", "a.b/c", "k8s:io.kubernetes.pod.namespace", "A_b-c.9"] {
            assert_eq!(cilium_label_key(good), Ok(()), "{good}");
        }
        for bad in ["", ":app", "k8s:", "a:b:c", "$host", "a/b/c", "/x", "A.b/c_", "-a", "k 8s:app"] {
            assert!(cilium_label_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nearest_name() {
        let known = ["fromEndpoints", "fromEntities", "toPorts", "ingress"];
        assert_eq!(nearest("fromEndpoint", &known), Some("fromEndpoints"));
        assert_eq!(nearest("ingres", &known), Some("ingress"));
        assert_eq!(nearest("TOPORTS", &known), Some("toPorts"));
        assert_eq!(nearest("banana", &known), None);
        assert_eq!(nearest("HTTP", &["TCP", "UDP", "SCTP"]), None);
    }
}
