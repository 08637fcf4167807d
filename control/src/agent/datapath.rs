//! Puts compiled policies in force: in the proxy first, then in the kernel, and there entries first,
//! then the switch, then the revision, then the removal of what is no longer read. A step that fails
//! leaves what was in force before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy_engine::{
    compile::Compiled,
    compiled::{ClassId, DirectionPolicy},
    direction::Direction,
};
use tektin_abi::maps::{PeerClassKey, PolicyRoot};
use tektin_loader::{MapError, Maps};
use tektin_proxy::link_proto as link;

use super::names::Names;
use crate::{
    proxy_link::{LinkError, ProxyLink},
    rules::RuleTable,
};

pub mod entries;

pub use entries::default_deny_text;

#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error("the kernel's maps did not take it: {0}")]
    Map(#[from] MapError),
    #[error("the proxy did not take it: {0}")]
    Proxy(#[from] LinkError),
    #[error("no policy ids are left; restart the agent")]
    PolicyIdsExhausted,
}

/// What shall be in force: the compiled policies by subject identity, and each endpoint's identity.
#[derive(Clone, Default)]
pub struct Wanted {
    pub subjects: BTreeMap<u32, Arc<Compiled>>,
    pub endpoints: BTreeMap<u32, u32>,
    /// Identities that packets may have now. Only others may come and go under a policy id in force.
    pub in_use: BTreeSet<u32>,
}

/// One direction of one subject's policy as the kernel and the proxy have it.
#[derive(Clone)]
struct Installed {
    id: u32,
    policy: DirectionPolicy,
}

/// The policies in force on this node.
pub struct Enforcement {
    maps: Arc<Maps>,
    link: ProxyLink,
    names: Arc<Names>,
    revision: u32,
    /// The last number that was tried: an answer to a revision that failed must not be taken for the
    /// answer to the next one.
    last_revision: u32,
    last_policy: u32,
    installed: BTreeMap<(u32, Direction), Installed>,
    roots: BTreeMap<u32, PolicyRoot>,
    /// Revision at which an endpoint's policy last changed.
    changed_at: BTreeMap<u32, u32>,
    /// Policy ids of an earlier run of the agent, in force until the first step.
    inherited: BTreeSet<u32>,
    /// Nothing was installed yet: a proxy that runs already may know the policies of another run.
    first_step: bool,
}

/// What becomes of one subject's policy of one direction.
enum Change {
    /// No longer (or never) enforced.
    Open,
    Keep(Installed),
    /// The same classes and perhaps more, for identities that nobody had so far: entries are added
    /// and removed under the id in force.
    Extend {
        installed: Installed,
        first_new_class: usize,
        added: Vec<(u32, ClassId)>,
        removed: Vec<u32>,
    },
    /// Under a new id.
    Replace(Installed),
}

impl Enforcement {
    /// Takes over the pinned maps. What an earlier run put in force there stays in force until the
    /// first [`Enforcement::install`].
    pub fn take_over(maps: Arc<Maps>, link: ProxyLink, names: Arc<Names>) -> Result<Self, MapError> {
        let mut inherited = BTreeSet::new();
        for (key, _) in maps.policy.entries()? {
            inherited.insert(u32::from_be_bytes(key.policy_be));
        }
        for (key, _) in maps.peer_class.entries()? {
            inherited.insert(key.policy);
        }
        let mut roots = BTreeMap::new();
        for endpoint in 1..tektin_abi::maps::ENDPOINTS_MAX {
            let root = maps.policy_root.get(endpoint)?;
            if root != PolicyRoot::default() {
                inherited.extend([root.ingress, root.egress]);
                roots.insert(endpoint, root);
            }
        }
        inherited.remove(&0);
        let revision = maps.config.read()?.revision;
        Ok(Self {
            revision,
            last_revision: revision,
            last_policy: inherited.last().copied().unwrap_or(0),
            maps,
            link,
            names,
            installed: BTreeMap::new(),
            roots,
            changed_at: BTreeMap::new(),
            inherited,
            first_step: true,
        })
    }

    pub fn revision(&self) -> u32 {
        self.revision
    }

    pub fn changed_at(&self, endpoint: u32) -> u32 {
        self.changed_at.get(&endpoint).copied().unwrap_or(0)
    }

    /// Puts `wanted` in force and raises the revision. It is in force in the proxy (if one is
    /// connected) and in the kernel when this returns.
    pub async fn install(&mut self, wanted: &Wanted, rules: &mut RuleTable) -> Result<u32, DatapathError> {
        let last_policy = self.last_policy;
        let plan = self.plan(wanted)?;
        let roots = roots(&plan, wanted);
        let revision = self.next_revision();
        let update = self.update(revision, &plan, &roots, rules);
        // Records may name the new rules from the moment on in which the proxy judges by them.
        self.names.learn_rules(rules.take_new());
        if let Err(error) = self.link.publish(update).await {
            self.last_policy = last_policy;
            return Err(error.into());
        }
        if let Err(error) = self.write_entries(&plan, rules) {
            self.back_out(&plan, rules).await;
            return Err(error.into());
        }
        self.switch(revision, plan, roots, rules)
    }

    fn next_revision(&mut self) -> u32 {
        self.last_revision = self.last_revision.wrapping_add(1).max(1);
        self.last_revision
    }

    fn plan(&mut self, wanted: &Wanted) -> Result<BTreeMap<(u32, Direction), Change>, DatapathError> {
        let mut plan = BTreeMap::new();
        for (subject, compiled) in &wanted.subjects {
            let directions = [
                (Direction::Ingress, &compiled.policy.ingress),
                (Direction::Egress, &compiled.policy.egress),
            ];
            for (direction, policy) in directions {
                let change = match (policy, self.installed.get(&(*subject, direction))) {
                    (None, _) => Change::Open,
                    (Some(policy), Some(installed)) => match extension(installed, policy, &wanted.in_use) {
                        Some(change) => change,
                        None => Change::Replace(self.numbered(policy)?),
                    },
                    (Some(policy), None) => Change::Replace(self.numbered(policy)?),
                };
                plan.insert((*subject, direction), change);
            }
        }
        Ok(plan)
    }

    fn numbered(&mut self, policy: &DirectionPolicy) -> Result<Installed, DatapathError> {
        self.last_policy = self.last_policy.checked_add(1).ok_or(DatapathError::PolicyIdsExhausted)?;
        Ok(Installed { id: self.last_policy, policy: policy.clone() })
    }

    /// The message that brings the proxy from what is in force to `plan`.
    fn update(
        &self,
        revision: u32,
        plan: &BTreeMap<(u32, Direction), Change>,
        roots: &BTreeMap<u32, PolicyRoot>,
        rules: &mut RuleTable,
    ) -> link::PolicyUpdate {
        let mut update = link::PolicyUpdate { revision, full: self.first_step, ..Default::default() };
        for change in plan.values() {
            if let Change::Extend { installed, .. } | Change::Replace(installed) = change {
                update.policies.push(entries::link_policy(installed.id, &installed.policy, rules));
            }
        }
        update.removed_policies = self.out_of_use(plan).into_iter().collect();
        for (endpoint, root) in roots {
            if self.roots.get(endpoint) != Some(root) {
                update.endpoints.push(link::EndpointRoot {
                    endpoint: *endpoint,
                    ingress_policy: root.ingress,
                    egress_policy: root.egress,
                });
            }
        }
        update.removed_endpoints =
            self.roots.keys().filter(|endpoint| !roots.contains_key(endpoint)).copied().collect();
        update
    }

    /// Ids that nothing refers to once `plan` is in force.
    fn out_of_use(&self, plan: &BTreeMap<(u32, Direction), Change>) -> BTreeSet<u32> {
        let kept: BTreeSet<u32> = plan.values().filter_map(Change::installed).map(|i| i.id).collect();
        let installed = self.installed.values().map(|installed| installed.id);
        installed.chain(self.inherited.iter().copied()).filter(|id| !kept.contains(id)).collect()
    }

    /// Writes what is new. Nothing reads it yet: new ids are in no root, and new identities are in
    /// no ipcache entry.
    fn write_entries(
        &self,
        plan: &BTreeMap<(u32, Direction), Change>,
        rules: &mut RuleTable,
    ) -> Result<(), MapError> {
        for change in plan.values() {
            let (installed, first_class, members): (_, _, Vec<(u32, ClassId)>) = match change {
                Change::Open | Change::Keep(_) => continue,
                Change::Replace(installed) => {
                    let members = installed.policy.class_of.iter().map(|(peer, class)| (*peer, *class));
                    (installed, 0, members.collect())
                }
                Change::Extend { installed, first_new_class, added, .. } => {
                    (installed, *first_new_class, added.clone())
                }
            };
            for (index, class) in installed.policy.classes.iter().enumerate().skip(first_class) {
                for (key, value) in entries::class_entries(installed.id, index as ClassId, class, rules) {
                    self.maps.policy.insert(&key, &value)?;
                }
            }
            for (identity, class) in members {
                self.maps.peer_class.insert(&PeerClassKey { policy: installed.id, identity }, &class)?;
            }
        }
        Ok(())
    }

    /// Makes the written entries the ones in force and removes the others.
    fn switch(
        &mut self,
        revision: u32,
        plan: BTreeMap<(u32, Direction), Change>,
        roots: BTreeMap<u32, PolicyRoot>,
        rules: &mut RuleTable,
    ) -> Result<u32, DatapathError> {
        for (endpoint, root) in &roots {
            if self.roots.get(endpoint) != Some(root) {
                self.maps.policy_root.set(*endpoint, root)?;
                self.changed_at.insert(*endpoint, revision);
            }
        }
        let gone: Vec<u32> =
            self.roots.keys().filter(|endpoint| !roots.contains_key(endpoint)).copied().collect();
        for endpoint in gone {
            self.maps.policy_root.set(endpoint, &PolicyRoot::default())?;
            self.changed_at.remove(&endpoint);
        }
        self.maps.config.set_revision(revision)?;
        let out_of_use = self.out_of_use(&plan);
        self.revision = revision;
        self.roots = roots;
        let inherited = std::mem::take(&mut self.inherited);
        self.first_step = false;
        for change in plan.values() {
            if let Change::Extend { installed, removed, .. } = change {
                for identity in removed {
                    let key = PeerClassKey { policy: installed.id, identity: *identity };
                    self.maps.peer_class.remove(&key)?;
                }
            }
        }
        let before = std::mem::replace(
            &mut self.installed,
            plan.into_iter().filter_map(|(key, change)| Some((key, change.into_installed()?))).collect(),
        );
        for installed in before.values().filter(|installed| out_of_use.contains(&installed.id)) {
            self.erase(installed, rules)?;
        }
        if !inherited.is_empty() {
            // What another run has written is known by its ids alone.
            self.maps.clear_policies(&inherited)?;
        }
        Ok(revision)
    }

    /// After the kernel refused: takes back what was written and tells the proxy to go on with what
    /// is in force.
    async fn back_out(&mut self, plan: &BTreeMap<(u32, Direction), Change>, rules: &mut RuleTable) {
        for change in plan.values() {
            let taken_back = match change {
                Change::Open | Change::Keep(_) => Ok(()),
                Change::Replace(installed) => self.erase(installed, rules),
                Change::Extend { installed, added, first_new_class, .. } => {
                    self.take_back(installed, added, *first_new_class, rules)
                }
            };
            if let Err(error) = taken_back {
                tracing::error!(%error, "cannot take back a map entry");
            }
        }
        if self.first_step {
            // What is in force is another run's, whose documents the proxy has from that run or, as
            // far as they are remembered, has just got.
            return;
        }
        // In full: whatever the refused change has removed is back as well.
        let mut update =
            link::PolicyUpdate { revision: self.next_revision(), full: true, ..Default::default() };
        for installed in self.installed.values() {
            update.policies.push(entries::link_policy(installed.id, &installed.policy, rules));
        }
        for (endpoint, root) in &self.roots {
            update.endpoints.push(link::EndpointRoot {
                endpoint: *endpoint,
                ingress_policy: root.ingress,
                egress_policy: root.egress,
            });
        }
        if let Err(error) = self.link.publish(update).await {
            tracing::error!(%error, "the proxy is ahead of the kernel until the next change of policy");
        }
    }

    /// Removes all entries of a policy that no endpoint has.
    fn erase(&self, installed: &Installed, rules: &mut RuleTable) -> Result<(), MapError> {
        let members: Vec<(u32, ClassId)> =
            installed.policy.class_of.iter().map(|(identity, class)| (*identity, *class)).collect();
        self.take_back(installed, &members, 0, rules)
    }

    /// Removes what an extension has added. Members first: a class without members is not read.
    fn take_back(
        &self,
        installed: &Installed,
        added: &[(u32, ClassId)],
        first_new_class: usize,
        rules: &mut RuleTable,
    ) -> Result<(), MapError> {
        for (identity, _) in added {
            self.maps.peer_class.remove(&PeerClassKey { policy: installed.id, identity: *identity })?;
        }
        for (index, class) in installed.policy.classes.iter().enumerate().skip(first_new_class) {
            for (key, _) in entries::class_entries(installed.id, index as ClassId, class, rules) {
                self.maps.policy.remove(&key)?;
            }
        }
        Ok(())
    }

    /// The specs that switched default deny on for the identity.
    pub fn default_deny(&self, identity: u32, direction: Direction) -> Option<String> {
        default_deny_text(&self.installed.get(&(identity, direction))?.policy.default_deny)
    }

    /// Whether a policy holds for the identity in that direction.
    pub fn is_enforced(&self, identity: u32, direction: Direction) -> bool {
        self.installed.contains_key(&(identity, direction))
    }
}

impl Change {
    fn installed(&self) -> Option<&Installed> {
        match self {
            Change::Open => None,
            Change::Keep(installed) | Change::Extend { installed, .. } | Change::Replace(installed) => {
                Some(installed)
            }
        }
    }

    fn into_installed(self) -> Option<Installed> {
        match self {
            Change::Open => None,
            Change::Keep(installed) | Change::Extend { installed, .. } | Change::Replace(installed) => {
                Some(installed)
            }
        }
    }
}

/// The policies of each endpoint once `plan` is in force.
fn roots(plan: &BTreeMap<(u32, Direction), Change>, wanted: &Wanted) -> BTreeMap<u32, PolicyRoot> {
    let id = |identity, direction| {
        plan.get(&(identity, direction)).and_then(Change::installed).map_or(0, |installed| installed.id)
    };
    wanted
        .endpoints
        .iter()
        .map(|(endpoint, identity)| {
            let ingress = id(*identity, Direction::Ingress);
            let egress = id(*identity, Direction::Egress);
            (*endpoint, PolicyRoot { ingress, egress })
        })
        .collect()
}

/// How `policy` can be put in force under the id of `installed`: only if no identity that is known
/// there or in use changes its class, and no class changes its content.
fn extension(installed: &Installed, policy: &DirectionPolicy, in_use: &BTreeSet<u32>) -> Option<Change> {
    let before = &installed.policy;
    if before == policy {
        return Some(Change::Keep(installed.clone()));
    }
    if before.default_deny != policy.default_deny || !policy.classes.starts_with(&before.classes) {
        return None;
    }
    let mut added = Vec::new();
    for (identity, class) in &policy.class_of {
        match before.class_of.get(identity) {
            None => added.push((*identity, *class)),
            Some(same) if same == class => {}
            Some(_) => return None,
        }
    }
    let removed: Vec<u32> =
        before.class_of.keys().filter(|identity| !policy.class_of.contains_key(identity)).copied().collect();
    let mut moved = added.iter().map(|(identity, _)| identity).chain(&removed);
    if moved.any(|identity| in_use.contains(identity)) {
        return None;
    }
    Some(Change::Extend {
        installed: Installed { id: installed.id, policy: policy.clone() },
        first_new_class: before.classes.len(),
        added,
        removed,
    })
}
