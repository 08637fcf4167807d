//! Texts of several documents, broken texts, lists, and other kinds.

use proptest::prelude::*;

use super::{cnp, refused};
use crate::documents::{Parsed, parse, parse_value, parse_with_values, read_values};

fn names(text: &str) -> Vec<String> {
    let name = |parsed: &Parsed| match parsed {
        Parsed::Policy(document) => document.id.to_string(),
        Parsed::Skipped { index, kind, name } => {
            format!("skipped {index} {kind} {}", name.as_deref().unwrap_or("-"))
        }
        Parsed::Invalid(error) => format!("invalid {}", error.index),
    };
    parse(text).iter().map(name).collect()
}

#[test]
fn several_documents() {
    let policy = cnp("endpointSelector: {}\ningress: [{}]");
    let text = format!(
        "# only a comment\n---\n---\n{policy}---\nkind: Pod\napiVersion: v1\nmetadata: {{name: web}}\n--- # next\nkind: Namespace\n---\n{policy}"
    );
    assert_eq!(
        names(&text),
        [
            "CiliumNetworkPolicy default/p",
            "skipped 2 Pod web",
            "skipped 3 Namespace -",
            "CiliumNetworkPolicy default/p",
        ]
    );
    assert_eq!(names(""), [""; 0]);
    assert_eq!(names("\u{feff}---\r\n"), [""; 0]);
    assert_eq!(names(&policy.replace('\n', "\r\n")), ["CiliumNetworkPolicy default/p"]);
}

#[test]
fn json_is_yaml() {
    let text = r#"{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"p","namespace":"n"},
        "spec":{"endpointSelector":{},"egress":[{}]}}"#;
    assert_eq!(names(text), ["CiliumNetworkPolicy n/p"]);
}

#[test]
fn a_broken_document_spoils_no_other() {
    let policy = cnp("endpointSelector: {}\ningress: [{}]");
    let text = format!("{policy}---\nkind: [\n---\n{policy}");
    assert_eq!(names(&text), ["CiliumNetworkPolicy default/p", "invalid 2", "CiliumNetworkPolicy default/p"]);
}

#[test]
fn syntax_errors_name_the_line() {
    for (text, line, reason) in [
        ("a: 1\n---\nkind: x\n  bad: y\n", 4, "mapping values"),
        ("kind: Pod\nkind: Pod\n", 1, "the key \"kind\" stands twice"),
        ("a:\n  b:\n    c: 1\n    d: 2\n    c: 3\n", 3, "the key \"c\" stands twice"),
        ("a: !secret x\n", 1, "no tags"),
        ("a: .nan\n", 1, "no meaning"),
        ("a: *b\n", 1, "unknown anchor"),
        ("? [a]\n: b\n", 1, "plain word"),
        ("a: 1\nb: \"x", 2, "unexpected end"),
    ] {
        let errors: Vec<_> = read_values(text).into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 1, "{text:?}");
        assert_eq!(errors[0].line, Some(line), "{text:?} {}", errors[0]);
        assert!(errors[0].to_string().contains(&format!(": line {line}, column ")));
        assert!(errors[0].to_string().contains(reason), "{text:?} {}", errors[0]);
    }
}

#[test]
fn problems_name_the_line() {
    let head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\n";
    let spec = "spec:\n  endpointSelector:\n    matchLabels:\n      a.b/c: 1\n  ingress:\n  - fromCIDR:\n    - 10.0.0.0/8\n    - 10.0.0.1\n    toPorts:\n    - ports:\n      - protocol: TCP\n  - toPort: []\n";
    let lines = |text: &str| -> Vec<Option<usize>> {
        refused_among(text).problems.iter().map(|problem| problem.line).collect()
    };
    assert_eq!(lines(&format!("{head}{spec}")), [Some(7), Some(11), Some(14), Some(15)]);
    assert_eq!(lines(&format!("# one\n---\nkind: Pod\n---\n\n{head}{spec}"))[0], Some(12));
    assert_eq!(lines(head), [Some(1)]);
    let list = format!(
        "kind: List\nitems:\n- kind: Pod\n- {}",
        super::indent(&format!("{head}{spec}"), 2).trim_start()
    );
    assert_eq!(lines(&list)[0], Some(10));
    let error = refused_among(&format!("{head}{spec}"));
    assert_eq!(error.line, Some(7));
    assert!(
        error.to_string().lines().next().unwrap().ends_with("write it in quotes: \"1\" (line 7)"),
        "{error}"
    );
    let value = read_values(&format!("{head}{spec}")).remove(0).unwrap().value;
    assert!(matches!(&parse_value(&value, 1)[..], [Parsed::Invalid(error)] if error.line.is_none()));
}

fn refused_among(text: &str) -> crate::documents::DocumentError {
    let refused = |parsed| match parsed {
        Parsed::Invalid(error) => Some(error),
        _ => None,
    };
    parse(text).into_iter().find_map(refused).unwrap()
}

#[test]
fn deep_and_wide_texts_are_refused_not_followed() {
    for (text, reason) in [
        ("[".repeat(100_000), "too deep"),
        ("{a: ".repeat(100_000), "too deep"),
        ("- ".repeat(100_000), "recursion limit"),
        ("[".repeat(200), "recursion limit"),
    ] {
        assert!(refused(&text).to_string().contains(reason), "{reason}");
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let before = level - 1;
        let items = vec![format!("*a{before}"); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{items}]\n");
    }
    let error = refused(&bomb);
    assert!(error.to_string().contains("repetition limit"), "{error}");
}

