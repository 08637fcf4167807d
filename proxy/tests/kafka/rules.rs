//! The rules that stand for the ACLs of `clients/prepare.py`.

use l7_parsers::kafka::{Pattern, Requests, Role, Rule, RuleSet, api_key};

fn key(name: &str) -> Requests {
    Requests::ApiKey(api_key(name).unwrap())
}

fn topic(id: u32, requests: Requests, topic: &str) -> Rule {
    Rule { requests, topic: Some(Pattern::new(topic)), ..Rule::any(id) }
}

fn groups(rule: Rule) -> Rule {
    Rule { groups: Some(vec![Pattern::new("good-*")]), ..rule }
}

/// `open-*` read and written, `ro-*` read, `wo-*` written, and what administrators may do with them;
/// groups and transactional ids `good-*`.
pub(crate) fn like_the_acls() -> RuleSet {
    let produce = |id, name| Rule {
        transactional_ids: Some(vec![Pattern::new("good-*")]),
        ..topic(id, Requests::Role(Role::Produce), name)
    };
    let consume = |id, name| groups(topic(id, Requests::Role(Role::Consume), name));
    let mut rules = vec![produce(1, "open-*"), produce(2, "wo-*"), consume(3, "open-*"), consume(4, "ro-*")];
    for name in ["createtopics", "deletetopics", "createpartitions", "deleterecords", "describeconfigs"] {
        rules.push(topic(5, key(name), "open-*"));
    }
    // Who may write may look: Kafka's WRITE includes DESCRIBE.
    for name in ["offsets", "offsetfetch"] {
        rules.push(groups(topic(6, key(name), "wo-*")));
    }
    rules.push(topic(6, key("offsets"), "wo-*"));
    for name in ["describegroups", "consumergroupdescribe", "listgroups", "deletegroups"] {
        rules.push(groups(Rule { requests: key(name), ..Rule::any(7) }));
    }
    for name in ["open-*", "ro-*", "wo-*"] {
        rules.push(topic(8, key("consumergroupdescribe"), name));
    }
    RuleSet { rules }
}
