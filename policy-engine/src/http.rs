//! A set of HTTP rules as one automaton: a request costs one pass over its method, host and path,
//! however many rules there are; header conditions are then read for the rules that are left.

use thiserror::Error;

use crate::{
    grpc::{self, GrpcCall},
    model::{GrpcRule, HeaderMatch, HttpRule, Mismatch, Origin, RequestRules},
};

mod automaton;
mod headers;

use automaton::Automaton;
pub use automaton::Dense;
use headers::Comparison;
pub use headers::Headers;

/// One HTTP rule as plain data. All parts that are given must match; none given: any request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRuleSpec {
    /// Full-match regular expressions (RE2 syntax, case-sensitive).
    pub method: Option<String>,
    /// Matched against the path with its query.
    pub path: Option<String>,
    pub host: Option<String>,
    /// The header is there (`None`) or has exactly this value.
    pub headers: Vec<(String, Option<String>)>,
    pub header_matches: Vec<HeaderMatch>,
    /// The request must be a gRPC one, and for this; then there is no method and no path beside it.
    pub grpc: Option<GrpcCall>,
}

impl From<&HttpRule> for HttpRuleSpec {
    fn from(rule: &HttpRule) -> Self {
        Self {
            method: rule.method.clone(),
            path: rule.path.clone(),
            host: rule.host.clone(),
            headers: rule.headers.clone(),
            header_matches: rule.header_matches.clone(),
            grpc: None,
        }
    }
}

impl From<&GrpcRule> for HttpRuleSpec {
    fn from(rule: &GrpcRule) -> Self {
        Self { grpc: Some(rule.call.clone()), ..Self::default() }
    }
}

impl RequestRules {
    /// As an automaton takes them: HTTP rules before gRPC rules.
    #[must_use]
    pub fn specs(&self) -> Vec<HttpRuleSpec> {
        self.http.iter().map(HttpRuleSpec::from).chain(self.grpc.iter().map(HttpRuleSpec::from)).collect()
    }

    /// Where the rule stands that is at this place of [`Self::specs`].
    ///
    /// # Panics
    /// There is no rule at that place.
    #[must_use]
    pub fn origin(&self, place: usize) -> &Origin {
        match self.http.get(place) {
            Some(rule) => &rule.origin,
            None => &self.grpc[place - self.http.len()].origin,
        }
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.http.extend_from_slice(&other.http);
        self.grpc.extend_from_slice(&other.grpc);
    }
}

/// A request as rules see it.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    pub method: &'a str,
    /// In normal form, with `?` and the query if there is one.
    pub path: &'a str,
    /// `Host` or `:authority` as sent; empty where the request has none.
    pub host: &'a str,
    pub headers: &'a dyn Headers,
}

impl HttpRequest<'_> {
    /// How it carries gRPC messages; `None`: it is no gRPC request.
    #[must_use]
    pub fn grpc(&self) -> Option<grpc::Content> {
        let (mut values, mut content) = (0, None);
        self.headers.for_each("content-type", &mut |value| {
            values += 1;
            content = grpc::Content::of(value);
        });
        // Of two types a server may take the other one.
        content.filter(|_| values == 1)
    }

    /// A header's value, several joined by commas; `None`: it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Vec<u8>> {
        let mut joined: Option<Vec<u8>> = None;
        self.headers.for_each(name, &mut |value| match &mut joined {
            Some(joined) => {
                joined.push(b',');
                joined.extend_from_slice(value);
            }
            None => joined = Some(value.to_vec()),
        });
        joined
    }
}

#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpVerdict {
    /// `rule` is the first that matches, as an index into the rules that were compiled.
    Allowed {
        rule: usize,
        /// To be applied in this order to the request that goes on. Of all rules that match.
        actions: Vec<HeaderAction>,
    },
    Denied,
}

