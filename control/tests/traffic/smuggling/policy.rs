//! What the server under test may be asked for, twice: as the policy that Tektin enforces, and as a
//! judge of what arrived that shares nothing with it.

use crate::{
    netlab::Lab,
    policies::{cnp, http_port},
};

pub const PORT: u16 = 8080;

/// `public` may be asked for by anybody; `token` needs a header, `shop` a host.
const RULES: &str = "{method: \"GET|HEAD|POST|PUT\", path: \"/public(/.*)?\"}, \
    {method: GET, path: /token, headers: [\"X-Token: s3cret\"]}, \
    {method: GET, path: /shop, host: \"shop[.]example\"}, \
    {method: POST, path: /role, headerMatches: [{name: X-Role, value: guest, mismatch: REPLACE}]}";

pub fn apply(lab: &Lab) {
    lab.apply(&cnp(
        "smuggling",
        "web",
        &format!("ingress: [{{fromEntities: [world], {}}}]", http_port(PORT, RULES)),
    ));
}

/// A request as some reader of the server's octets understands it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Read {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Read {
    fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a server that decodes `times` times and takes `\` for `/` and `;x` for nothing
    /// serves what the policy allows.
    pub fn is_allowed(&self) -> bool {
        (1..=3).all(|times| self.is_allowed_after(times))
    }

    fn is_allowed_after(&self, times: usize) -> bool {
        let path = served_path(&self.target, times);
        let get = self.method == "GET";
        match path.first().map(String::as_str) {
            Some("public") => ["GET", "HEAD", "POST", "PUT"].contains(&self.method.as_str()),
            Some("token") => get && path.len() == 1 && self.values("x-token") == ["s3cret"],
            Some("shop") => get && path.len() == 1 && self.values("host") == ["shop.example"],
            Some("role") => self.method == "POST" && path.len() == 1 && self.values("x-role") == ["guest"],
            _ => false,
        }
    }
}

/// The segments that a careless server would look up.
fn served_path(target: &str, times: usize) -> Vec<String> {
    let mut path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    }
    .split(['?', '#'])
    .next()
    .unwrap_or_default()
    .to_owned();
    for _ in 0..times {
        path = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
    }
    let path = path.replace('\\', "/");
    let path = path.split('\0').next().unwrap_or_default();
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name.to_owned()),
        }
    }
    segments
}

#[test]
fn the_careless_judge_knows_a_denied_request() {
    let read = |method: &str, target: &str| Read {
        method: method.to_owned(),
        target: target.to_owned(),
        fields: Vec::new(),
    };
    for target in ["/public", "/public/a?/../../secret", "http://web/public/%61", "/x/../public/%252f"] {
        assert!(read("GET", target).is_allowed(), "{target}");
    }
    for target in [
        "/secret",
        "/public/../secret",
        "/public/%2e%2e/secret",
        "/public/%252e%252e/secret",
        "/public/..%2fsecret",
        "/public/..\\secret",
        "/public/..;x/secret",
        "http://public/secret",
        "/token",
        "*",
    ] {
        assert!(!read("GET", target).is_allowed(), "{target}");
    }
    assert!(!read("DELETE", "/public").is_allowed());
}
