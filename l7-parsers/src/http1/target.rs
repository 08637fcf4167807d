//! The four forms of a request target (RFC 9112 §3.2).

use super::Refusal;
use crate::{authority, path};

/// A request target, by form. Paths are raw: [`path::normalize`] accepts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`
    Origin(&'a str),
    /// `http://authority/path?query`
    Absolute { authority: &'a str, path: &'a str },
    /// `host:port` of CONNECT
    Authority(&'a str),
    /// `*` of OPTIONS
    Asterisk,
}

impl<'a> Target<'a> {
    pub(super) fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, Refusal> {
        let target = std::str::from_utf8(target)
            .map_err(|_| Refusal::InvalidTarget(path::PathError::InvalidCharacter))?;
        if method == b"CONNECT" {
            authority::check(target.as_bytes()).map_err(|_| Refusal::TargetForm)?;
            // RFC 9110 §9.3.6: the port is not optional.
            let (_, port) = target.rsplit_once(':').ok_or(Refusal::TargetForm)?;
            return if port.ends_with(']') {
                Err(Refusal::TargetForm)
            } else {
                Ok(Target::Authority(target))
            };
        }
        if target == "*" {
            return if method == b"OPTIONS" { Ok(Target::Asterisk) } else { Err(Refusal::TargetForm) };
        }
        if target.starts_with('/') {
            path::normalize(target)?;
            return Ok(Target::Origin(target));
        }
        let Some((scheme, rest)) = target.split_once("://") else { return Err(Refusal::TargetForm) };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(Refusal::TargetScheme);
        }
        // Without a path there is none to judge: `http://host` means `/`, but `http://host?x` is read
        // in several ways.
        let slash = rest.find('/').ok_or(Refusal::TargetForm)?;
        let (authority, path) = rest.split_at(slash);
        authority::check(authority.as_bytes())?;
        path::normalize(path)?;
        Ok(Target::Absolute { authority, path })
    }
}
