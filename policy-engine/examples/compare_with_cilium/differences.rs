//! What counts as a difference, and which ones are wanted.

use std::collections::BTreeSet;

use policy_engine::{
    compiled::L7Rules,
    documents::{Parsed, parse_value},
    model::{HeaderMatch, Mismatch},
    test_file::Row,
};
use serde_json::{Map, Value, json};

use super::oracle::Answer;

pub(crate) struct Difference {
    /// The reason why Tektin differs on purpose.
    pub(crate) wanted: Option<&'static str>,
    pub(crate) text: String,
}

impl Difference {
    /// One side refuses a document.
    pub(crate) fn refusal(cilium: Option<&str>, tektin: Option<&str>) -> Self {
        let wanted = match (cilium, tektin) {
            (None, Some(reason)) => REFUSED_ON_PURPOSE.iter().find(|(_, words)| reason.contains(words)),
            _ => None,
        };
        let text = match (cilium, tektin) {
            (Some(reason), _) => format!("only Cilium refuses: {reason}"),
            (None, reason) => format!("only Tektin refuses: {}", reason.unwrap_or_default()),
        };
        Self { wanted: wanted.map(|(name, _)| *name), text }
    }
}

/// Documents that Cilium takes in a way that would surprise their author: name, and words of the refusal.
const REFUSED_ON_PURPOSE: [(&str, &str); 2] = [
    // `app: a` beside `any:app: b`: Cilium keeps the one that comes last in a random order.
    ("one-key-two-values", "stands twice, with different values"),
    // Cilium takes the range for its first port.
    ("end-port-below-port", "is below the port"),
];

/// Why Tektin refuses a document; `None`: it does not.
pub(crate) fn refused_by_tektin(document: &Value) -> Option<String> {
    parse_value(document, 1).into_iter().find_map(|parsed| match parsed {
        Parsed::Invalid(error) => Some(error.to_string()),
        Parsed::Policy(_) | Parsed::Skipped { .. } => None,
    })
}

/// Compares two answers to one test of `file`.
pub(crate) fn compare(file: &Value, cilium: &Answer, tektin: &Row) -> Option<Difference> {
    let flow = format!("{} -> {} {}", tektin.from, tektin.to, tektin.port);
    if (&cilium.from, &cilium.to, &cilium.port) != (&tektin.from, &tektin.to, &tektin.port) {
        let text = format!("{flow}: the answers are out of step");
        return Some(Difference { wanted: None, text });
    }
    if cilium.verdict == "error" {
        // Two parsers on one port: Cilium computes no policy at all for the workload, Tektin has
        // requests match a rule of their own protocol.
        let two_parsers = cilium.error.contains("cannot merge conflicting L7 parsers");
        let text = format!("{flow}: Cilium fails ({}), Tektin says {}", cilium.error, tektin.verdict);
        return Some(Difference { wanted: two_parsers.then_some("two-parsers"), text });
    }
    let ends = |egress: &str, ingress: &str, verdict: &str| format!("{egress}/{ingress} {verdict}");
    let (theirs, ours) = (
        ends(&cilium.egress, &cilium.ingress, &cilium.verdict),
        ends(tektin.egress, tektin.ingress, tektin.verdict),
    );
    if theirs != ours {
        let text = format!("{flow}: Cilium {theirs}, Tektin {ours} by {}", tektin.rule);
        // Cilium takes type 0 for every type of its family, Tektin for type 0.
        let type_0 = tektin.port.to_ascii_uppercase().contains("/ICMP") && has_icmp_type_0(&file["policies"]);
        return Some(Difference { wanted: type_0.then_some("icmp-type-0"), text });
    }
    // The rule sets mean nothing where the other end drops the packet.
    let (http, http_egress) = match (cilium.egress.as_str(), cilium.ingress.as_str()) {
        ("redirect", "redirect") => (cilium.http.as_ref(), cilium.http_egress.as_ref()),
        (_, "redirect") => (cilium.http.as_ref(), None),
        _ => (None, cilium.http.as_ref()),
    };
    for (end, theirs, ours) in
        [("ingress", http, &tektin.ingress_l7), ("egress", http_egress, &tektin.egress_l7)]
    {
        let theirs: BTreeSet<String> = theirs.into_iter().flatten().map(normal).collect();
        let ours = ours.as_deref().map(request_rules).unwrap_or_default();
        if theirs != ours {
            let text = format!("{flow}: {end} requests: Cilium {theirs:?}, Tektin {ours:?}");
            return Some(Difference { wanted: None, text });
        }
    }
    None
}

fn has_icmp_type_0(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, field)| {
            (key == "type" && (field == 0 || field == "EchoReply")) || has_icmp_type_0(field)
        }),
        Value::Array(items) => items.iter().any(has_icmp_type_0),
        _ => false,
    }
}

/// A rule of Cilium's with its headers as Tektin keeps them: lower case, without a colon.
fn normal(rule: &Value) -> String {
    let mut rule = rule.clone();
    for header in rule["headers"].as_array_mut().into_iter().flatten() {
        let text = header.as_str().unwrap_or_default();
        let (name, value) = text.split_once(' ').map_or((text, None), |(name, value)| (name, Some(value)));
        *header = header_text(name.trim_end_matches(':'), value);
    }
    for header in rule["headerMatches"].as_array_mut().into_iter().flatten() {
        header["name"] = Value::String(header["name"].as_str().unwrap_or_default().to_ascii_lowercase());
    }
    // `["headers"]` on a rule without any leaves a null behind.
    if let Value::Object(fields) = &mut rule {
        fields.retain(|_, field| !field.is_null());
    }
    rule.to_string()
}

fn header_text(name: &str, value: Option<&str>) -> Value {
    let name = name.to_ascii_lowercase();
    Value::String(value.map_or_else(|| name.clone(), |value| format!("{name} {value}")))
}

fn header_match(header: &HeaderMatch) -> Value {
    let mut fields = json!({"name": header.name, "value": header.value});
    let mismatch = match header.mismatch {
        Mismatch::Deny => None,
        Mismatch::Log => Some("LOG"),
        Mismatch::Add => Some("ADD"),
        Mismatch::Delete => Some("DELETE"),
        Mismatch::Replace => Some("REPLACE"),
    };
    if let Some(mismatch) = mismatch {
        fields["mismatch"] = Value::String(mismatch.to_owned());
    }
    fields
}

/// The rules as the oracle prints them; `{}` is any request. Empty where no rule is about HTTP.
fn request_rules(l7: &L7Rules) -> BTreeSet<String> {
    let mut rules: BTreeSet<String> = l7
        .requests
        .http
        .iter()
        .map(|rule| {
            let fields = [("host", &rule.host), ("method", &rule.method), ("path", &rule.path)];
            let given = fields.into_iter().filter_map(|(name, value)| {
                value.as_ref().map(|value| (name.to_owned(), Value::String(value.clone())))
            });
            let mut fields: Map<String, Value> = given.collect();
            if !rule.headers.is_empty() {
                let texts = rule.headers.iter().map(|(name, value)| header_text(name, value.as_deref()));
                fields.insert("headers".to_owned(), texts.collect());
            }
            if !rule.header_matches.is_empty() {
                fields.insert(
                    "headerMatches".to_owned(),
                    rule.header_matches.iter().map(header_match).collect(),
                );
            }
            Value::Object(fields).to_string()
        })
        .collect();
    if l7.any.is_some() && !rules.is_empty() {
        rules.insert("{}".to_owned());
    }
    rules
}
