//! A request head as policy judges it and as the server gets it: one and the same form.

use std::{borrow::Cow, sync::Arc};

use l7_parsers::{
    http1::{Field, Framing, Head, RequestParts, Target, Version},
    path,
};
use policy_engine::http::{HeaderAction, HttpRequest};

use super::{
    Session,
    call::Call,
    fields::{ConnectionOptions, Fields, is, other_protocols},
};
use crate::{
    request::RequestError,
    response::Tongue,
    verdict::{Judged, Permit},
    worker::{Held, Share},
};

/// A request head in normal form.
pub(super) struct Request<'a> {
    method: &'a str,
    /// Origin form, `*`, or the authority of a CONNECT.
    target: Cow<'a, str>,
    host: &'a str,
    fields: Fields<'a>,
    manner: Manner,
    switch: Switch,
}

/// What the proxy must remember of a request until it has been answered.
pub(super) struct Manner {
    pub(super) version: Version,
    /// An HTTP/1.0 request that names its host is as good as an HTTP/1.1 one, and the upstream
    /// connection can be kept.
    pub(super) sent_as: Version,
    pub(super) framing: Framing,
    /// The response has no body, whatever it says.
    pub(super) is_head: bool,
    /// What the client understands.
    pub(super) tongue: Tongue,
    /// The client waits for a word before it sends the body.
    pub(super) expects_continue: bool,
    /// The client takes trailers.
    pub(super) takes_trailers: bool,
    /// The client wants no other request on this connection.
    pub(super) closes: bool,
    /// It may be sent a second time where the first one found no server (RFC 9110 §9.2.2).
    pub(super) is_repeatable: bool,
    /// It may be part of a login that belongs to the connection.
    pub(super) logs_in: bool,
}

impl Manner {
    /// Whether the connection ends after an answer of the proxy's own.
    pub(super) fn closes_after_own(&self, session: &Session) -> bool {
        // Who waits for 100 Continue sends no body after another answer, or does: there is no telling.
        self.closes
            || self.expects_continue
            || self.version == Version::Http10
            || session.gives_last_answers()
    }
}

/// Whether the stream may stop being HTTP after the response.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Switch {
    No,
    Connect,
    /// To one of these protocols.
    Upgrade(String),
}

/// An allowed request, as octets to send.
pub(super) struct Outbound {
    pub(super) head: Vec<u8>,
    pub(super) manner: Manner,
    /// `Some`: the stream may stop being HTTP after the response.
    pub(super) asked: Option<Asked>,
}

/// A request that may switch protocols, to be judged again while its tunnel stands.
pub(crate) struct Asked {
    method: String,
    path: String,
    host: String,
    fields: Fields<'static>,
    /// Offered protocols; `None`: CONNECT.
    offered: Option<String>,
}

impl<'a> Request<'a> {
    /// From the octets of a head that the scan has let through as `head`.
    pub(super) fn read(octets: &'a [u8], head: Head) -> Result<Self, RequestError> {
        let parts = RequestParts::read(octets).ok_or(RequestError::TwoReadings)?;
        let options = ConnectionOptions::of(parts.fields());
        let (mut fields, mut host) = (Fields::default(), None);
        let (mut expects_continue, mut trailers_wanted, mut logs_in) = (false, false, false);
        for field in parts.fields() {
            if is(field.name, "te") {
                let mut codings = field.value.split(|octet| *octet == b',');
                trailers_wanted |=
                    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"));
            }
            // Trailers come after the verdict, so they end here, and with them their announcement.
            if options.ends_here(field.name) || is(field.name, "trailer") {
                continue;
            }
            if is(field.name, "host") {
                host = std::str::from_utf8(field.value).ok();
            }
            expects_continue |= is(field.name, "expect") && head.version == Version::Http11;
            logs_in |= is_login(&field);
            fields.push(field.name, field.value);
        }
        let offered: Vec<_> = if options.has("upgrade") && head.version == Version::Http11 {
            let upgrades = parts.fields().filter(|field| is(field.name, "upgrade"));
            other_protocols(upgrades.map(|field| field.value))
        } else {
            Vec::new()
        };
        let (target, switch) = match parts.target {
            Target::Authority(authority) => (Cow::Borrowed(authority), Switch::Connect),
            Target::Asterisk => (Cow::Borrowed("*"), Switch::No),
            Target::Origin(path) => (path::normalize(path)?, Switch::No),
            Target::Absolute { authority, path } => {
                if host.is_none() {
                    fields.push("host", authority.as_bytes());
                    host = Some(authority);
                }
                (path::normalize(path)?, Switch::No)
            }
        };
        let switch = match switch {
            Switch::No if !offered.is_empty() => Switch::Upgrade(offered.join(", ")),
            switch => switch,
        };
        // What this hop says for itself is judged, too.
        if trailers_wanted {
            fields.push("te", &b"trailers"[..]);
        }
        match (matches!(switch, Switch::Upgrade(_)), trailers_wanted) {
            (true, true) => fields.push("connection", &b"upgrade, te"[..]),
            (true, false) => fields.push("connection", &b"upgrade"[..]),
            (false, true) => fields.push("connection", &b"te"[..]),
            (false, false) => {}
        }
        if let Switch::Upgrade(protocols) = &switch {
            fields.push("upgrade", protocols.clone().into_bytes());
        }
        if switch != Switch::No && !head.may_switch {
            return Err(RequestError::TwoReadings);
        }
        let manner = Manner {
            version: head.version,
            sent_as: if host.is_some() { Version::Http11 } else { Version::Http10 },
            framing: head.framing,
            is_head: parts.method == "HEAD",
            expects_continue: expects_continue && head.framing != Framing::Length(0),
            tongue: Tongue::of_fields(&fields),
            takes_trailers: trailers_wanted && head.version == Version::Http11,
            closes: options.has("close") || head.version == Version::Http10 && !options.has("keep-alive"),
            is_repeatable: matches!(parts.method, "GET" | "HEAD" | "OPTIONS")
                && head.framing == Framing::Length(0)
                && switch == Switch::No
                && !logs_in,
            logs_in,
        };
        // As judged: what names the destination of a CONNECT is its target.
        let host = if let Target::Authority(authority) = parts.target { Some(authority) } else { host };
        Ok(Self { method: parts.method, target, host: host.unwrap_or_default(), fields, manner, switch })
    }

