//! Kafka requests that somebody asks about: rules as documents have them, judged as the proxy judges.

use l7_parsers::kafka::{NamedRequest, Pattern, Requests, Role, Rule, RuleSet, Verdict, What, judge_named};
use policy_engine::{
    kafka::{Fault, KafkaRequest, KafkaVerdict},
    model::{KafkaRequests, KafkaRule},
};

/// The verdict of `rules`.
///
/// # Errors
/// There is no such request, or nothing in it to judge.
pub fn judge(rules: &[KafkaRule], request: &KafkaRequest) -> Result<KafkaVerdict, Fault> {
    let rules = rules.iter().zip(1..).map(|(rule, id)| self::rule(rule, id)).collect();
    let named = NamedRequest {
        what: what(request)?,
        api_version: request.api_version,
        client_id: &request.client_id,
        topic: request.topic.as_deref(),
        group: request.group.as_deref(),
        transactional_id: request.transactional_id.as_deref(),
    };
    let verdict = judge_named(&RuleSet { rules }, &named)
        .map_err(|error| Fault { field: error.field(), reason: error.to_string() })?;
    Ok(match verdict {
        None => KafkaVerdict::AlwaysAllowed,
        Some(Verdict::Allow { rule }) => KafkaVerdict::Allowed((rule as usize).saturating_sub(1)),
        Some(Verdict::Deny { .. }) => KafkaVerdict::Denied,
    })
}

fn what(request: &KafkaRequest) -> Result<What<'_>, Fault> {
    let fault = |field, reason: &str| Err(Fault { field, reason: reason.to_owned() });
    match (&request.role, &request.api_key) {
        (Some(_), Some(_)) => fault(Some("role"), "does not go with apiKey; a role is a set of them"),
        (None, None) => fault(None, "which request? give a role or an apiKey"),
        (None, Some(name)) => Ok(What::Request(name)),
        (Some(role), None) => match role.to_ascii_lowercase().as_str() {
            "produce" => Ok(What::Role(Role::Produce)),
            "consume" => Ok(What::Role(Role::Consume)),
            _ => fault(Some("role"), &format!("{role:?} is neither produce nor consume")),
        },
    }
}

fn rule(rule: &KafkaRule, id: u32) -> Rule {
    let names = |names: &Option<Vec<String>>| {
        names.as_ref().map(|names| names.iter().map(|name| Pattern::new(name)).collect())
    };
    Rule {
        id,
        requests: match rule.requests {
            KafkaRequests::Any => Requests::Any,
            KafkaRequests::Produce => Requests::Role(Role::Produce),
            KafkaRequests::Consume => Requests::Role(Role::Consume),
            KafkaRequests::ApiKey(key) => Requests::ApiKey(key),
        },
        api_version: rule.api_version,
        client_id: rule.client_id.clone(),
        topic: rule.topic.as_deref().map(Pattern::new),
        groups: names(&rule.groups),
        transactional_ids: names(&rule.transactional_ids),
    }
}
