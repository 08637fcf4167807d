//! HTTP rules.

use super::{
    cursor::{At, Findings, Object},
    l7,
    rule::Place,
};
use crate::model::{HeaderMatch, HttpRule, Mismatch};

/// One item of `rules.http`.
pub(super) fn read(at: &At<'_>, place: &Place, f: &mut Findings) -> Option<HttpRule> {
    let object = at.object(&["method", "path", "host", "headers", "headerMatches"], f)?;
    let mut headers = Vec::new();
    for item in object.list("headers", f).unwrap_or_default() {
        let Some(text) = item.string(f) else { continue };
        headers.extend(parse_header(text).map_err(|reason| f.problem(&item.path, reason)));
    }
    let mut header_matches = Vec::new();
    for item in object.list("headerMatches", f).unwrap_or_default() {
        header_matches.extend(read_header_match(&item, f));
    }
    Some(HttpRule {
        origin: place.origin(&at.path),
        method: read_regex(&object, "method", f),
        path: read_regex(&object, "path", f),
        host: read_regex(&object, "host", f),
        headers,
        header_matches,
    })
}

/// A regular expression; an empty one matches anything, as if it were not there.
fn read_regex(object: &Object<'_>, field: &str, f: &mut Findings) -> Option<String> {
    let at = object.get(field, f)?;
    let text = at.string(f).filter(|text| !text.is_empty())?;
    if let Err(reason) = crate::regex::check(text) {
        f.problem(&at.path, format!("{text:?} is no regular expression: {reason}"));
    }
    Some(text.to_owned())
}

/// `Name` (the header must be there) or `Name: value` (it must have this value; the colon may be left out).
fn parse_header(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once(' ') {
        Some((name, value)) => (name.trim_end_matches(':'), Some(value.to_owned())),
        None => (text, None),
    };
    check_name(name)?;
    Ok((name.to_ascii_lowercase(), value))
}

fn check_name(name: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        let hint = match name.split_once(':') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                format!("; write \"{name}: {value}\"")
            }
            Some((name, _)) if !name.is_empty() => format!("; write {name:?} to ask whether it is there"),
            _ => String::new(),
        };
        return Err(format!("{name:?} is no header name{hint}"));
    }
    Ok(())
}

fn read_header_match(at: &At<'_>, f: &mut Findings) -> Option<HeaderMatch> {
    let object = at.object(&["name", "value", "mismatch", "secret"], f)?;
    let value = object.string("value", f).unwrap_or_default();
    if let Some(secret) = object.get("secret", f) {
        l7::read_secret(&secret, f);
        f.not_enforced(&secret.path, "header values out of secrets");
    }
    let mismatch = match object.get("mismatch", f) {
        None => Mismatch::Deny,
        Some(mismatch) => match mismatch.word(&["LOG", "ADD", "DELETE", "REPLACE"], f)? {
            "LOG" => Mismatch::Log,
            "ADD" => Mismatch::Add,
            "DELETE" => Mismatch::Delete,
            _ => Mismatch::Replace,
        },
    };
    let name = object.require("name", f)?;
    let text = name.string(f)?;
    if let Err(reason) = check_name(text) {
        f.problem(&name.path, reason);
    }
    Some(HeaderMatch { name: text.to_ascii_lowercase(), value: value.to_owned(), mismatch })
}