    pub(super) fn manner(&self) -> &Manner {
        &self.manner
    }

    /// To be judged again while it is open; `None`: it is no gRPC call. `octets`: of its head.
    pub(super) fn call(&self, octets: usize, share: &Arc<Share>) -> Option<Call> {
        let facts = self.facts();
        facts
            .grpc()
            .map(|content| Call::new(&facts, content, self.fields.to_owned(), Held::of(share, octets)))
    }

    fn encode(self) -> Outbound {
        let version = match self.manner.sent_as {
            Version::Http11 => " HTTP/1.1\r\n",
            Version::Http10 => " HTTP/1.0\r\n",
        };
        let mut head = Vec::with_capacity(512);
        for text in [self.method, " ", &self.target, version] {
            head.extend_from_slice(text.as_bytes());
        }
        self.fields.write(&mut head);
        if self.manner.framing == Framing::Chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        let asked = match &self.switch {
            Switch::No => None,
            Switch::Connect => Some(None),
            Switch::Upgrade(protocols) => Some(Some(protocols.clone())),
        };
        let asked = asked.map(|offered| Asked {
            method: self.method.to_owned(),
            path: if offered.is_some() { self.target.clone().into_owned() } else { String::new() },
            host: self.host.to_owned(),
            fields: self.fields.to_owned(),
            offered,
        });
        Outbound { head, manner: self.manner, asked }
    }
}

/// Whether a field may log in the connection, not the request alone: anything that is not known to be the latter.
fn is_login(field: &Field<'_>) -> bool {
    const OF_REQUESTS: [&str; 3] = ["basic", "bearer", "digest"];
    let scheme = field.value.split(|octet| *octet == b' ').next().unwrap_or_default();
    (is(field.name, "authorization") || is(field.name, "proxy-authorization"))
        && !OF_REQUESTS.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
}

impl Judged for Request<'_> {
    fn facts(&self) -> HttpRequest<'_> {
        HttpRequest {
            method: self.method,
            path: if self.switch == Switch::Connect { "" } else { &self.target },
            host: self.host,
            headers: &self.fields,
        }
    }

    fn apply(&mut self, action: &HeaderAction) {
        self.fields.apply(action);
    }
}

impl Permit<Request<'_>> {
    /// The octets to send, and nothing else than was judged.
    pub(super) fn encode(self) -> Permit<Outbound> {
        self.map(Request::encode)
    }
}

impl Asked {
    pub(crate) fn facts(&self) -> HttpRequest<'_> {
        HttpRequest { method: &self.method, path: &self.path, host: &self.host, headers: &self.fields }
    }

    pub(super) fn is_connect(&self) -> bool {
        self.offered.is_none()
    }

    /// Whether all of these protocols were offered. HTTP never is.
    pub(super) fn offered<'a>(&self, mut protocols: impl Iterator<Item = &'a str>) -> bool {
        let offered = self.offered.as_deref().unwrap_or_default();
        protocols.all(|chosen| offered.split(", ").any(|own| is(own, chosen)))
    }
}

#[cfg(test)]
mod tests;
