//! ICMP types by number or name.

use serde_json::Value;

use super::{
    cursor::{At, Findings, not_a_word},
    rule::Place,
};
use crate::model::{PortMatch, PortRef, PortRule, Protocol};

const MOST_FIELDS: usize = 40;

const V4: [(&str, u16); 14] = [
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEchoRequest", 42),
    ("ExtendedEchoReply", 43),
];

const V6: [(&str, u16); 27] = [
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];

/// One item of `icmps`, with all its fields.
pub(super) fn read(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<PortRule> {
    let object = at.object(&["fields"], f)?;
    let fields = object.list("fields", f).unwrap_or_default();
    if fields.len() > MOST_FIELDS {
        let reason = format!("has {} types; at most {MOST_FIELDS} are allowed", fields.len());
        f.problem(&object.path_of("fields"), reason);
    }
    if fields.is_empty() {
        f.warn(&at.path, "names no type, so it matches nothing");
    }
    let ports = fields.iter().filter_map(|field| read_field(field, f)).collect();
    Some(PortRule { origin: place.origin(&at.path), ports, l7: None })
}

fn read_field(at: &At<'_>, f: &mut Findings) -> Option<PortMatch> {
    let object = at.object(&["family", "type"], f)?;
    let family = match object.get("family", f) {
        Some(family) => family.word(&["IPv4", "IPv6"], f)?,
        None => "IPv4",
    };
    let icmp_type = object.require("type", f)?;
    let (protocol, names): (_, &[(&str, u16)]) =
        if family == "IPv4" { (Protocol::Icmp, &V4) } else { (Protocol::Icmpv6, &V6) };
    let number = match icmp_type.value {
        Value::String(text) => {
            read_type(text, names, family).map_err(|reason| f.problem(&icmp_type.path, reason)).ok()?
        }
        _ => u16::try_from(icmp_type.integer(0, 255, f)?).ok()?,
    };
    Some(PortMatch { protocol, port: PortRef::Range(number, number) })
}

fn read_type(text: &str, names: &[(&str, u16)], family: &str) -> Result<u16, String> {
    if let Some((_, number)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u8>() {
            Ok(number) if number.to_string() == text => Ok(number.into()),
            Ok(number) => Err(format!("has leading zeros; write {number}")),
            Err(_) => Err(format!("{text} is no ICMP type; they go from 0 to 255")),
        };
    }
    let words: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    Err(format!("is no ICMP type of {family}: {}", not_a_word(text, &words)))
}
