//! Which DNS names a toFQDNs selector means.

use crate::model::FqdnSelector;

impl FqdnSelector {
    /// Names and selectors are lower case without a final dot. `*` stands for characters of one
    /// label, `**.` at the beginning for one label or more, `*` alone for every name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Pattern(pattern) if pattern.bytes().all(|c| c == b'*') => !pattern.is_empty(),
            Self::Pattern(pattern) => {
                let mut labels: Vec<&str> = name.split('.').collect();
                let subdomains = pattern
                    .split_once('.')
                    .filter(|(first, _)| first.len() >= 2 && first.bytes().all(|c| c == b'*'));
                let wanted: Vec<&str> = match subdomains {
                    Some((_, rest)) => {
                        let wanted: Vec<&str> = rest.split('.').collect();
                        if labels.len() <= wanted.len() {
                            return false;
                        }
                        let extra = labels.len() - wanted.len();
                        labels.drain(..extra);
                        wanted
                    }
                    None => pattern.split('.').collect(),
                };
                labels.len() == wanted.len()
                    && wanted.iter().zip(&labels).all(|(pattern, label)| label_matches(pattern, label))
            }
        }
    }
}

/// `*` stands for any characters, none too.
fn label_matches(pattern: &str, label: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| label.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty(); // no star
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "a.b.c", true),
            ("*", "com", true),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("**.example.com", "a.b.example.com", true),
            ("**.example.com", "a.example.com", true),
            ("**.example.com", "example.com", false),
            ("**.example.com", "a.example.org", false),
            ("*cilium.io", "cilium.io", true),
            ("*cilium.io", "sub.cilium.io", false),
            ("*cilium.io", "mycilium.io", true),
            ("www.*.com", "www.example.com", true),
            ("www.*.com", "www.com", false),
            ("a*b*c.com", "aXbYc.com", true),
            ("a*b*c.com", "ac.com", false),
            ("a**b.com", "axb.com", true),
            ("ab*ba.com", "aba.com", false),
        ] {
            let matches = FqdnSelector::Pattern(pattern.to_owned()).matches(name);
            assert_eq!(matches, expected, "{pattern} {name}");
        }
        assert!(FqdnSelector::Name("example.com".to_owned()).matches("example.com"));
        assert!(!FqdnSelector::Name("example.com".to_owned()).matches("www.example.com"));
    }
}
