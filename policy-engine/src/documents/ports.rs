//! Ports and protocols of a Cilium policy: the items of `toPorts`.

use super::{
    cursor::{At, Findings},
    l7,
    rule::{Direction, Effect, Place},
};
use crate::{
    model::{L7, PortMatch, PortRef, PortRule, Protocol},
    names,
};

const MOST_PORTS: usize = 40;
const TRANSPORTS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
/// Protocols without ports, which Cilium knows behind a switch and Tektin does not.
const PORTLESS: [&str; 7] = ["VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"];

const IN_DENY: [(&str, &str); 5] = [
    ("rules", "does not work in deny rules; only an allow rule can look into requests"),
    ("serverNames", "does not work in deny rules"),
    ("listener", "does not work in deny rules"),
    ("terminatingTLS", "does not work in deny rules"),
    ("originatingTLS", "does not work in deny rules"),
];

/// One item of `ports` after reading.
struct Port {
    path: String,
    port: PortRef,
    /// `None`: every transport protocol.
    protocol: Option<Protocol>,
}

/// One item of `toPorts`, with all its ports.
pub(super) fn read(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<PortRule> {
    let object = match place.effect {
        Effect::Deny => at.object_with(&["ports"], &IN_DENY, f)?,
        Effect::Allow => {
            at.object(&["ports", "rules", "serverNames", "terminatingTLS", "originatingTLS", "listener"], f)?
        }
    };
    let items = object.list("ports", f).unwrap_or_default();
    if items.len() > MOST_PORTS {
        let reason = format!(
            "has {} ports; at most {MOST_PORTS} are allowed: split it into several rules",
            items.len()
        );
        f.problem(&object.path_of("ports"), reason);
    }
    if items.is_empty() {
        f.warn(&at.path, "names no port, so it matches nothing");
    }
    let ports: Vec<Port> = items.iter().filter_map(|item| read_port(item, f)).collect();
    let rules = if place.effect == Effect::Allow { l7::read(&object, place, f) } else { None };
    if let Some(rules) = rules.as_ref().filter(|rules| l7::looks_into_requests(rules)) {
        check_ports(&ports, rules, &object.path_of("ports"), f);
        check_place(rules, &object.path_of("rules"), place, f);
    }
    let ports = ports.into_iter().flat_map(expand).collect();
    Some(PortRule { origin: place.origin(&at.path), ports, l7: rules })
}

/// Requests are read from TCP streams (names from DNS over UDP too) on ports that are known.
fn check_ports(ports: &[Port], rules: &L7, list: &str, f: &mut Findings) {
    let dns = matches!(rules, L7::Dns(_));
    if dns && ports.is_empty() {
        f.problem(list, "must name port 53 for DNS rules");
    }
    for port in ports {
        match port.port {
            PortRef::Range(0, u16::MAX) => {
                f.problem(&port.path, "every port does not go with L7 rules; name the ports");
            }
            PortRef::Range(first, last) if dns && first != last => {
                f.problem(&port.path, "a range does not go with DNS rules; name the ports one by one");
            }
            _ => {}
        }
        if !dns && port.protocol != Some(Protocol::Tcp) {
            f.problem(&port.path, "L7 rules other than DNS need TCP; write protocol: TCP");
        }
    }
}

fn check_place(rules: &L7, path: &str, place: &Place, f: &mut Findings) {
    let dns = matches!(rules, L7::Dns(_));
    match (place.direction, place.on_host) {
        (Direction::Ingress, _) if dns => f.problem(path, "DNS rules work only in egress rules"),
        (Direction::Ingress, true) => f.problem(path, "L7 rules do not work for hosts (nodeSelector)"),
        (Direction::Egress, true) if !dns => {
            f.problem(path, "hosts (nodeSelector) take only DNS rules at egress")
        }
        _ => {}
    }
}

fn expand(port: Port) -> Vec<PortMatch> {
    let protocols = port.protocol.map_or_else(|| TRANSPORTS.to_vec(), |one| vec![one]);
    protocols.into_iter().map(|protocol| PortMatch { protocol, port: port.port.clone() }).collect()
}

fn read_port(at: &At<'_>, f: &mut Findings) -> Option<Port> {
    let object = at.object(&["port", "endPort", "protocol"], f)?;
    let protocol = match object.get("protocol", f) {
        Some(protocol) => read_protocol(&protocol, f),
        None => None,
    };
    let end = object.get("endPort", f).and_then(|end| {
        let number = end.integer(0, 65535, f)?;
        Some((u16::try_from(number).ok()?, end.path))
    });
    if !object.has("port") {
        let ways = "; write \"0\" for every port";
        f.problem(&object.path_of("port"), format!("is missing{ways}"));
        return None;
    }
    let text = object.get("port", f)?;
    let mut port = text
        .string(f)
        .and_then(|port| parse_port(port).map_err(|reason| f.problem(&text.path, reason)).ok())?;
    // An endPort of 0 counts as none.
    if let Some((end, path)) = end.filter(|(end, _)| *end != 0) {
        port = with_end(port, end).map_err(|reason| f.problem(&path, reason)).ok()?;
    }
    Some(Port { path: at.path.clone(), port, protocol })
}

/// A port as it stands in a document's string. `"0"` is every port.
fn parse_port(text: &str) -> Result<PortRef, String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let digits = text.trim_start_matches('0');
        if text != "0" && digits.len() != text.len() {
            let number = if digits.is_empty() { "0" } else { digits };
            return Err(format!("{text:?} has leading zeros, which some read as octal; write {number:?}"));
        }
        return match text.parse::<u16>() {
            Ok(0) => Ok(PortRef::Range(0, u16::MAX)),
            Ok(number) => Ok(PortRef::Range(number, number)),
            Err(_) => Err(format!("{text} is no port; they go from 1 to 65535")),
        };
    }
    if let Some(number) = odd_number(text) {
        return Err(format!("{text:?} is a strange way to write a number; write \"{number}\""));
    }
    if names::is_service_name(text) {
        return Ok(PortRef::Named(text.to_ascii_lowercase()));
    }
    Err(match text {
        "" => "is empty; write \"0\" for every port".to_owned(),
        _ => format!(
            "{text:?} is neither a port number nor a port name (1 to 15 letters, digits and single dashes, with a letter)"
        ),
    })
}

