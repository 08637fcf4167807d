//! What a port rule says about requests: `rules`, `serverNames`, TLS contexts and listeners.

use super::{
    cursor::{At, Findings, Object},
    fqdn, grpc, http, kafka,
    rule::{Direction, Place},
};
use crate::{
    model::{DocumentKind, L7, RequestRules},
    names,
};

/// Whether requests are read, rather than connections handed on as they are.
pub(super) fn looks_into_requests(l7: &L7) -> bool {
    match l7 {
        L7::Http(_) | L7::Kafka(_) | L7::Dns(_) => true,
        L7::Other(name) => !matches!(name.split(' ').next(), Some("listener" | "tls")),
        L7::Sni(_) => false,
    }
}

/// Reads all L7 fields of a port rule. Of several (rules and server names with TLS termination) the
/// most telling one goes into the model; a note says what else is there.
pub(super) fn read(port_rule: &Object<'_>, place: &Place, f: &mut Findings) -> Option<L7> {
    let rules = port_rule.get("rules", f).and_then(|rules| read_rules(&rules, place, f));
    let names = port_rule.get("serverNames", f).and_then(|names| read_server_names(&names, f));
    let terminating = read_tls(port_rule, "terminatingTLS", f);
    let originating = read_tls(port_rule, "originatingTLS", f);
    let listener = port_rule.get("listener", f).and_then(|listener| read_listener(&listener, place, f));

    if names.is_some() && rules.is_some() && !terminating {
        f.problem(&port_rule.path_of("serverNames"), "goes with L7 rules only where terminatingTLS is given");
    }
    if listener.is_some() && rules.is_some() {
        f.problem(&port_rule.path_of("listener"), "does not go with L7 rules");
    }
    if listener.is_some() && place.direction == Direction::Ingress {
        f.problem(&port_rule.path_of("listener"), "works only in egress rules");
    }
    let tls = (terminating || originating).then(|| L7::Other("tls".to_owned()));
    rules.or(listener).or(names.map(L7::Sni)).or(tls)
}

const PROTOCOLS: [&str; 5] = ["http", "grpc", "dns", "kafka", "l7proto"];

/// `None`: no rule (an empty list is none too).
fn read_rules(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<L7> {
    let rules = at.object(&["http", "grpc", "dns", "kafka", "l7proto", "l7"], f)?;
    let given: Vec<&str> = PROTOCOLS.into_iter().filter(|name| rules.has(name)).collect();
    if rules.has("l7") && !rules.has("l7proto") {
        f.problem(&rules.path_of("l7"), "needs l7proto, the protocol's name");
    }
    match given.as_slice() {
        [] => {
            f.problem(&at.path, "names no protocol; write http or dns, or remove it");
            return None;
        }
        // A gRPC request is an HTTP request: these are two ways to name what passes.
        [_] | ["http", "grpc"] => {}
        several => {
            let reason =
                format!("takes one protocol, not {}; write a port rule for each", several.join(" and "));
            f.problem(&at.path, reason);
        }
    }
    if ["http", "grpc"].contains(&given[0]) {
        return read_requests(&rules, place, f);
    }
    let value = rules.get(given[0], f)?;
    if given[0] == "l7proto" {
        f.not_enforced(&value.path, "L7 protocols of Envoy's own");
        for item in rules.list("l7", f).unwrap_or_default() {
            item.strings(f);
        }
        let protocol = value.string(f)?;
        if protocol.is_empty() || protocol.contains(char::is_whitespace) {
            f.problem(&value.path, format!("{protocol:?} is no protocol's name"));
        }
        return Some(L7::Other(protocol.to_owned()));
    }
    let items = value.list(f)?;
    if items.is_empty() {
        return None;
    }
    match given[0] {
        "dns" => {
            f.not_enforced(&value.path, "DNS rules");
            Some(L7::Dns(items.iter().filter_map(|item| fqdn::read(item, f)).collect()))
        }
        _ => Some(L7::Kafka(items.iter().filter_map(|item| kafka::read(item, place, f)).collect())),
    }
}

/// Two empty lists are no rule, as one is.
fn read_requests(rules: &Object<'_>, place: &Place, f: &mut Findings) -> Option<L7> {
    let (http, grpc) = (rules.list("http", f).unwrap_or_default(), rules.list("grpc", f).unwrap_or_default());
    if http.is_empty() && grpc.is_empty() {
        return None;
    }
    Some(L7::Http(RequestRules {
        http: http.iter().filter_map(|item| http::read(item, place, f)).collect(),
        grpc: grpc.iter().filter_map(|item| grpc::read(item, place, f)).collect(),
    }))
}

fn read_server_names(at: &At<'_>, f: &mut Findings) -> Option<Vec<String>> {
    f.not_enforced(&at.path, "TLS server names");
    let items = at.list(f)?;
    if items.is_empty() {
        f.problem(&at.path, "is empty; name a server, or remove it");
    }
    let mut names: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = item.string(f) else { continue };
        if !fqdn::is_pattern(name) {
            f.problem(&item.path, format!("{name:?} is no server name"));
        }
        if names.iter().any(|other| other == name) {
            f.problem(&item.path, format!("{name:?} stands twice"));
        }
        names.push(name.to_owned());
    }
    Some(names)
}

fn read_tls(port_rule: &Object<'_>, field: &str, f: &mut Findings) -> bool {
    let Some(at) = port_rule.get(field, f) else { return false };
    f.not_enforced(&at.path, "TLS interception");
    if let Some(tls) = at.object(&["secret", "trustedCA", "certificate", "privateKey"], f) {
        if let Some(secret) = tls.require("secret", f) {
            read_secret(&secret, f);
        }
        for name in ["trustedCA", "certificate", "privateKey"] {
            tls.string(name, f);
        }
    }
    true
}

/// A reference to a Kubernetes secret.
pub(super) fn read_secret(at: &At<'_>, f: &mut Findings) {
    let Some(secret) = at.object(&["name", "namespace"], f) else { return };
    secret.string("namespace", f);
    if let Some(name) = secret.require("name", f)
        && name.string(f) == Some("")
    {
        f.problem(&name.path, "is empty; name the secret");
    }
}

fn read_listener(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<L7> {
    f.not_enforced(&at.path, "listeners of Envoy configurations");
    let listener = at.object(&["envoyConfig", "name", "priority"], f)?;
    if let Some(priority) = listener.get("priority", f) {
        priority.integer(1, 100, f);
    }
    if let Some(config) = listener.require("envoyConfig", f).and_then(|c| c.object(&["kind", "name"], f)) {
        let kinds = ["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"];
        let kind = config.get("kind", f).and_then(|kind| kind.word(&kinds, f));
        if place.document.kind == DocumentKind::CiliumClusterwideNetworkPolicy && kind == Some(kinds[0]) {
            f.problem(&config.path_of("kind"), "a clusterwide policy needs a CiliumClusterwideEnvoyConfig");
        }
        if let Some(name) = config.require("name", f)
            && let Some(text) = name.string(f)
            && let Err(reason) = names::dns_subdomain(text)
        {
            f.problem(&name.path, reason);
        }
    }
    let name = listener.require("name", f)?;
    let text = name.string(f)?;
    if text.is_empty() {
        f.problem(&name.path, "is empty; name the listener");
    }
    Some(L7::Other(format!("listener {text}")))
}
