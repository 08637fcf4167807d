//! Flow records as lines of a table that grows: column widths are fixed, so that each line can be
//! printed as it comes.

use super::record::{End, FlowRecord, Grpc, Kafka, Layer, Verdict};
use crate::cli::style::{Style, fit};

/// The columns before the last one, which takes what is left of the line.
const COLUMNS: [(&str, usize); 4] = [("TIME", 12), ("SOURCE", 26), ("DESTINATION", 28), ("VERDICT", 10)];

/// The heading.
#[must_use]
pub fn heading(style: Style) -> String {
    let line: Vec<_> = COLUMNS.iter().map(|(name, width)| fit(name, *width)).collect();
    style.heading(&format!("{}  {}  RULE OR REASON", line.join("  "), fit("WHAT", WHAT)))
}

const WHAT: usize = 34;

/// One record, one line. Text from the wire is shown without control characters.
#[must_use]
pub fn line(record: &FlowRecord, style: Style) -> String {
    let [time, source, destination, verdict] = COLUMNS.map(|(_, width)| width);
    format!(
        "{}  {}  {}  {}  {}  {}",
        fit(&local_time(record), time),
        fit(&end(&record.source, false), source),
        fit(&end(&record.destination, true), destination),
        verdict_colour(record.verdict, style, &fit(record.verdict.name(), verdict)),
        fit(&what(record), WHAT),
        why(record),
    )
}

/// Green, yellow, red.
#[must_use]
pub fn verdict_colour(verdict: Verdict, style: Style, text: &str) -> String {
    match verdict {
        Verdict::Forwarded => style.good(text),
        Verdict::Redirected => style.note(text),
        Verdict::Dropped | Verdict::Denied | Verdict::Refused | Verdict::Error => style.bad(text),
    }
}

/// `HH:MM:SS.mmm` of the reader's time zone.
fn local_time(record: &FlowRecord) -> String {
    record.time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string()
}

/// The name that tells a person most: `namespace/name`, else the entity and address.
#[must_use]
pub fn end(end: &End, with_port: bool) -> String {
    let port = if with_port && end.port != 0 { format!(":{}", end.port) } else { String::new() };
    if !end.name.is_empty() {
        return match &*end.namespace {
            "" | "default" => format!("{}{port}", end.name),
            namespace => format!("{namespace}/{}{port}", end.name),
        };
    }
    let address = match end.ip {
        Some(ip) if ip.is_ipv6() && !port.is_empty() => format!("[{ip}]{port}"),
        Some(ip) => format!("{ip}{port}"),
        None => port,
    };
    match end.labels.iter().find_map(|label| label.strip_prefix("reserved:")) {
        Some(entity) => format!("{} {address}", entity.trim_end_matches('=')),
        None => address,
    }
}

/// The request, or the packet's protocol with its flags.
#[must_use]
pub fn what(record: &FlowRecord) -> String {
    if let Some(grpc) = record.grpc.as_ref().filter(|grpc| !grpc.method.is_empty()) {
        return grpc_call(grpc);
    }
    if let Some(http) = &record.http {
        let status = http.status.map_or_else(String::new, |status| format!(" {status}"));
        return format!("{} {}{status}", http.method, http.path);
    }
    if let Some(kafka) = &record.kafka {
        return kafka_request(kafka);
    }
    let protocol = record.l4.protocol;
    match (record.l4.icmp, record.layer) {
        (Some(icmp), _) => format!("{protocol} type {} code {}", icmp.kind, icmp.code),
        (None, Layer::L7) => format!("{protocol} connection"),
        (None, Layer::L4) if record.l4.flags.is_empty() => protocol.to_string(),
        (None, Layer::L4) => format!("{protocol} {}", record.l4.flags),
    }
}

/// `shop.Orders/Watch OK 1+7`: a message of the client, seven of the server.
fn grpc_call(grpc: &Grpc) -> String {
    let status = match (grpc.status, grpc.status_name.as_str()) {
        (None, _) => String::new(),
        (Some(code), "") => format!(" {code}"),
        (Some(_), name) => format!(" {name}"),
    };
    let (asked, answered) = (grpc.messages_from_client, grpc.messages_from_server);
    format!("{}/{}{status} {asked}+{answered}", grpc.service, grpc.method)
}

/// `Produce v9 orders stock error 29`
fn kafka_request(kafka: &Kafka) -> String {
    let mut text = match kafka.api.as_str() {
        "" => format!("Kafka request {} v{}", kafka.api_key, kafka.api_version),
        api => format!("{api} v{}", kafka.api_version),
    };
    let group = Some(&kafka.group).filter(|group| !group.is_empty());
    for name in kafka.topics.iter().take(3).chain(group) {
        text.push_str(&format!(" {name}"));
    }
    if kafka.topics_in_all > 3 {
        text.push_str(&format!(" ({} topics)", kafka.topics_in_all));
    }
    if kafka.error_code != 0 {
        text.push_str(&format!(" error {}", kafka.error_code));
    }
    text
}

/// The deciding rule, the reason, or both.
#[must_use]
pub fn why(record: &FlowRecord) -> String {
    let text = match (&*record.rule, &*record.reason) {
        (rule, "") => rule.to_owned(),
        ("", reason) => reason.to_owned(),
        // The sentence of a policy drop says less than the rule.
        (rule, _) if record.verdict == Verdict::Dropped && rule.starts_with("default deny") => {
            rule.to_owned()
        }
        (rule, reason) => format!("{rule} ({reason})"),
    };
    crate::cli::style::printable(&text)
}

#[cfg(test)]
mod tests;
