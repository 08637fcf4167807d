//! Which flow records a reader wants.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use jiff::Timestamp;
use regex_automata::meta::Regex;
use serde::{Deserialize, Serialize};

use super::record::{End, FlowRecord, Http, Layer, Protocol, Verdict};

/// Fields are joined by AND, the values of one field by OR; an empty field asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowFilter {
    pub verdict: Vec<Verdict>,
    pub layer: Vec<Layer>,
    /// `name` or `namespace/name` of either end, of the source, of the destination.
    pub endpoint: Vec<String>,
    pub from_endpoint: Vec<String>,
    pub to_endpoint: Vec<String>,
    /// `[source:]key[=value]` of either end, of the source, of the destination.
    pub label: Vec<String>,
    pub from_label: Vec<String>,
    pub to_label: Vec<String>,
    /// Addresses or prefixes of either end, of the source, of the destination.
    pub ip: Vec<IpNet>,
    pub from_ip: Vec<IpNet>,
    pub to_ip: Vec<IpNet>,
    /// Number of either end, of the source, of the destination.
    pub identity: Vec<u32>,
    /// Destination port.
    pub port: Vec<u16>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number; `http` for HTTP requests (gRPC calls
    /// are some), `grpc`, `kafka`.
    pub protocol: Vec<String>,
    pub method: Vec<String>,
    /// Regular expressions that the whole path (with query) must match.
    pub path: Vec<String>,
    pub host: Vec<String>,
    /// `404` or `4xx`.
    pub status: Vec<String>,
    /// Records at or after, before.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// A prefix, or an address as its own prefix.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|net| net.trunc())
        .map_err(|_| format!("{text:?} is neither an address nor a prefix"))
}

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("path filter {0:?} is not a regular expression: {1}")]
    Path(String, String),
    #[error("status filter {0:?} is neither a status such as 404 nor a class such as 4xx")]
    Status(String),
    #[error("protocol filter {0:?} is none of tcp, udp, sctp, icmp, icmpv6, http, grpc, kafka, nor a number")]
    Protocol(String),
    #[error("label filter {0:?} has no key")]
    Label(String),
}

/// A filter that was checked, ready to be asked for each record.
#[derive(Debug)]
pub struct Filter {
    wanted: FlowFilter,
    protocols: Vec<WantedProtocol>,
    paths: Vec<Regex>,
    statuses: Vec<RangeInclusive<u16>>,
}

#[derive(Debug, PartialEq, Eq)]
enum WantedProtocol {
    L4(Protocol),
    Http,
    Grpc,
    Kafka,
}

impl Filter {
    pub fn new(wanted: &FlowFilter) -> Result<Self, FilterError> {
        for label in [&wanted.label, &wanted.from_label, &wanted.to_label].into_iter().flatten() {
            if LabelFilter::new(label).key.is_empty() {
                return Err(FilterError::Label(label.clone()));
            }
        }
        Ok(Self {
            protocols: wanted.protocol.iter().map(|text| wanted_protocol(text)).collect::<Result<_, _>>()?,
            paths: wanted.path.iter().map(|text| whole_path(text)).collect::<Result<_, _>>()?,
            statuses: wanted.status.iter().map(|text| status_range(text)).collect::<Result<_, _>>()?,
            wanted: wanted.clone(),
        })
    }

