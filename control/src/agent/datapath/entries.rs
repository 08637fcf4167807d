//! One direction of a compiled policy in the two forms that others read: entries of the kernel's
//! maps, and the proxy's message. Rules become numbers on the way.

use std::sync::Arc;

use policy_engine::{
    compiled::{Class, ClassId, DirectionPolicy, L4Verdict, L7Rules, Piece},
    lookup::lpm_entries,
    model::{GrpcRule, HttpRule, KafkaRequests, KafkaRule, Mismatch, Origin, Protocol},
};
use tektin_abi::maps::{PolicyKey, PolicyValue, action, prefix, proto};
use tektin_proxy::link_proto as link;

use crate::rules::{DEFAULT_DENY, RuleTable};

/// The `policy` map's entries of one class.
pub fn class_entries(
    policy: u32,
    class: ClassId,
    content: &Class,
    rules: &mut RuleTable,
) -> Vec<(PolicyKey, PolicyValue)> {
    let mut entries = Vec::new();
    for piece in &content.pieces {
        let (action, rule) = match &piece.verdict {
            L4Verdict::Deny { rule } => (action::DENY, rule),
            L4Verdict::Allow { rule } => (action::ALLOW, rule),
            L4Verdict::Redirect { rule, .. } => (action::REDIRECT, rule),
        };
        let value = PolicyValue { action, rule: rule_id(rules, rule), ..PolicyValue::default() };
        entries.extend(piece_keys(policy, class, piece).map(|key| (key, value)));
    }
    entries
}

/// The keys of [`class_entries`].
pub(super) fn class_keys(policy: u32, class: ClassId, content: &Class) -> Vec<PolicyKey> {
    content.pieces.iter().flat_map(|piece| piece_keys(policy, class, piece)).collect()
}

fn piece_keys(policy: u32, class: ClassId, piece: &Piece) -> impl Iterator<Item = PolicyKey> {
    lpm_entries(piece).into_iter().map(move |entry| PolicyKey {
        prefix_len: match entry.protocol {
            None => prefix::ANY_PROTO,
            Some(_) => prefix::ANY_PORT + u32::from(entry.bits),
        },
        policy_be: policy.to_be_bytes(),
        class_be: class.to_be_bytes(),
        proto: protocol_number(entry.protocol),
        _pad: 0,
        port_be: entry.port.to_be_bytes(),
    })
}

/// The proxy's form of a policy.
pub fn link_policy(id: u32, policy: &DirectionPolicy, rules: &mut RuleTable) -> link::Policy {
    link::Policy {
        id,
        classes: policy.classes.iter().map(|(id, class)| link_class(*id, class, rules)).collect(),
        class_of: policy.class_of.iter().map(|(identity, class)| (*identity, *class)).collect(),
        default_deny_rule: default_deny_rule(policy, rules),
    }
}

pub(super) fn link_class(id: ClassId, class: &Class, rules: &mut RuleTable) -> link::Class {
    link::Class { id, pieces: class.pieces.iter().map(|piece| link_piece(piece, rules)).collect() }
}

/// The rule to name where nothing matches.
pub(super) fn default_deny_rule(policy: &DirectionPolicy, rules: &mut RuleTable) -> u32 {
    match default_deny_text(policy.default_deny.values()) {
        Some(text) => rules.id(&format!("default deny ({text})")),
        None => DEFAULT_DENY,
    }
}

fn link_piece(piece: &Piece, rules: &mut RuleTable) -> link::Piece {
    let mut message = link::Piece {
        protocol: u32::from(protocol_number(piece.protocol)),
        first_port: u32::from(piece.first),
        last_port: u32::from(piece.last),
        ..link::Piece::default()
    };
    match &piece.verdict {
        L4Verdict::Deny { rule } => {
            message.set_action(link::Action::Deny);
            message.rule = rule_id(rules, rule);
        }
        L4Verdict::Allow { rule } => {
            message.set_action(link::Action::Allow);
            message.rule = rule_id(rules, rule);
        }
        L4Verdict::Redirect { rule, l7 } => {
            message.set_action(link::Action::Redirect);
            message.rule = rule_id(rules, rule);
            let L7Rules { requests, kafka, any } = l7.as_ref();
            message.grpc = requests.grpc.iter().map(|rule| link_grpc(rule, rules)).collect();
            message.kafka = kafka.iter().map(|rule| link_kafka(rule, rules)).collect();
            message.http = requests.http.iter().map(|rule| link_http(rule, rules)).collect();
            message.any_request_rule = any.as_ref().map_or(DEFAULT_DENY, |any| rule_id(rules, any));
        }
    }
    message
}

