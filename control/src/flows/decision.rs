//! From action and rule number to a decision with words, and to the one deciding rule of a record.

use std::sync::{Arc, LazyLock};

use tektin_abi::maps::action;

use super::{
    record::{Action, Decision, Verdict},
    resolve::{Direction, Resolve},
};

/// Records come by the ten thousand a second: what most of them say is kept once.
static NO_POLICY: LazyLock<Arc<str>> = LazyLock::new(|| "no policy".into());

impl Action {
    /// From the kernel's number; one that is not known is shown as a denial, never as an allow.
    pub fn from_number(number: u8) -> Self {
        match number {
            action::ALLOW => Action::Allow,
            action::REDIRECT => Action::Redirect,
            action::NONE => Action::None,
            _ => Action::Deny,
        }
    }
}

impl Decision {
    /// Of an end whose policy was not asked.
    #[must_use]
    pub fn not_asked() -> Self {
        Self { action: Action::None, rule: Arc::default(), rule_id: 0 }
    }

    /// Of one end of a judged flow. `endpoint` 0: that end is no endpoint of this node.
    #[must_use]
    pub fn new(
        resolve: &dyn Resolve,
        endpoint: u32,
        direction: Direction,
        action: Action,
        rule: u32,
    ) -> Self {
        let text: Arc<str> = match (action, rule) {
            (Action::None, _) if endpoint == 0 => Arc::default(),
            (Action::None, _) => NO_POLICY.clone(),
            (Action::Deny, 0) => match resolve.default_deny(endpoint, direction) {
                Some(documents) => format!("default deny ({documents})").into(),
                None => "default deny".into(),
            },
            // Hosts' own policy-free allows (the agent's "local host may enter") carry no rule.
            (_, 0) => "no rule".into(),
            (_, rule) => resolve.rule(rule).unwrap_or_else(|| format!("rule {rule:#010x}").into()),
        };
        Self { action, rule: text, rule_id: rule }
    }
}

/// The deciding rule of a record in one line: every end that denied, or every end that let pass.
/// With both ends each is named by its direction. Empty where no rule decided.
#[must_use]
pub fn deciding(verdict: Verdict, egress: &Decision, ingress: &Decision) -> Arc<str> {
    let decides = |decision: &&(&str, &Decision)| match verdict {
        Verdict::Dropped | Verdict::Denied => decision.1.action == Action::Deny,
        Verdict::Forwarded | Verdict::Redirected | Verdict::Error => {
            matches!(decision.1.action, Action::Allow | Action::Redirect)
        }
        Verdict::Refused => false,
    };
    let ends = [("egress", egress), ("ingress", ingress)];
    let deciding: Vec<_> = ends.iter().filter(decides).collect();
    match deciding.as_slice() {
        [] if matches!(verdict, Verdict::Forwarded | Verdict::Redirected | Verdict::Error) => {
            NO_POLICY.clone()
        }
        [] => Arc::default(),
        [(_, only)] => only.rule.clone(),
        both => {
            both.iter().map(|(end, d)| format!("{end}: {}", d.rule)).collect::<Vec<_>>().join("; ").into()
        }
    }
}