/// Numbers as programmers write them: `0x50`, `0o120`, `0b1`, `8_080`.
fn odd_number(text: &str) -> Option<u16> {
    let lower = text.to_ascii_lowercase().replace('_', "");
    let parse = |digits: &str, radix| u16::from_str_radix(digits, radix).ok();
    match lower.get(..2) {
        Some("0x") => parse(&lower[2..], 16),
        Some("0o") => parse(&lower[2..], 8),
        Some("0b") => parse(&lower[2..], 2),
        _ => lower.bytes().all(|b| b.is_ascii_digit()).then(|| parse(&lower, 10)).flatten(),
    }
}

/// Joins a port and its endPort (which is not 0).
pub(super) fn with_end(port: PortRef, end: u16) -> Result<PortRef, String> {
    match port {
        PortRef::Named(name) => Err(format!("does not go with the named port {name:?}; write numbers")),
        PortRef::Range(0, u16::MAX) => {
            Err("does not go with port 0, which is every port; write the first port, or remove endPort"
                .to_owned())
        }
        PortRef::Range(first, _) if end < first => {
            Err(format!("{end} is below the port {first}; a range goes from port up to endPort"))
        }
        PortRef::Range(first, _) => Ok(PortRef::Range(first, end)),
    }
}

/// `None`: every transport protocol (or none that exists, which is a problem).
fn read_protocol(at: &At<'_>, f: &mut Findings) -> Option<Protocol> {
    let text = at.string(f)?;
    let upper = text.to_ascii_uppercase();
    match text {
        "TCP" => return Some(Protocol::Tcp),
        "UDP" => return Some(Protocol::Udp),
        "SCTP" => return Some(Protocol::Sctp),
        "ANY" => return None,
        _ => {}
    }
    let reason = match upper.as_str() {
        "TCP" | "UDP" | "SCTP" | "ANY" => format!("{text:?} must be upper case; write {upper:?}"),
        "ICMP" | "ICMPV6" => "ICMP has no ports; write an icmps rule".to_owned(),
        other if PORTLESS.contains(&other) => {
            format!("{other} is not supported; Tektin judges TCP, UDP, SCTP, ICMP and ICMPv6")
        }
        _ => format!("{text:?} is no protocol; write TCP, UDP, SCTP or ANY"),
    };
    f.problem(&at.path, reason);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_texts() {
        assert_eq!(parse_port("80"), Ok(PortRef::Range(80, 80)));
        assert_eq!(parse_port("0"), Ok(PortRef::Range(0, 65535)));
        assert_eq!(parse_port("HTTP"), Ok(PortRef::Named("http".into())));
        assert_eq!(parse_port("1a"), Ok(PortRef::Named("1a".into())));
        for (text, reason) in [
            ("0100", "write \"100\""),
            ("080", "write \"80\""),
            ("000", "write \"0\""),
            ("0x50", "write \"80\""),
            ("0b11", "write \"3\""),
            ("8_0", "write \"80\""),
            ("99999", "from 1 to 65535"),
            ("", "every port"),
            ("a_b", "neither"),
            ("-1", "neither"),
            ("+80", "neither"),
            ("http-alternative", "neither"),
            ("é", "neither"),
        ] {
            let error = parse_port(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
