//! What would become of a request that somebody describes in words: who asks about rules has no octets.

use super::{
    api::{self, Api, Whole},
    rules::{Policy, Question, Resource, Role, Verdict},
    schema, versions,
};

/// A request, by some of what it says.
#[derive(Clone, Copy, Debug)]
pub struct NamedRequest<'a> {
    pub what: What<'a>,
    /// `None`: the newest that is understood.
    pub api_version: Option<i16>,
    pub client_id: &'a str,
    pub topic: Option<&'a str>,
    pub group: Option<&'a str>,
    pub transactional_id: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// The request that a producer or consumer cannot do without: Produce of a topic or in a
    /// transaction, Fetch of a topic, JoinGroup of a group.
    Role(Role),
    /// By name, as in rules.
    Request(&'a str),
}

/// Why nothing can be said of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misnamed {
    #[error("{0:?} is no Kafka request that is served")]
    Request(String),
    #[error("{name} has the versions {first} to {last}")]
    Version { name: &'static str, first: i16, last: i16 },
    #[error("{who} has no topic")]
    Topic { who: &'static str },
    #[error("{who} has no group")]
    Group { who: &'static str },
    #[error("{who} has no transactional id")]
    TransactionalId { who: &'static str },
    #[error("each name in it is judged by itself; give one: {which}")]
    NoName { which: &'static str },
}

impl Misnamed {
    /// The field at fault, as test files call it.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Request(_) => Some("apiKey"),
            Self::Version { .. } => Some("apiVersion"),
            Self::Topic { .. } => Some("topic"),
            Self::Group { .. } => Some("group"),
            Self::TransactionalId { .. } => Some("transactionalId"),
            Self::NoName { .. } => None,
        }
    }
}

/// Asks `policy` about each name of the request, as for one on the wire: the first denial, else the first
/// permission; `None` where nobody is asked about such a request, which is let through.
///
/// # Errors
/// Where there is no such request.
pub fn judge_named(policy: &dyn Policy, request: &NamedRequest<'_>) -> Result<Option<Verdict>, Misnamed> {
    let questions = questions(request)?;
    let verdicts = questions.iter().map(|question| policy.judge(question));
    let mut first = None;
    for verdict in verdicts {
        if let Verdict::Deny { .. } = verdict {
            return Ok(Some(verdict));
        }
        first = first.or(Some(verdict));
    }
    Ok(first)
}

fn questions<'a>(request: &NamedRequest<'a>) -> Result<Vec<Question<'a>>, Misnamed> {
    let NamedRequest { topic, group, transactional_id, .. } = *request;
    match request.what {
        What::Request(name) => {
            let key = super::api_key(name).filter(|key| api::api(*key).is_some());
            let key = key.ok_or_else(|| Misnamed::Request(name.to_owned()))?;
            of_request(request, key)
        }
        What::Role(Role::Produce) => {
            refuse(group, Misnamed::Group { who: "a producer" })?;
            let which = "a topic or a transactional id";
            let ids = transactional_id.map(Resource::TransactionalId);
            named(request, api::PRODUCE, topic.map(Resource::Topic).into_iter().chain(ids), which)
        }
        What::Role(Role::Consume) => {
            refuse(transactional_id, Misnamed::TransactionalId { who: "a consumer" })?;
            let topics = topic.map(|name| question(request, api::FETCH, Resource::Topic(name)));
            let groups = group.map(|name| question(request, api::JOIN_GROUP, Resource::Group(name)));
            let all: Vec<_> = topics.into_iter().chain(groups).collect::<Result<_, _>>()?;
            if all.is_empty() { Err(Misnamed::NoName { which: "a topic or a group" }) } else { Ok(all) }
        }
    }
}

fn of_request<'a>(request: &NamedRequest<'a>, key: i16) -> Result<Vec<Question<'a>>, Misnamed> {
    let (Some(api), Some(message)) = (api::api(key), schema::message(key)) else { return Ok(Vec::new()) };
    let NamedRequest { topic, group, transactional_id, .. } = *request;
    let (topics, groups) = (api.has_topics() || api.has_configs(), api.has_groups() || api.has_configs());
    let transactions = api.has_transactions();
    let who = message.name;
    for (name, kind, fault) in [
        (topic, topics, Misnamed::Topic { who }),
        (group, groups, Misnamed::Group { who }),
        (transactional_id, transactions, Misnamed::TransactionalId { who }),
    ] {
        if !kind {
            refuse(name, fault)?;
        }
    }
    let names = [
        topic.map(Resource::Topic),
        group.map(Resource::Group),
        transactional_id.map(Resource::TransactionalId),
    ];
    let mut resources: Vec<_> = names.into_iter().flatten().collect();
    if resources.is_empty() {
        resources.extend(without_names(api));
    }
    let which = match (topics, groups, transactions) {
        (false, false, false) => "",
        (true, false, false) => "a topic",
        (false, true, false) => "a group",
        (false, false, true) => "a transactional id",
        (true, true, false) => "a topic or a group",
        (true, false, true) => "a topic or a transactional id",
        (false, true, true) => "a group or a transactional id",
        (true, true, true) => "a topic, a group or a transactional id",
    };
    named(request, key, resources, which)
}

