//! HTTP rules with patterns of the input's own: one automaton for all says what one regular
//! expression at a time says, and what is refused is refused when it is read.

use policy_engine::{
    http::{HttpRuleError, HttpRuleSpec, HttpRules},
    naive::first_http_rule,
    regex,
};

use crate::{draw::Draw, engines::decided};

pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    let rules = draw.many(3, Draw::http_rule);
    let patterns = |rule: &HttpRuleSpec| [rule.method.clone(), rule.path.clone(), rule.host.clone()];
    let valid = rules.iter().flat_map(patterns).flatten().all(|pattern| regex::check(&pattern).is_ok());
    let compiled = match HttpRules::compile(&rules) {
        Ok(compiled) => compiled,
        Err(HttpRuleError::Pattern { .. }) => return assert!(!valid, "{rules:?}"),
        Err(HttpRuleError::TooLarge(_)) => return,
    };
    assert_eq!(compiled.is_empty(), rules.is_empty());
    for request in draw.many(3, Draw::request) {
        let request = request.as_http();
        let first = first_http_rule(&rules, &request);
        assert_eq!(decided(&compiled, &request), first, "{} {} {:?}", request.method, request.path, rules);
    }
}
