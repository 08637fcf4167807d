//! gRPC calls by name. On the wire a call is an HTTP request: a POST to `/service/method` whose content
//! type is one of gRPC's (PROTOCOL-HTTP2.md and PROTOCOL-WEB.md of the gRPC project).

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What a gRPC rule asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrpcCall {
    pub service: Service,
    /// `None`: any.
    pub method: Option<String>,
}

/// Written as `*`, `pkg.Name` or `pkg.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Service {
    #[default]
    Any,
    /// With its package.
    Named(String),
    /// Of this package or of one inside it.
    Within(String),
}

/// Why a text names no call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("{0:?} is no service: write \"package.Service\", \"package.*\" or \"*\"")]
    Service(String),
    #[error("{0:?} is no method: write a name (letters, digits and '_') or \"*\"")]
    Method(String),
    #[error("{0:?} is a path; the service goes without slashes and the method has its own field")]
    Path(String),
}

impl FromStr for Service {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix(".*").unwrap_or(text);
        match text {
            "*" => Ok(Self::Any),
            _ if text.contains('/') => Err(NameError::Path(text.to_owned())),
            _ if !name.split('.').all(is_identifier) => Err(NameError::Service(text.to_owned())),
            _ if name.len() < text.len() => Ok(Self::Within(name.to_owned())),
            _ => Ok(Self::Named(text.to_owned())),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Named(name) => f.write_str(name),
            Self::Within(package) => write!(f, "{package}.*"),
        }
    }
}

impl GrpcCall {
    /// From the texts of a rule; `None` is any.
    ///
    /// # Errors
    /// Which of the two is no name.
    pub fn new(service: Option<&str>, method: Option<&str>) -> Result<Self, NameError> {
        let service = service.map(str::parse).transpose()?.unwrap_or_default();
        Ok(Self { service, method: method.map(self::method).transpose()?.flatten() })
    }

    /// A regular expression for the request's path. A name that a server may have beyond those of
    /// protobuf is met by `*` alone.
    pub(crate) fn path_pattern(&self) -> String {
        const ANY: &str = "[^/?]+";
        // Only a dot in a name means something else in a pattern.
        let literal = |name: &str| name.replace('.', "\\.");
        let service = match &self.service {
            Service::Any => ANY.to_owned(),
            Service::Named(name) => literal(name),
            Service::Within(package) => format!("{}\\.{ANY}", literal(package)),
        };
        format!("/{service}/{}", self.method.as_deref().unwrap_or(ANY))
    }
}

/// A method's name; `None`: `*`, any.
///
/// # Errors
/// The text is neither.
pub fn method(text: &str) -> Result<Option<String>, NameError> {
    match text {
        "*" => Ok(None),
        _ if text.contains('/') => Err(NameError::Path(text.to_owned())),
        _ if is_identifier(text) => Ok(Some(text.to_owned())),
        _ => Err(NameError::Method(text.to_owned())),
    }
}

/// As protobuf has them.
fn is_identifier(text: &str) -> bool {
    let mut octets = text.bytes();
    octets.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && octets.all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}

/// How a request and its answer carry gRPC's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `application/grpc`: status in HTTP trailers.
    Grpc,
    /// `application/grpc-web`: status in a frame of the body.
    Web,
    /// `application/grpc-web-text`: the same, all of it in base64.
    WebText,
}

impl Content {
    /// From a content type; what stands behind `+` or `;` is the messages' own. `None`: not gRPC.
    #[must_use]
    pub fn of(content_type: &[u8]) -> Option<Self> {
        let end = content_type.iter().position(|octet| matches!(octet, b'+' | b';'));
        let name = content_type[..end.unwrap_or(content_type.len())].trim_ascii();
        [
            ("application/grpc", Self::Grpc),
            ("application/grpc-web", Self::Web),
            ("application/grpc-web-text", Self::WebText),
        ]
        .into_iter()
        .find_map(|(known, content)| name.eq_ignore_ascii_case(known.as_bytes()).then_some(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_methods() {
        for text in ["*", "Echo", "pkg.Echo", "a.b_1.C", "pkg.*", "a.b.*", "_a._b"] {
            let service: Service = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(service.to_string(), text);
        }
        for text in [
            "", ".", "pkg.", ".Echo", "a..b", "pkg*", "pkg.E*", "*.Echo", "a.*.b", "**", ".*", "1a", "a-b",
            "pkg.*.*", "a b", "é",
        ] {
            assert_eq!(text.parse::<Service>(), Err(NameError::Service(text.to_owned())));
        }
        for text in ["/pkg.Echo", "pkg.Echo/Say", "pkg.Echo/"] {
            assert_eq!(text.parse::<Service>(), Err(NameError::Path(text.to_owned())));
        }
        assert_eq!(method("*"), Ok(None));
        assert_eq!(method("Say_1"), Ok(Some("Say_1".to_owned())));
        for text in ["", "Get*", "a.b", "1", "a-b", "Say "] {
            assert_eq!(method(text), Err(NameError::Method(text.to_owned())));
        }
        assert_eq!(method("Echo/Say"), Err(NameError::Path("Echo/Say".to_owned())));
    }

    #[test]
    fn content_types() {
        for (text, content) in [
            ("application/grpc", Some(Content::Grpc)),
            ("application/grpc+proto", Some(Content::Grpc)),
            ("Application/gRPC ; charset=utf-8", Some(Content::Grpc)),
            ("application/grpc-web", Some(Content::Web)),
            ("application/grpc-web+json", Some(Content::Web)),
            ("application/grpc-web-text", Some(Content::WebText)),
            ("application/grpc-web-text+proto", Some(Content::WebText)),
            ("application/grpcx", None),
            ("application/grpc-web-", None),
            ("application/grpc/x", None),
            ("application/grpc, text/plain", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Content::of(text.as_bytes()), content, "{text}");
        }
    }
}
