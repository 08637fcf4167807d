use super::*;
use crate::flows::{
    compact,
    record::{Decision, Http},
    testing::{self, RULE},
};

#[test]
fn a_line_names_ends_verdict_and_rule() {
    let line = line(&testing::record(), Style::Plain);
    for part in ["demo/client ", "demo/web:80 ", "forwarded ", "TCP SYN", RULE] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    assert!(!line.contains('\x1b'));
    let columns = |line: &str| line.chars().count();
    let heading = heading(Style::Plain);
    assert_eq!(columns(line.split(RULE).next().unwrap()), columns(heading.split("RULE").next().unwrap()));
}

#[test]
fn colour_only_where_asked() {
    let mut record = testing::record();
    record.verdict = Verdict::Dropped;
    assert!(line(&record, Style::Colour).contains("\x1b[31mdropped"));
    assert!(!compact::line(&record, Style::Plain).contains('\x1b'));
    assert!(compact::line(&record, Style::Plain).contains(" DROPPED "));
}

#[test]
fn the_wire_cannot_speak_to_the_terminal() {
    let mut record = testing::record();
    record.http = Some(Http { method: "GET".into(), path: "/\x1b[2J\n\u{202e}".into(), ..Http::default() });
    record.reason = "\x07".into();
    for line in [line(&record, Style::Plain), compact::line(&record, Style::Plain)] {
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        assert!(line.contains(r"\u{1b}"), "{line:?}");
    }
}

#[test]
fn ends_without_a_name_show_entity_and_address() {
    let mut record = testing::record();
    record.source.name = "".into();
    record.source.labels = ["reserved:world".into()].into();
    assert_eq!(end(&record.source, false), "world 10.0.0.1");
    record.source.ip = Some("fd00::1".parse().unwrap());
    record.source.labels = [].into();
    assert_eq!(end(&record.source, true), "[fd00::1]:40000");
    record.source.namespace = "default".into();
    record.source.name = "web".into();
    assert_eq!(end(&record.source, true), "web:40000");
}

#[test]
fn a_drop_without_a_rule_shows_its_reason() {
    let mut record = testing::record();
    record.verdict = Verdict::Dropped;
    record.rule = "".into();
    record.ingress = Decision::not_asked();
    record.reason = "malformed packet".into();
    assert_eq!(why(&record), "malformed packet");
    record.rule = "default deny (x)".into();
    record.reason = "no rule allows it".into();
    assert_eq!(why(&record), "default deny (x)");
    record.rule = "rule".into();
    record.reason = "denied by policy".into();
    assert_eq!(why(&record), "rule (denied by policy)");
}
