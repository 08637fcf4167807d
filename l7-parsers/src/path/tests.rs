use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

#[test]
fn normal_forms() {
    for (input, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("//a///b//", "/a/b/"),
        ("/a//../b", "/b"),
        ("/%61%2d%7E", "/a-~"),
        ("/a/%2e%2E/b", "/b"),
        ("/.%2e/b", "/b"),
        ("/a%3ab%3Fc", "/a%3Ab%3Fc"),
        ("/%252e%252ex/a%252Fb", "/%252e%252ex/a%252Fb"),
        ("/100%25/a%25zz", "/100%25/a%25zz"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a;x=1/b;y", "/a;x=1/b;y"),
        ("/...", "/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b/.c", "/a..b/.c"),
        ("/a?b=../%2e%2f//\\", "/a?b=../%2e%2f//\\"),
        ("/a/../b?x=/../y", "/b?x=/../y"),
        ("/?", "/?"),
        ("/a|b[c]^{d}\"", "/a|b[c]^{d}\""),
    ] {
        assert_eq!(normalize(input).as_deref(), Ok(normal), "{input}");
    }
}

#[test]
fn refusals() {
    for (input, error) in [
        ("", PathError::NotAbsolute),
        ("a", PathError::NotAbsolute),
        ("?a", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("/a\\b", PathError::Backslash),
        ("/a#b", PathError::Fragment),
        ("/a?b#c", PathError::Fragment),
        ("/a%2fb", PathError::EncodedSlash),
        ("/a%5Cb", PathError::EncodedBackslash),
        ("/a%00", PathError::EncodedNul),
        ("/%", PathError::InvalidEncoding),
        ("/%2", PathError::InvalidEncoding),
        ("/%zz", PathError::InvalidEncoding),
        ("/%u002e", PathError::InvalidEncoding),
        ("/%c0%ae", PathError::InvalidUtf8),
        ("/%c0%af", PathError::InvalidUtf8),
        ("/%e0%80%af", PathError::InvalidUtf8),
        ("/%ff", PathError::InvalidUtf8),
        ("/%ed%a0%80", PathError::InvalidUtf8),
        ("/a b", PathError::InvalidCharacter),
        ("/a\u{1}", PathError::InvalidCharacter),
        ("/a<b>", PathError::InvalidCharacter),
        ("/\u{e9}", PathError::InvalidCharacter),
        ("/a?b c", PathError::InvalidQuery),
        ("/a?\u{7f}", PathError::InvalidQuery),
        ("/a?b=\"c\"", PathError::InvalidQuery),
        ("/a?b=<c>", PathError::InvalidQuery),
        ("/a/..;/b", PathError::DotSegmentParameter),
        ("/a/%2e%2e;x/b", PathError::DotSegmentParameter),
        ("/a/.;x", PathError::DotSegmentParameter),
        ("/a/..%3b/b", PathError::DotSegmentParameter),
        ("/a/%252e%252e/b", PathError::HiddenDotSegment),
        ("/a/.%252e;x/b", PathError::HiddenDotSegment),
        ("/a/b%252f..%255cc", PathError::HiddenDotSegment),
        ("/a/%25252e", PathError::HiddenDotSegment),
    ] {
        assert_eq!(normalize(input), Err(error), "{input}");
    }
}

#[test]
fn a_normal_path_costs_no_allocation() {
    assert!(matches!(normalize("/api/v1/pods?watch=1"), Ok(Cow::Borrowed(_))));
}

#[test]
fn a_hostile_path_costs_few_passes() {
    let nested = format!("/%{}2e", "25".repeat(30_000));
    assert_eq!(normalize(&nested).as_deref(), Ok(&*nested));
}

proptest! {
    #[test]
    fn normal_form_is_stable(input in "/([a.%2eEfF/;5cC?0]|[ -~]){0,24}") {
        if let Ok(once) = normalize(&input) {
            let twice = normalize(&once).map(Cow::into_owned);
            prop_assert_eq!(twice.as_deref(), Ok(&*once));
            let path = once.split('?').next().unwrap();
            prop_assert!(!path.contains("//"));
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }

    #[test]
    fn never_panics(input in any::<String>()) {
        let _ = normalize(&input);
        let _ = normalize(&format!("/{input}"));
    }
}