/// What is judged of a request that names nothing.
fn without_names(api: &Api) -> Option<Resource<'static>> {
    api.whole.iter().find_map(|whole| match whole {
        Whole::Cluster(_) => Some(Resource::Cluster),
        Whole::ProducerId => Some(Resource::ProducerId),
        _ => None,
    })
}

fn named<'a>(
    request: &NamedRequest<'a>,
    key: i16,
    resources: impl IntoIterator<Item = Resource<'a>>,
    which: &'static str,
) -> Result<Vec<Question<'a>>, Misnamed> {
    let questions: Vec<_> =
        resources.into_iter().map(|resource| question(request, key, resource)).collect::<Result<_, _>>()?;
    if questions.is_empty() && !which.is_empty() { Err(Misnamed::NoName { which }) } else { Ok(questions) }
}

fn question<'a>(
    request: &NamedRequest<'a>,
    api_key: i16,
    resource: Resource<'a>,
) -> Result<Question<'a>, Misnamed> {
    let (known, name) = (versions(api_key), schema::message(api_key).map_or("", |message| message.name));
    let api_version = request.api_version.unwrap_or(known.last);
    if !known.contains(api_version) {
        return Err(Misnamed::Version { name, first: known.first, last: known.last });
    }
    // A request has a group beside its topics only where it speaks for that group.
    let speaks_for_group = api::api(api_key).is_some_and(Api::has_groups);
    let group = request.group.filter(|_| speaks_for_group);
    let transactional_id = request.transactional_id;
    Ok(Question { api_key, api_version, client_id: request.client_id, resource, group, transactional_id })
}

fn refuse(name: Option<&str>, fault: Misnamed) -> Result<(), Misnamed> {
    name.map_or(Ok(()), |_| Err(fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Pattern, Requests, Rule, RuleSet};

    fn rules() -> RuleSet {
        let topic = |id, role, name: &str| Rule {
            requests: Requests::Role(role),
            topic: Some(Pattern::new(name)),
            ..Rule::any(id)
        };
        let groups = Some(vec![Pattern::new("g*")]);
        let created = Rule { topic: Some(Pattern::new("a")), ..Rule::any(3) };
        RuleSet {
            rules: vec![
                topic(1, Role::Produce, "a"),
                Rule { groups, ..topic(2, Role::Consume, "b*") },
                Rule { requests: Requests::ApiKey(19), ..created },
            ],
        }
    }

    fn ask(what: What<'_>, topic: Option<&str>, group: Option<&str>) -> Result<Option<Verdict>, Misnamed> {
        let request =
            NamedRequest { what, api_version: None, client_id: "", topic, group, transactional_id: None };
        judge_named(&rules(), &request)
    }

    #[test]
    fn each_name_is_judged() {
        let allowed = |rule| Ok(Some(Verdict::Allow { rule }));
        let denied = Ok(Some(Verdict::Deny { rule: 0 }));
        let (produce, consume) = (What::Role(Role::Produce), What::Role(Role::Consume));
        assert_eq!(ask(produce, Some("a"), None), allowed(1));
        assert_eq!(ask(produce, Some("b"), None), denied);
        assert_eq!(ask(consume, Some("b1"), Some("g1")), allowed(2));
        assert_eq!(ask(consume, Some("b1"), Some("h")), denied);
        assert_eq!(ask(consume, Some("a"), Some("g")), denied);
        assert_eq!(ask(What::Request("createTopics"), Some("a"), None), allowed(3));
        assert_eq!(ask(What::Request("OffsetCommit"), Some("b"), Some("h")), denied);
        assert_eq!(ask(What::Request("initproducerid"), None, None), allowed(1));
        assert_eq!(ask(What::Request("describeacls"), None, None), denied);
        // Nobody is asked about these.
        assert_eq!(ask(What::Request("apiversions"), None, None), Ok(None));
    }

    #[test]
    fn what_does_not_exist_is_told() {
        let message = |asked: Result<Option<Verdict>, Misnamed>| {
            let fault = asked.unwrap_err();
            (fault.field(), fault.to_string())
        };
        let told = |field, text: &str| (Some(field), text.to_owned());
        assert_eq!(
            message(ask(What::Request("fetchh"), None, None)),
            told("apiKey", "\"fetchh\" is no Kafka request that is served")
        );
        // A request of brokers among themselves.
        assert_eq!(message(ask(What::Request("vote"), None, None)).0, Some("apiKey"));
        assert_eq!(
            message(ask(What::Request("heartbeat"), Some("a"), None)),
            told("topic", "Heartbeat has no topic")
        );
        assert_eq!(
            message(ask(What::Role(Role::Produce), Some("a"), Some("g"))),
            told("group", "a producer has no group")
        );
        assert_eq!(
            message(ask(What::Request("fetch"), None, None)),
            (None, "each name in it is judged by itself; give one: a topic".to_owned())
        );
        let old = NamedRequest {
            what: What::Request("fetch"),
            api_version: Some(3),
            client_id: "",
            topic: Some("a"),
            group: None,
            transactional_id: None,
        };
        let fault = judge_named(&rules(), &old).unwrap_err();
        assert_eq!((fault.field(), fault.to_string()), told("apiVersion", "Fetch has the versions 4 to 18"));
    }
}