#[test]
fn aliases_of_much_are_refused_and_of_little_are_not() {
    let text = |items: usize, aliases: usize| {
        let (items, aliases) = (vec!["x"; items].join(","), vec!["*a"; aliases].join(","));
        format!("kind: Pod\nmetadata: {{name: p}}\na: &a [{items}]\nb: [{aliases}]\n")
    };
    // 64 million values of 64 KB.
    let error = refused(&text(8_000, 8_000));
    assert!(error.to_string().contains("aliases stand for too much"), "{error}");
    let error =
        refused(&text(1, 1).replace("[x]", &"x".repeat(1 << 20)).replace("[*a]", &"- *a\n".repeat(100)));
    assert!(error.problems.len() == 1, "{error}");
    assert_eq!(names(&text(500, 500)), ["skipped 1 Pod p"]);
}

#[test]
fn merge_keys_are_refused() {
    let text = cnp("endpointSelector: {}\ningress:\n- <<: {fromEntities: [world]}");
    assert!(refused(&text).to_string().contains("merge keys are not supported"));
}

#[test]
fn lists_are_taken_apart() {
    let item = r#"{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"p"},"spec":{"endpointSelector":{},"egress":[{}]}}"#;
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"w"}}"#;
    let both = ["CiliumNetworkPolicy default/p", "skipped 2 Pod w"];
    assert_eq!(names(&format!(r#"{{"apiVersion":"v1","kind":"List","items":[{item},{pod}]}}"#)), both);
    assert_eq!(names(&format!("[{item},{pod}]")), both);
    // Items of a typed list have its kind.
    let bare = item.replace(r#""apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","#, "");
    let list = format!(
        r#"{{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicyList","items":[{bare},{bare}]}}"#
    );
    assert_eq!(names(&list), ["CiliumNetworkPolicy default/p", "CiliumNetworkPolicy default/p"]);
    assert_eq!(
        names(&format!(r#"{{"kind":"List","items":[{pod},1]}}{}"#, "\n---\nkind: Pod")),
        ["skipped 1 Pod w", "invalid 2", "skipped 3 Pod -"]
    );
    let value = serde_json::from_str(&list).unwrap();
    assert_eq!(parse_value(&value, 7).len(), 2);
    let with_values = parse_with_values(&format!("{list}\n---\n["));
    let bare: serde_json::Value = serde_json::from_str(&bare).unwrap();
    assert_eq!(with_values[1].1, Some(bare));
    assert!(matches!(with_values[2], (Parsed::Invalid(_), None)));
}

/// Pieces that texts of policies are made of, so that random texts get past the first check.
const PIECES: &str = "(---\n|apiVersion: cilium.io/v2\n|kind: (CiliumNetworkPolicy|NetworkPolicy|List)\n|metadata: \\{name: p\\}\n|specs?:|items: |ingress:|egressDeny:|policyTypes:|endpointSelector: |podSelector: |fromCIDR: |toPorts:|ports:|port: |endPort: |icmps: |rules:|http:|path: |headers: |\n|\n  |\n  - |\n    |\n    - |\\{\\}|\\[\\]|~|\\[|\\}|, |'|\"|&a |\\*a|![a-z]|[0-9]{1,6}|[a-z/.*]{1,5}|\\PC)";

/// Any JSON value made of words that mean something here.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let words = prop::sample::select(vec![
        "",
        "0",
        "80",
        "0x",
        "0xfffff",
        "0_",
        "TCP",
        "é",
        "10.0.0.0/8",
        "::/0",
        "/",
        "a/",
        "all",
        "In",
        "Exists",
        "k8s:",
        ":",
        "reserved:host",
        "(",
        "[[a]&&b]",
        "\\",
        "*",
        ".",
        "X: y",
        ": ",
        "EchoReply",
        "IPv6",
        "<<",
        "produce",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0..300_i64).prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        words.prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    let keys = prop::sample::select(vec![
        "endpointSelector",
        "nodeSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "ingress",
        "egress",
        "ingressDeny",
        "enableDefaultDeny",
        "labels",
        "log",
        "value",
        "fromEndpoints",
        "toEndpoints",
        "fromCIDR",
        "fromCIDRSet",
        "cidr",
        "except",
        "cidrGroupRef",
        "toFQDNs",
        "matchName",
        "matchPattern",
        "toServices",
        "toPorts",
        "ports",
        "port",
        "endPort",
        "protocol",
        "rules",
        "http",
        "dns",
        "kafka",
        "l7proto",
        "path",
        "headers",
        "headerMatches",
        "name",
        "mismatch",
        "secret",
        "serverNames",
        "terminatingTLS",
        "listener",
        "envoyConfig",
        "icmps",
        "fields",
        "type",
        "family",
        "from",
        "to",
        "podSelector",
        "namespaceSelector",
        "ipBlock",
        "policyTypes",
        "",
    ]);
    leaf.prop_recursive(8, 96, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in prop_oneof![any::<String>(), prop::collection::vec(PIECES, 0..40).prop_map(|p| p.concat())]) {
        for parsed in parse(&text) {
            if let Parsed::Invalid(error) = parsed {
                prop_assert!(!error.problems.is_empty());
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn no_spec_panics(spec in json(), kind in prop::sample::select(vec!["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"])) {
        let api = if kind == "NetworkPolicy" { "networking.k8s.io/v1" } else { "cilium.io/v2" };
        let document = serde_json::json!({"apiVersion": api, "kind": kind, "metadata": {"name": "p"}, "spec": spec});
        prop_assert_eq!(parse_value(&document, 1).len(), 1);
    }
}
