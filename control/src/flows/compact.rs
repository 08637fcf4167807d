//! Flow records as one unpadded line each, for small terminals and `grep`.

use super::{
    record::{FlowRecord, Verdict},
    table::{end, verdict_colour, what, why},
};
use crate::cli::style::{Style, printable};

/// `TIME SOURCE -> DESTINATION WHAT VERDICT (WHY)`; the time is RFC 3339.
#[must_use]
pub fn line(record: &FlowRecord, style: Style) -> String {
    let why = match why(record) {
        empty if empty.is_empty() => String::new(),
        why => format!(" ({why})"),
    };
    format!(
        "{:.3} {} -> {} {} {}{why}",
        record.time,
        printable(&end(&record.source, true)),
        printable(&end(&record.destination, true)),
        printable(&what(record)),
        verdict_colour(record.verdict, style, &shout(record.verdict)),
    )
}

fn shout(verdict: Verdict) -> String {
    verdict.name().to_ascii_uppercase()
}