/// What a rule wants done about a header that differs from its `headerMatches` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderAction {
    /// Forward as it is, and say in the record that the header differs from `value`.
    Log { name: String, value: String },
    /// Put one more value to those that are there.
    Add { name: String, value: String },
    /// Remove the header with all its values.
    Delete { name: String },
    /// Make this the only value.
    Replace { name: String, value: String },
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum HttpRuleError {
    #[error("rule {rule}: {field}: {reason}")]
    Pattern { rule: usize, field: &'static str, reason: String },
    #[error("the rules together are too large for an automaton: {0}")]
    TooLarge(String),
}

/// A compiled set of rules.
#[derive(Clone, Debug)]
pub struct HttpRules {
    automaton: Automaton,
    conditions: Vec<Conditions>,
    /// Some rule changes headers or asks for a record: all matching rules must be found, not one.
    actions: bool,
}

/// What a rule asks of the headers.
#[derive(Clone, Debug)]
struct Conditions {
    present: Vec<String>,
    equal: Vec<(String, String)>,
    otherwise: Vec<HeaderMatch>,
    /// The request is a gRPC one.
    grpc: bool,
}

impl HttpRules {
    /// Compiles the rules into one automaton.
    ///
    /// # Errors
    /// A pattern is no regular expression, or the set exceeds the bound on automata.
    pub fn compile(rules: &[HttpRuleSpec]) -> Result<Self, HttpRuleError> {
        let conditions: Vec<Conditions> = rules.iter().map(Conditions::of).collect();
        Ok(Self {
            automaton: Automaton::compile(rules)?,
            actions: conditions.iter().any(|c| !c.otherwise.is_empty()),
            conditions,
        })
    }

    /// Judges one request.
    pub fn decide(&self, request: &HttpRequest<'_>) -> HttpVerdict {
        if self.actions {
            return self.decide_with_actions(request);
        }
        let mut first = None;
        self.automaton.for_each_match(request, |rule| {
            if first.is_none_or(|first| rule < first) && self.conditions[rule].hold(request) {
                first = Some(rule);
            }
        });
        match first {
            Some(rule) => HttpVerdict::Allowed { rule, actions: Vec::new() },
            None => HttpVerdict::Denied,
        }
    }

    fn decide_with_actions(&self, request: &HttpRequest<'_>) -> HttpVerdict {
        let mut matching = Vec::new();
        self.automaton.for_each_match(request, |rule| matching.push(rule));
        matching.retain(|rule| self.conditions[*rule].hold(request));
        matching.sort_unstable();
        let Some(first) = matching.first() else {
            return HttpVerdict::Denied;
        };
        let mut actions = Vec::new();
        for action in matching.iter().flat_map(|rule| self.conditions[*rule].actions(request)) {
            if !actions.contains(&action) {
                actions.push(action);
            }
        }
        HttpVerdict::Allowed { rule: *first, actions }
    }

    /// Without a rule every request is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The automaton as a table, where the set is small enough for one. Its alphabet: method, 0xFF,
    /// host, 0xFF, path; pattern numbers are rule indexes. Header conditions are not in it.
    #[must_use]
    pub fn dense(&self) -> Option<&Dense> {
        self.automaton.dense()
    }
}

impl Conditions {
    fn of(rule: &HttpRuleSpec) -> Self {
        let mut conditions =
            Self { present: Vec::new(), equal: Vec::new(), otherwise: Vec::new(), grpc: rule.grpc.is_some() };
        for (name, value) in &rule.headers {
            match value {
                Some(value) => conditions.equal.push((name.clone(), value.clone())),
                None => conditions.present.push(name.clone()),
            }
        }
        for header in &rule.header_matches {
            match header.mismatch {
                Mismatch::Deny if header.value.is_empty() => conditions.present.push(header.name.clone()),
                Mismatch::Deny => conditions.equal.push((header.name.clone(), header.value.clone())),
                _ => conditions.otherwise.push(header.clone()),
            }
        }
        conditions
    }

    fn hold(&self, request: &HttpRequest<'_>) -> bool {
        let compare = |name: &str, value: &str| headers::compare(request.headers, name, value.as_bytes());
        (!self.grpc || request.grpc().is_some())
            && self.present.iter().all(|name| compare(name, "") != Comparison::Absent)
            && self.equal.iter().all(|(name, value)| compare(name, value) == Comparison::Equal)
    }

    fn actions(&self, request: &HttpRequest<'_>) -> impl Iterator<Item = HeaderAction> {
        let differs = |header: &&HeaderMatch| {
            headers::compare(request.headers, &header.name, header.value.as_bytes()) != Comparison::Equal
        };
        self.otherwise.iter().filter(differs).filter_map(|header| {
            let (name, value) = (header.name.clone(), header.value.clone());
            match header.mismatch {
                Mismatch::Deny => None,
                Mismatch::Log => Some(HeaderAction::Log { name, value }),
                Mismatch::Add => Some(HeaderAction::Add { name, value }),
                Mismatch::Delete => Some(HeaderAction::Delete { name }),
                Mismatch::Replace => Some(HeaderAction::Replace { name, value }),
            }
        })
    }
}
