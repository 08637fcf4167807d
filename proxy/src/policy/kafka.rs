//! Kafka rule sets as the agent sends them.

use l7_parsers::kafka::{Pattern, Requests, Role, Rule, RuleSet};

use crate::link_proto;

/// Why a rule cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum KafkaRuleError {
    #[error("rule {rule}: a role beside a request, or a role that is not known")]
    Requests { rule: usize },
    #[error("rule {rule}: a number that is none of the protocol's")]
    Number { rule: usize },
    #[error("rule {rule}: names without one")]
    NoNames { rule: usize },
}

pub(super) fn rule_set(rules: &[link_proto::KafkaRule]) -> Result<RuleSet, KafkaRuleError> {
    let rules = rules.iter().enumerate().map(|(at, rule)| self::rule(at, rule)).collect::<Result<_, _>>()?;
    Ok(RuleSet { rules })
}

fn rule(at: usize, rule: &link_proto::KafkaRule) -> Result<Rule, KafkaRuleError> {
    let number = |number: Option<i32>| {
        number.map(i16::try_from).transpose().map_err(|_| KafkaRuleError::Number { rule: at })
    };
    // A role of a later version is none that anybody here knows the requests of.
    let role =
        link_proto::KafkaRole::try_from(rule.role).map_err(|_| KafkaRuleError::Requests { rule: at })?;
    let requests = match (role, number(rule.api_key)?) {
        (link_proto::KafkaRole::NoRole, None) => Requests::Any,
        (link_proto::KafkaRole::NoRole, Some(key)) => Requests::ApiKey(key),
        (link_proto::KafkaRole::Produce, None) => Requests::Role(Role::Produce),
        (link_proto::KafkaRole::Consume, None) => Requests::Role(Role::Consume),
        (_, Some(_)) => return Err(KafkaRuleError::Requests { rule: at }),
    };
    let names = |names: &Option<link_proto::KafkaNames>| match names {
        None => Ok(None),
        Some(link_proto::KafkaNames { names }) if names.is_empty() => {
            Err(KafkaRuleError::NoNames { rule: at })
        }
        Some(link_proto::KafkaNames { names }) => {
            Ok(Some(names.iter().map(|name| Pattern::new(name)).collect()))
        }
    };
    Ok(Rule {
        id: rule.rule,
        requests,
        api_version: number(rule.api_version)?,
        client_id: rule.client_id.clone(),
        topic: rule.topic.as_deref().map(Pattern::new),
        groups: names(&rule.groups)?,
        transactional_ids: names(&rule.transactional_ids)?,
    })
}