fn link_http(rule: &HttpRule, rules: &mut RuleTable) -> link::HttpRule {
    link::HttpRule {
        rule: rule_id(rules, &rule.origin),
        method: rule.method.clone(),
        path: rule.path.clone(),
        host: rule.host.clone(),
        headers: rule
            .headers
            .iter()
            .map(|(name, value)| link::HeaderPresence { name: name.clone(), value: value.clone() })
            .collect(),
        header_matches: rule
            .header_matches
            .iter()
            .map(|header| link::HeaderMatch {
                name: header.name.clone(),
                value: header.value.clone(),
                mismatch: i32::from(match header.mismatch {
                    Mismatch::Deny => link::Mismatch::Deny,
                    Mismatch::Log => link::Mismatch::Log,
                    Mismatch::Add => link::Mismatch::Add,
                    Mismatch::Delete => link::Mismatch::Delete,
                    Mismatch::Replace => link::Mismatch::Replace,
                }),
            })
            .collect(),
    }
}

fn link_grpc(rule: &GrpcRule, rules: &mut RuleTable) -> link::GrpcRule {
    link::GrpcRule {
        rule: rule_id(rules, &rule.origin),
        service: rule.call.service.to_string(),
        method: rule.call.method.clone(),
    }
}

fn link_kafka(rule: &KafkaRule, rules: &mut RuleTable) -> link::KafkaRule {
    let names =
        |names: &Option<Vec<String>>| names.as_ref().map(|names| link::KafkaNames { names: names.clone() });
    let (role, api_key) = match rule.requests {
        KafkaRequests::Any => (link::KafkaRole::NoRole, None),
        KafkaRequests::Produce => (link::KafkaRole::Produce, None),
        KafkaRequests::Consume => (link::KafkaRole::Consume, None),
        KafkaRequests::ApiKey(key) => (link::KafkaRole::NoRole, Some(i32::from(key))),
    };
    link::KafkaRule {
        rule: rule_id(rules, &rule.origin),
        role: i32::from(role),
        api_key,
        api_version: rule.api_version.map(i32::from),
        client_id: rule.client_id.clone(),
        topic: rule.topic.clone(),
        groups: names(&rule.groups),
        transactional_ids: names(&rule.transactional_ids),
    }
}

/// So many specs are named; the rest is not worth a longer line.
const NAMED: usize = 8;

/// The specs that switched default deny on, joined by `, `.
pub fn default_deny_text<'o>(origins: impl Iterator<Item = &'o Arc<Origin>>) -> Option<String> {
    let mut origins = origins.peekable();
    origins.peek()?;
    let mut names: Vec<String> = origins.by_ref().take(NAMED).map(|origin| origin.to_string()).collect();
    names.extend(origins.next().map(|_| "and more".to_owned()));
    Some(names.join(", "))
}

fn rule_id(rules: &mut RuleTable, origin: &Origin) -> u32 {
    rules.id(&origin.to_string())
}

fn protocol_number(protocol: Option<Protocol>) -> u8 {
    match protocol {
        None => proto::ANY,
        Some(Protocol::Tcp) => proto::TCP,
        Some(Protocol::Udp) => proto::UDP,
        Some(Protocol::Sctp) => proto::SCTP,
        Some(Protocol::Icmp) => proto::ICMP,
        Some(Protocol::Icmpv6) => proto::ICMPV6,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use policy_engine::{
        compiled::SpecKey,
        model::{DocumentId, DocumentKind},
    };

    use super::*;

    fn origin() -> Arc<Origin> {
        let id = DocumentId {
            kind: DocumentKind::CiliumNetworkPolicy,
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        };
        Arc::new(Origin { document: Arc::new(id), path: "spec.ingress[0]".to_owned() })
    }

    #[test]
    fn a_port_range_becomes_prefixes_and_a_wildcard_one_short_entry() {
        let piece = |protocol, first, last| Piece {
            protocol,
            first,
            last,
            verdict: L4Verdict::Allow { rule: origin() },
        };
        let class = Class { pieces: vec![piece(None, 0, u16::MAX), piece(Some(Protocol::Tcp), 80, 82)] };
        let mut rules = RuleTable::default();
        let entries = class_entries(7, 3, &class, &mut rules);
        let lengths: Vec<(u32, u8, u16)> = entries
            .iter()
            .map(|(key, _)| (key.prefix_len, key.proto, u16::from_be_bytes(key.port_be)))
            .collect();
        assert_eq!(lengths, [(64, 0, 0), (95, 6, 80), (96, 6, 82)]);
        assert!(entries.iter().all(|(key, _)| key.policy_be == [0, 0, 0, 7] && key.class_be == [0, 0, 0, 3]));
        let id = rules.id("CiliumNetworkPolicy default/web spec.ingress[0]");
        assert!(entries.iter().all(|(_, value)| value.action == action::ALLOW && value.rule == id));
    }

    #[test]
    fn default_deny_has_a_rule_of_its_own_in_the_proxy() {
        let spec = SpecKey { document: origin().document.clone(), number: 0 };
        let default_deny = BTreeMap::from([(spec, origin())]);
        let policy = DirectionPolicy { default_deny, ..DirectionPolicy::default() };
        let mut rules = RuleTable::default();
        let message = link_policy(9, &policy, &mut rules);
        let text = "default deny (CiliumNetworkPolicy default/web spec.ingress[0])";
        assert_eq!(rules.iter().collect::<Vec<_>>(), [(message.default_deny_rule, text)]);
    }
}
