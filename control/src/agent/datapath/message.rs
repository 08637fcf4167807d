//! A plan as the message that brings the proxy there, and the one that brings it back.

use policy_engine::compiled::{ClassId, DirectionPolicy};
use tektin_proxy::link_proto as link;

use super::{
    Enforcement, entries,
    plan::{Plan, Replaced, Step},
};
use crate::rules::RuleTable;

impl Enforcement {
    /// From what is in force to `plan`.
    pub(super) fn update(&self, revision: u32, plan: &Plan<'_>, rules: &mut RuleTable) -> link::PolicyUpdate {
        let mut update = link::PolicyUpdate { revision, full: self.first_step, ..Default::default() };
        for step in &plan.steps {
            match step {
                Step::Open { before, .. } => update.removed_policies.extend(replaced_id(before)),
                Step::Replace { id, policy, before, .. } => {
                    update.policies.push(entries::link_policy(*id, policy, rules));
                    update.removed_policies.extend(replaced_id(before));
                }
                Step::Patch { id, policy, patch, .. } => update.changes.push(link::PolicyChange {
                    id: *id,
                    classes: classes(policy, patch.made.iter(), rules),
                    removed_classes: patch.dropped.keys().copied().collect(),
                    class_of: patch.moved.iter().map(|(peer, (_, class))| (*peer, *class)).collect(),
                    default_deny_rule: entries::default_deny_rule(policy, rules),
                }),
            }
        }
        for (endpoint, root) in &plan.roots {
            match root {
                Some(root) => update.endpoints.push(link_root(*endpoint, *root)),
                None => update.removed_endpoints.push(*endpoint),
            }
        }
        update
    }

    /// From `plan` to what is in force. Default deny is named as in the plan; nothing else differs.
    pub(super) fn update_back(
        &self,
        revision: u32,
        plan: &Plan<'_>,
        rules: &mut RuleTable,
    ) -> link::PolicyUpdate {
        let mut update = link::PolicyUpdate { revision, ..Default::default() };
        for step in &plan.steps {
            if let Step::Open { before: Some(replaced), .. } | Step::Replace { before: Some(replaced), .. } =
                step
            {
                update.policies.push(restored(replaced, rules));
            }
            match step {
                Step::Open { .. } => {}
                Step::Replace { id, .. } => update.removed_policies.push(*id),
                Step::Patch { id, policy, patch, .. } => update.changes.push(link::PolicyChange {
                    id: *id,
                    classes: patch
                        .dropped
                        .iter()
                        .map(|(class, content)| entries::link_class(*class, content, rules))
                        .collect(),
                    removed_classes: patch.made.iter().copied().collect(),
                    class_of: patch.moved.iter().map(|(peer, (class, _))| (*peer, *class)).collect(),
                    default_deny_rule: entries::default_deny_rule(policy, rules),
                }),
            }
        }
        for endpoint in plan.roots.keys() {
            match self.roots.get(endpoint) {
                Some(root) => update.endpoints.push(link_root(*endpoint, *root)),
                None => update.removed_endpoints.push(*endpoint),
            }
        }
        update
    }
}

fn replaced_id(replaced: &Option<Replaced<'_>>) -> Option<u32> {
    replaced.as_ref().map(|replaced| replaced.id)
}

/// A replaced policy as it was when it was put in force last.
fn restored(replaced: &Replaced<'_>, rules: &mut RuleTable) -> link::Policy {
    let Replaced { id, before } = replaced;
    let mut policy = entries::link_policy(*id, &before.policy, rules);
    for (peer, (class, _)) in &before.patch.moved {
        match class {
            0 => drop(policy.class_of.remove(peer)),
            class => drop(policy.class_of.insert(*peer, *class)),
        }
    }
    let known = |class: &ClassId| before.policy.classes.contains_key(class);
    for (class, content) in before.patch.dropped.iter().filter(|(class, _)| !known(class)) {
        policy.classes.push(entries::link_class(*class, content, rules));
    }
    policy
}

fn classes<'a>(
    policy: &DirectionPolicy,
    classes: impl Iterator<Item = &'a ClassId>,
    rules: &mut RuleTable,
) -> Vec<link::Class> {
    classes.filter_map(|class| Some(entries::link_class(*class, policy.classes.get(class)?, rules))).collect()
}

fn link_root(endpoint: u32, root: tektin_abi::maps::PolicyRoot) -> link::EndpointRoot {
    link::EndpointRoot { endpoint, ingress_policy: root.ingress, egress_policy: root.egress }
}