    #[must_use]
    pub fn matches(&self, record: &FlowRecord) -> bool {
        let FlowRecord { source, destination, .. } = record;
        let wanted = &self.wanted;
        let http = record.http.as_ref();
        let of_http = |list: &[String], field: fn(&Http) -> &str| {
            list.is_empty()
                || http.is_some_and(|http| list.iter().any(|text| text.eq_ignore_ascii_case(field(http))))
        };
        any(&wanted.verdict, |verdict| *verdict == record.verdict)
            && any(&wanted.layer, |layer| *layer == record.layer)
            && any(&wanted.endpoint, |name| is_named(source, name) || is_named(destination, name))
            && any(&wanted.from_endpoint, |name| is_named(source, name))
            && any(&wanted.to_endpoint, |name| is_named(destination, name))
            && any(&wanted.label, |label| has_label(source, label) || has_label(destination, label))
            && any(&wanted.from_label, |label| has_label(source, label))
            && any(&wanted.to_label, |label| has_label(destination, label))
            && any(&wanted.ip, |net| is_within(source, net) || is_within(destination, net))
            && any(&wanted.from_ip, |net| is_within(source, net))
            && any(&wanted.to_ip, |net| is_within(destination, net))
            && any(&wanted.identity, |id| *id == source.identity || *id == destination.identity)
            && any(&wanted.port, |port| *port == destination.port)
            && any(&self.protocols, |protocol| match protocol {
                WantedProtocol::L4(protocol) => *protocol == record.l4.protocol,
                WantedProtocol::Http => http.is_some(),
                WantedProtocol::Grpc => record.grpc.is_some(),
                WantedProtocol::Kafka => record.kafka.is_some(),
            })
            && of_http(&wanted.method, |http| &http.method)
            && of_http(&wanted.host, |http| &http.host)
            && any(&self.paths, |path| http.is_some_and(|http| path.is_match(&http.path)))
            && any(&self.statuses, |range| {
                http.and_then(|http| http.status).is_some_and(|status| range.contains(&status))
            })
            && wanted.since.is_none_or(|since| record.time >= since)
            && wanted.until.is_none_or(|until| record.time < until)
    }
}

/// Whether nothing is asked, or one of the values fits.
fn any<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(fits)
}

fn is_named(end: &End, wanted: &str) -> bool {
    !end.name.is_empty()
        && match wanted.split_once('/') {
            Some((namespace, name)) => *end.namespace == *namespace && *end.name == *name,
            None => *end.name == *wanted,
        }
}

fn is_within(end: &End, net: &IpNet) -> bool {
    end.ip.is_some_and(|ip| net.contains(&ip))
}

/// `[source:]key[=value]`.
struct LabelFilter<'a> {
    source: Option<&'a str>,
    key: &'a str,
    value: Option<&'a str>,
}

impl<'a> LabelFilter<'a> {
    fn new(text: &'a str) -> Self {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let (source, key) = match name.split_once(':') {
            Some(("any", key)) => (None, key),
            Some((source, key)) => (Some(source), key),
            None => (None, name),
        };
        Self { source, key, value }
    }
}

fn has_label(end: &End, wanted: &str) -> bool {
    let wanted = LabelFilter::new(wanted);
    end.labels.iter().any(|label| {
        let label = LabelFilter::new(label);
        label.key == wanted.key
            && wanted.source.is_none_or(|source| label.source == Some(source))
            && wanted.value.is_none_or(|value| label.value.unwrap_or("") == value)
    })
}

fn whole_path(text: &str) -> Result<Regex, FilterError> {
    let compiled = |regex: &str| {
        Regex::new(regex).map_err(|error| {
            let reason = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
            FilterError::Path(text.to_owned(), reason)
        })
    };
    // Alone first: `a)|(b` must not close the group that anchors it, and errors show what was given.
    compiled(text)?;
    compiled(&format!("^(?:{text})$"))
}

fn status_range(text: &str) -> Result<RangeInclusive<u16>, FilterError> {
    let refused = || FilterError::Status(text.to_owned());
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class)).ok_or_else(refused)?;
        return Ok(class * 100..=class * 100 + 99);
    }
    let status: u16 = text.parse().ok().filter(|status| (100..=599).contains(status)).ok_or_else(refused)?;
    Ok(status..=status)
}

fn wanted_protocol(text: &str) -> Result<WantedProtocol, FilterError> {
    let protocol = match text.to_ascii_lowercase().as_str() {
        "http" => return Ok(WantedProtocol::Http),
        "grpc" => return Ok(WantedProtocol::Grpc),
        "kafka" => return Ok(WantedProtocol::Kafka),
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" => Protocol::Icmp,
        "icmpv6" => Protocol::Icmpv6,
        other => Protocol::from_number(other.parse().map_err(|_| FilterError::Protocol(text.to_owned()))?),
    };
    Ok(WantedProtocol::L4(protocol))
}

#[cfg(test)]
mod tests;
