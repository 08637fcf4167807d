//! What is read, what is refused, and how.

mod model;
mod published;
mod refusals;
mod stream;
mod warnings;

use super::{DocumentError, Parsed, parse};
use crate::model::{Document, Rule, Spec};

/// The lines of `text`, moved to the right.
fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A CiliumNetworkPolicy `default/p` with this spec.
fn cnp(spec: &str) -> String {
    let head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec:\n";
    head.to_owned() + &indent(spec, 2)
}

/// A CiliumClusterwideNetworkPolicy `p` with this spec.
fn ccnp(spec: &str) -> String {
    cnp(spec).replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
}

/// A NetworkPolicy `default/p` with this spec.
fn knp(spec: &str) -> String {
    cnp(spec).replace("cilium.io/v2", "networking.k8s.io/v1").replace("CiliumNetworkPolicy", "NetworkPolicy")
}

/// A CiliumNetworkPolicy for the whole namespace with one item in `section`.
fn rule_in(section: &str, rule: &str) -> String {
    cnp(&format!("endpointSelector: {{}}\n{section}:\n- {}", indent(rule, 2).trim_start()))
}

fn only(text: &str) -> Parsed {
    let mut parsed = parse(text);
    assert_eq!(parsed.len(), 1, "{text}");
    parsed.remove(0)
}

#[track_caller]
fn accepted(text: &str) -> Document {
    match only(text) {
        Parsed::Policy(document) => document,
        other => panic!("{text}\n{other:?}"),
    }
}

#[track_caller]
fn refused(text: &str) -> DocumentError {
    match only(text) {
        Parsed::Invalid(error) => error,
        other => panic!("{text}\n{other:?}"),
    }
}

#[track_caller]
fn spec(text: &str) -> Spec {
    let mut document = accepted(text);
    assert_eq!(document.specs.len(), 1);
    document.specs.remove(0)
}

/// The one rule of `section`, which is `ingress` or `egress`.
#[track_caller]
fn rule(section: &str, text: &str) -> Rule {
    let spec = spec(&rule_in(section, text));
    let mut rules = if section == "ingress" { spec.ingress } else { spec.egress };
    assert_eq!(rules.len(), 1);
    rules.remove(0)
}
