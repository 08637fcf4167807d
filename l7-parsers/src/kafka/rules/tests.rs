use super::*;

const FETCH: i16 = 1;
const OFFSET_COMMIT: i16 = 8;
const HEARTBEAT: i16 = 12;
const INIT_PRODUCER_ID: i16 = 22;
const CREATE_ACLS: i16 = 30;
const DESCRIBE_CONFIGS: i16 = 32;

fn question(api_key: i16, resource: Resource<'_>) -> Question<'_> {
    Question { api_key, api_version: 3, client_id: "app", resource, group: None, transactional_id: None }
}

fn allows(rule: &Rule, question: &Question<'_>) -> bool {
    let rules = RuleSet { rules: vec![rule.clone()] };
    match rules.judge(question) {
        Verdict::Allow { rule: id } => id == rule.id,
        Verdict::Deny { rule } => {
            assert_eq!(rule, 0);
            false
        }
    }
}

fn role(role: Role) -> Rule {
    Rule { requests: Requests::Role(role), ..Rule::any(7) }
}

fn key(name: &str) -> Rule {
    Rule { requests: Requests::ApiKey(api_key(name).unwrap()), ..Rule::any(7) }
}

fn topic(rule: Rule, name: &str) -> Rule {
    Rule { topic: Some(Pattern::new(name)), ..rule }
}

fn groups(rule: Rule, names: &[&str]) -> Rule {
    Rule { groups: Some(names.iter().map(|name| Pattern::new(name)).collect()), ..rule }
}

const T: Resource<'_> = Resource::Topic("orders");
const G: Resource<'_> = Resource::Group("billing");
const X: Resource<'_> = Resource::TransactionalId("x-1");

#[test]
fn a_role_is_a_set_of_requests() {
    let (produce, consume) = (role(Role::Produce), role(Role::Consume));
    for (api, resource, produces, consumes) in [
        (api::PRODUCE, T, true, false),
        (api::PRODUCE, X, true, false),
        (FETCH, T, false, true),
        (api::METADATA, T, true, true),
        (OFFSET_COMMIT, T, false, true),
        (OFFSET_COMMIT, G, false, true),
        (HEARTBEAT, G, false, true),
        (INIT_PRODUCER_ID, Resource::ProducerId, true, false),
        (INIT_PRODUCER_ID, X, true, false),
        // A transaction's offsets: the group is the consumer's, the transaction the producer's.
        (28, X, true, false),
        (28, G, false, true),
        (28, T, false, true),
        (api::CREATE_TOPICS, T, false, false),
        (CREATE_ACLS, Resource::Cluster, false, false),
    ] {
        assert_eq!(allows(&produce, &question(api, resource)), produces, "{api} {resource:?}");
        assert_eq!(allows(&consume, &question(api, resource)), consumes, "{api} {resource:?}");
    }
}

#[test]
fn every_part_that_is_given_must_match() {
    let asked = question(api::PRODUCE, T);
    let rule = topic(role(Role::Produce), "orders");
    assert!(allows(&rule, &asked));
    assert!(!allows(&topic(rule.clone(), "order"), &asked));
    assert!(!allows(&topic(rule.clone(), "Orders"), &asked));
    assert!(allows(&topic(rule.clone(), "ord*"), &asked));
    assert!(allows(&topic(rule.clone(), "*"), &asked));
    assert!(!allows(&topic(rule.clone(), "xord*"), &asked));
    assert!(allows(&Rule { client_id: Some("app".into()), ..rule.clone() }, &asked));
    assert!(!allows(&Rule { client_id: Some("ap".into()), ..rule.clone() }, &asked));
    assert!(allows(&Rule { api_version: Some(3), ..rule.clone() }, &asked));
    assert!(!allows(&Rule { api_version: Some(2), ..rule }, &asked));
}

#[test]
fn a_topic_is_ignored_where_a_role_or_an_api_key_has_none() {
    assert!(allows(&topic(role(Role::Consume), "orders"), &question(HEARTBEAT, G)));
    assert!(allows(&topic(key("heartbeat"), "orders"), &question(HEARTBEAT, G)));
    assert!(allows(&topic(key("createacls"), "orders"), &question(CREATE_ACLS, Resource::Cluster)));
    // Without a role or a key the rule names no such request.
    assert!(!allows(&topic(Rule::any(7), "orders"), &question(HEARTBEAT, G)));
    assert!(!allows(&topic(Rule::any(7), "orders"), &question(CREATE_ACLS, Resource::Cluster)));
    assert!(!allows(&topic(Rule::any(7), "orders"), &question(DESCRIBE_CONFIGS, Resource::Cluster)));
    assert!(!allows(&topic(key("describeconfigs"), "orders"), &question(DESCRIBE_CONFIGS, G)));
    assert!(allows(&topic(key("describeconfigs"), "orders"), &question(DESCRIBE_CONFIGS, T)));
}

#[test]
fn groups_are_no_match_where_a_request_has_none() {
    let any = groups(Rule::any(7), &["bill*", "other"]);
    assert!(allows(&any, &question(HEARTBEAT, G)));
    assert!(!allows(&any, &question(HEARTBEAT, Resource::Group("shipping"))));
    assert!(!allows(&any, &question(api::PRODUCE, T)));
    assert!(!allows(&any, &question(CREATE_ACLS, Resource::Cluster)));
    assert!(!allows(&groups(key("produce"), &["*"]), &question(api::PRODUCE, T)));
    // Of a role it limits what has a group.
    let consume = groups(topic(role(Role::Consume), "orders"), &["billing"]);
    assert!(allows(&consume, &question(FETCH, T)));
    assert!(!allows(&consume, &question(HEARTBEAT, Resource::Group("shipping"))));
}

#[test]
fn a_topic_is_judged_together_with_its_group() {
    let rule = groups(topic(role(Role::Consume), "orders"), &["billing"]);
    let asked = |group| Question { group: Some(group), ..question(OFFSET_COMMIT, T) };
    assert!(allows(&rule, &asked("billing")));
    assert!(!allows(&rule, &asked("shipping")));
}

#[test]
fn who_may_produce_may_have_a_producer_id() {
    let asked = question(INIT_PRODUCER_ID, Resource::ProducerId);
    assert!(allows(&topic(role(Role::Produce), "orders"), &asked));
    assert!(allows(&topic(key("produce"), "orders"), &asked));
    assert!(allows(&key("initproducerid"), &asked));
    assert!(!allows(&role(Role::Consume), &asked));
    assert!(!allows(&key("fetch"), &asked));
}

#[test]
fn the_first_rule_that_matches_decides_and_none_denies() {
    let rules = RuleSet { rules: vec![topic(Rule { id: 1, ..Rule::any(0) }, "a*"), Rule::any(2)] };
    let judge = |name| rules.judge(&question(FETCH, Resource::Topic(name)));
    assert_eq!(judge("ab"), Verdict::Allow { rule: 1 });
    assert_eq!(judge("b"), Verdict::Allow { rule: 2 });
    assert_eq!(RuleSet::default().judge(&question(FETCH, T)), Verdict::Deny { rule: 0 });
}

#[test]
fn names_of_requests() {
    assert_eq!(api_key("Produce"), Some(0));
    assert_eq!(api_key("offsets"), Some(2));
    assert_eq!(api_key("listoffsets"), Some(2));
    assert_eq!(api_key("sharefetch"), Some(78));
    assert_eq!(api_key("leaderandisr"), None);
}
