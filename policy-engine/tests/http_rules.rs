//! HTTP rules: RE2's meaning of patterns, headers, and sets too large for a table.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use policy_engine::{
    http::{HeaderAction, HttpRequest, HttpRuleError, HttpRuleSpec, HttpRules, HttpVerdict},
    model::{HeaderMatch, Mismatch},
    naive::first_http_rule,
    regex,
};

type HeaderList = Vec<(String, String)>;

fn headers(list: &[(&str, &str)]) -> HeaderList {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn path(pattern: &str) -> HttpRuleSpec {
    HttpRuleSpec { path: Some(pattern.to_owned()), ..HttpRuleSpec::default() }
}

fn passes(pattern: &str, text: &str) -> bool {
    let rules = HttpRules::compile(&[path(pattern)]).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let request = HttpRequest { method: "GET", path: text, host: "h", headers: &HeaderList::new() };
    let verdict = rules.decide(&request);
    assert!(rules.dense().is_some(), "{pattern} is small");
    assert_eq!(
        verdict != HttpVerdict::Denied,
        regex::is_full_match(pattern, text).unwrap(),
        "{pattern} {text}"
    );
    verdict != HttpVerdict::Denied
}

#[test]
fn patterns_mean_what_re2_means() {
    for (pattern, text, expected) in [
        ("/public", "/public", true),
        ("/public", "/public/", false),
        ("/public", "x/public", false),
        ("/public$", "/public", true),
        ("^/public", "/public", true),
        ("^/a|/b$", "/b", true),
        ("a^b", "ab", false),
        ("/[a-z]+", "/abc", true),
        ("/\\d+", "/12", true),
        ("/\\d+", "/١", false),
        ("/\\w", "/é", false),
        ("/\\W", "/é", true),
        ("/[\\d_]+", "/1_2", true),
        ("/[^\\d]", "/é", true),
        ("/.", "/é", true),
        ("/a.b", "/a\nb", false),
        ("(?s)/a.b", "/a\nb", true),
        ("(?i)/ABC", "/abc", true),
        ("/\\<x\\>", "/<x>", true),
        ("/a\\b.*", "/a/b", true),
        ("/a\\b.*", "/ab", false),
        ("/a\\B.*", "/ab", true),
        ("/x{2,3}", "/xxx", true),
        ("/x{2,3}", "/xxxx", false),
        ("", "", true),
        ("", "/", false),
        ("/\\.\\*", "/.*", true),
        ("/\\x{2f}", "//", true),
        ("/[[:alpha:]]", "/a", true),
        ("/\\pL", "/é", true),
        ("(?U)/a+", "/aaa", true),
        ("/(?:a|b)*", "/abba", true),
    ] {
        assert_eq!(passes(pattern, text), expected, "{pattern:?} {text:?}");
    }
}

#[test]
fn patterns_that_are_refused() {
    for (pattern, reason) in [
        ("(", "unclosed group"),
        ("[a", "unclosed character class"),
        ("a{2,1}", "invalid repetition"),
        ("*", "repetition operator missing"),
        ("\\1", "backreferences"),
        ("(?=a)", "look-around"),
        ("[a&&b]", "&&, --"),
        ("[a--b]", "&&, --"),
        ("[[a]]", "a set inside a set"),
        ("(?x)a b", "flags are"),
        ("(?-u:a)", "flags are"),
        ("(?u:a)", "flags are"),
        ("a{1001}", "more than 1000"),
        ("\\b{start}a", "no word boundary"),
        ("\\u0041", "\\x{"),
        ("[\\u0041]", "\\x{"),
        ("\\xff(?-u:\\xff)", "flags are"),
        ("((((a{1000}){1000}){1000}){1000})", "once compiled"),
    ] {
        let error = regex::check(pattern).expect_err(pattern);
        assert!(HttpRules::compile(&[path(pattern)]).is_err(), "{pattern}");
        assert!(error.contains(reason), "{pattern}: {error}");
    }
    let rules = [path("/"), HttpRuleSpec { method: Some("(".to_owned()), ..HttpRuleSpec::default() }];
    let error = HttpRules::compile(&rules).unwrap_err();
    assert!(matches!(error, HttpRuleError::Pattern { rule: 1, field: "method", .. }), "{error}");
}

#[test]
fn a_part_never_matches_into_the_next() {
    let rule = HttpRuleSpec {
        method: Some(".*".to_owned()),
        host: Some("[^x]*".to_owned()),
        path: Some("/a".to_owned()),
        ..HttpRuleSpec::default()
    };
    let rules = HttpRules::compile(&[rule]).unwrap();
    let no = HeaderList::new();
    let verdict = |method, host, path| {
        rules.decide(&HttpRequest { method, path, host, headers: &no }) != HttpVerdict::Denied
    };
    assert!(verdict("GET", "h", "/a"));
    assert!(!verdict("GET", "x", "/a"));
    assert!(!verdict("GET", "h", "/a/a"));
    assert!(!verdict("", "", ""));
}

#[test]
fn no_rule_and_the_empty_rule() {
    let request = HttpRequest { method: "GET", path: "/", host: "", headers: &HeaderList::new() };
    let none = HttpRules::compile(&[]).unwrap();
    assert!(none.is_empty());
    assert_eq!(none.decide(&request), HttpVerdict::Denied);
    let any = HttpRules::compile(&[HttpRuleSpec::default()]).unwrap();
    assert_eq!(any.decide(&request), HttpVerdict::Allowed { rule: 0, actions: Vec::new() });
}

#[test]
fn header_conditions() {
    let rule = HttpRuleSpec {
        headers: vec![("X-Token".to_owned(), Some("abc".to_owned())), ("x-trace".to_owned(), None)],
        ..HttpRuleSpec::default()
    };
    let rules = HttpRules::compile(&[path("/other"), rule]).unwrap();
    for (list, expected) in [
        (vec![("x-token", "abc"), ("X-Trace", "")], true),
        (vec![("X-TOKEN", "abc"), ("x-trace", "1"), ("x-trace", "2")], true),
        (vec![("x-token", "abc")], false),
        (vec![("x-trace", "1")], false),
        (vec![("x-token", "ABC"), ("x-trace", "1")], false),
        (vec![("x-token", "abc "), ("x-trace", "1")], false),
        // Two values are the value "abc,abc".
        (vec![("x-token", "abc"), ("x-token", "abc"), ("x-trace", "1")], false),
        (vec![], false),
    ] {
        let headers = headers(&list);
        let request = HttpRequest { method: "GET", path: "/", host: "", headers: &headers };
        let verdict = if expected {
            HttpVerdict::Allowed { rule: 1, actions: Vec::new() }
        } else {
            HttpVerdict::Denied
        };
        assert_eq!(rules.decide(&request), verdict, "{list:?}");
    }
}

#[test]
fn mismatch_actions() {
    let wants = |name: &str, value: &str, mismatch| HeaderMatch {
        name: name.to_owned(),
        value: value.to_owned(),
        mismatch,
    };
    let rule = |list: Vec<HeaderMatch>| HttpRuleSpec { header_matches: list, ..HttpRuleSpec::default() };
    let rules = HttpRules::compile(&[
        rule(vec![wants("x-a", "1", Mismatch::Deny), wants("x-b", "1", Mismatch::Add)]),
        rule(vec![
            wants("x-b", "1", Mismatch::Add),
            wants("x-c", "1", Mismatch::Replace),
            wants("x-d", "1", Mismatch::Delete),
            wants("x-e", "1", Mismatch::Log),
        ]),
        rule(vec![wants("x-f", "", Mismatch::Deny)]),
    ])
    .unwrap();
    let decide = |list: &[(&str, &str)]| {
        let headers = headers(list);
        rules.decide(&HttpRequest { method: "GET", path: "/", host: "", headers: &headers })
    };
    let (name, value) = (|n: &str| n.to_owned(), || "1".to_owned());
    let add = HeaderAction::Add { name: name("x-b"), value: value() };
    let rest = [
        HeaderAction::Replace { name: name("x-c"), value: value() },
        HeaderAction::Delete { name: name("x-d") },
        HeaderAction::Log { name: name("x-e"), value: value() },
    ];
    // A rule with nothing but actions holds for any request.
    let mut all = vec![add.clone()];
    all.extend(rest);
    assert_eq!(decide(&[]), HttpVerdict::Allowed { rule: 1, actions: all.clone() });
    // Of all rules that hold, each action once; the first rule is named.
    assert_eq!(decide(&[("x-a", "1")]), HttpVerdict::Allowed { rule: 0, actions: all });
    let fine = [("x-b", "1"), ("x-c", "1"), ("x-d", "1"), ("X-E", "1")];
    assert_eq!(decide(&fine), HttpVerdict::Allowed { rule: 1, actions: Vec::new() });
    let deny_only = HttpRules::compile(&[rule(vec![wants("x-f", "", Mismatch::Deny)])]).unwrap();
    let present = headers(&[("X-F", "anything")]);
    let request = |headers| HttpRequest { method: "GET", path: "/", host: "", headers };
    assert_ne!(deny_only.decide(&request(&present)), HttpVerdict::Denied);
    assert_eq!(deny_only.decide(&request(&HeaderList::new())), HttpVerdict::Denied);
}

#[test]
fn a_set_too_large_for_a_table_decides_the_same() {
    let rules: Vec<HttpRuleSpec> =
        (0..40).map(|n| path(&format!("/.*a{n}.*[0-9]{{{}}}b.*", n % 7 + 3))).collect();
    let compiled = HttpRules::compile(&rules).unwrap();
    assert!(compiled.dense().is_none(), "this set fits a table; the test needs a larger one");
    let mut passed = 0;
    for n in 0..400 {
        let text = format!("/x{}a{}/{}b", n % 3, n % 45, "1234567890".get(..n % 10).unwrap_or_default());
        let request = HttpRequest { method: "GET", path: &text, host: "h", headers: &HeaderList::new() };
        let fast = match compiled.decide(&request) {
            HttpVerdict::Allowed { rule, .. } => Some(rule),
            HttpVerdict::Denied => None,
        };
        assert_eq!(fast, first_http_rule(&rules, &request), "{text}");
        passed += usize::from(fast.is_some());
    }
    assert!((50..350).contains(&passed), "{passed}");
}
