//! Kafka rules and the question that they answer: may this client do this to that name?

use super::{
    api::{self, Api},
    schema,
};

/// What a request touches; each is judged by itself, as a broker judges by ACLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    /// What concerns no single name: ACLs, quotas, tokens, brokers' settings.
    Cluster,
    /// A producer id without a transaction. A broker grants it to who may write to any topic.
    ProducerId,
}

/// Everything that rules look at. The identity of the client is not among it: who asks has chosen the
/// rules by it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub api_key: i16,
    pub api_version: i16,
    /// Empty where the client gave none.
    pub client_id: &'a str,
    pub resource: Resource<'a>,
    /// The group, or the transactional id, that the request speaks for, where it names one.
    pub group: Option<&'a str>,
    pub transactional_id: Option<&'a str>,
}

/// The answer, with the number of the rule that decided; the numbers are the caller's.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow { rule: u32 },
    Deny { rule: u32 },
}

/// Judges; asked anew for each request, so that a change of rules applies to the next one.
pub trait Policy {
    fn judge(&self, question: &Question<'_>) -> Verdict;
}

/// A name, or with a trailing `*` what it begins with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Prefix(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// Which requests a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requests {
    Any,
    Role(Role),
    ApiKey(i16),
}

/// A set of requests; which, is in `api.rs` with each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Produce,
    Consume,
}

/// All parts that are given must match. One item of `rules.kafka`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub id: u32,
    pub requests: Requests,
    pub api_version: Option<i16>,
    pub client_id: Option<String>,
    pub topic: Option<Pattern>,
    pub groups: Option<Vec<Pattern>>,
    pub transactional_ids: Option<Vec<Pattern>>,
}

impl Rule {
    /// A rule without conditions: any request.
    pub fn any(id: u32) -> Self {
        Self {
            id,
            requests: Requests::Any,
            api_version: None,
            client_id: None,
            topic: None,
            groups: None,
            transactional_ids: None,
        }
    }

    fn matches(&self, question: &Question<'_>, api: &Api) -> bool {
        self.api_version.is_none_or(|version| version == question.api_version)
            && self.client_id.as_ref().is_none_or(|id| id == question.client_id)
            && self.covers(question, api)
            && self.names(question, api)
    }

    fn covers(&self, question: &Question<'_>, api: &Api) -> bool {
        let produces = question.resource == Resource::ProducerId;
        match self.requests {
            Requests::Any => true,
            Requests::ApiKey(key) => key == question.api_key || produces && key == api::PRODUCE,
            Requests::Role(role) => produces && role == Role::Produce || api.is_in(role, question.resource),
        }
    }

    /// A condition on names that the request type has none of is no match; but a role is a set of
    /// requests of which some have no topic or group, and Cilium ignores the topic for an `apiKey`
    /// that has none.
    fn names(&self, question: &Question<'_>, api: &Api) -> bool {
        let role = matches!(self.requests, Requests::Role(_));
        let topicless =
            matches!(self.requests, Requests::ApiKey(_)) && !api.has_topics() && !api.has_configs();
        let (topic, group, transaction) = match question.resource {
            Resource::Topic(name) => (Some(name), question.group, question.transactional_id),
            Resource::Group(name) => (None, Some(name), question.transactional_id),
            Resource::TransactionalId(name) => (None, question.group, Some(name)),
            Resource::Cluster => {
                let named = self.groups.is_some() || self.transactional_ids.is_some();
                return !named && (self.topic.is_none() || topicless);
            }
            Resource::ProducerId => return self.transactional_ids.is_none() || role,
        };
        let fits = |patterns: &[Pattern], name: Option<&str>, without: bool| match name {
            Some(name) => patterns.iter().any(|pattern| pattern.matches(name)),
            None => role || without,
        };
        self.topic
            .as_ref()
            .is_none_or(|pattern| fits(std::slice::from_ref(pattern), topic, topicless || api.has_topics()))
            && self.groups.as_ref().is_none_or(|any| fits(any, group, api.has_groups()))
            && self
                .transactional_ids
                .as_ref()
                .is_none_or(|any| fits(any, transaction, api.has_transactions()))
    }
}

/// Rules in the order of their document: the first that matches allows, none denies.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    pub rules: Vec<Rule>,
}

impl Policy for RuleSet {
    fn judge(&self, question: &Question<'_>) -> Verdict {
        let Some(api) = api::api(question.api_key) else { return Verdict::Deny { rule: 0 } };
        match self.rules.iter().find(|rule| rule.matches(question, api)) {
            Some(rule) => Verdict::Allow { rule: rule.id },
            None => Verdict::Deny { rule: 0 },
        }
    }
}

/// The number of a request by the name that rules give it, in any case: the protocol's own, and
/// `offsets` for ListOffsets as Cilium had it.
pub fn api_key(name: &str) -> Option<i16> {
    if name.eq_ignore_ascii_case("offsets") {
        return Some(api::LIST_OFFSETS);
    }
    let named = |message: &&schema::Message| message.name.eq_ignore_ascii_case(name);
    schema::messages().iter().find(named).map(|message| message.key)
}

#[cfg(test)]
mod tests;
