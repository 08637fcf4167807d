//! Puts compiled policies in force: in the proxy first, then in the kernel, and there entries first,
//! then the switch, then the revision, then the removal of what is no longer read. A step that fails
//! leaves what was in force before. Only what has changed is sent and written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy_engine::{
    compile::{DirectionChange, SubjectChange},
    compiled::DirectionPolicy,
    direction::Direction,
    engine::Engine,
};
use tektin_abi::maps::{PeerClassKey, PolicyRoot};
use tektin_loader::{MapError, Maps};

use super::names::Names;
use crate::{
    proxy_link::{LinkError, ProxyLink},
    rules::RuleTable,
};

pub mod entries;
mod garbage;
mod message;
mod plan;

pub use entries::default_deny_text;

use garbage::{Garbage, Removal};
use plan::{Plan, Step};

#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error("the kernel's maps did not take it: {0}")]
    Map(#[from] MapError),
    #[error("the proxy did not take it: {0}")]
    Proxy(#[from] LinkError),
    #[error("no policy ids are left; restart the agent")]
    PolicyIdsExhausted,
}

/// What becomes of endpoints: the identity of new ones and of those that change it; `None`: gone.
pub type EndpointChanges = BTreeMap<u32, Option<u32>>;

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
    /// Policy ids by subject identity and direction; none: not enforced.
    ids: BTreeMap<(u32, Direction), u32>,
    /// The identity of each endpoint, and the endpoints of each.
    identities: BTreeMap<u32, u32>,
    endpoints: BTreeMap<u32, BTreeSet<u32>>,
    roots: BTreeMap<u32, PolicyRoot>,
    /// Revision at which an endpoint's policy last changed.
    changed_at: BTreeMap<u32, u32>,
    /// Policy ids of an earlier run of the agent, in force until the first step.
    inherited: BTreeSet<u32>,
    /// The identities that these policies know.
    inherited_peers: BTreeSet<u32>,
    /// Nothing was installed yet: a proxy that runs already may know the policies of another run.
    first_step: bool,
    garbage: Garbage,
}

impl Enforcement {
    /// Takes over the pinned maps. What an earlier run put in force there stays in force until the
    /// first [`Enforcement::install`].
    pub fn take_over(maps: Arc<Maps>, link: ProxyLink, names: Arc<Names>) -> Result<Self, MapError> {
        let (mut inherited, mut inherited_peers) = (BTreeSet::new(), BTreeSet::new());
        for (key, _) in maps.policy.entries()? {
            inherited.insert(u32::from_be_bytes(key.policy_be));
        }
        for (key, _) in maps.peer_class.entries()? {
            inherited.insert(key.policy);
            inherited_peers.insert(key.identity);
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
            garbage: Garbage::new(maps.clone()),
            maps,
            link,
            names,
            ids: BTreeMap::new(),
            identities: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            roots,
            changed_at: BTreeMap::new(),
            inherited,
            inherited_peers,
            first_step: true,
        })
    }

    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// The identities that the policies of an earlier run know. Returns them once.
    pub fn take_inherited_peers(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.inherited_peers)
    }

    pub fn changed_at(&self, endpoint: u32) -> u32 {
        self.changed_at.get(&endpoint).copied().unwrap_or(0)
    }

    /// Whether a policy holds for the identity in that direction.
    pub fn is_enforced(&self, identity: u32, direction: Direction) -> bool {
        self.ids.contains_key(&(identity, direction))
    }

    /// The endpoints of an identity, with it.
    pub fn endpoints_of(&self, identity: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.endpoints.get(&identity).into_iter().flatten().map(move |endpoint| (*endpoint, identity))
    }

    /// Makes established flows be judged again, where who is who has changed and no policy has.
    pub fn raise_revision(&mut self) -> Result<u32, DatapathError> {
        let revision = self.next_revision();
        self.maps.config.set_revision(revision)?;
        self.revision = revision;
        Ok(revision)
    }

    /// As [`Enforcement::raise_revision`], and proxies look up anew who is at the far ends of connections.
    pub async fn raise_revision_everywhere(&mut self) -> Result<u32, DatapathError> {
        let revision = self.next_revision();
        let update = tektin_proxy::link_proto::PolicyUpdate { revision, ..Default::default() };
        let _ = self.link.publish(update).await?;
        self.maps.config.set_revision(revision)?;
        self.revision = revision;
        Ok(revision)
    }

    /// Puts `changes` of the engine's subjects, and endpoints, in force and raises the revision. They
    /// are in force in the proxy (if one is connected) and in the kernel when this returns.
    pub async fn install(
        &mut self,
        engine: &Engine,
        changes: &BTreeMap<u32, SubjectChange>,
        endpoints: &EndpointChanges,
        rules: &mut RuleTable,
    ) -> Result<u32, DatapathError> {
        let last_policy = self.last_policy;
        let plan = self.plan(engine, changes, endpoints)?;
        let revision = self.next_revision();
        let update = self.update(revision, &plan, rules);
        // Records may name the new rules from the moment on in which the proxy judges by them.
        self.names.learn_rules(rules.take_new());
        if let Err(error) = self.link.publish(update).await {
            self.last_policy = last_policy;
            return Err(error.into());
        }
        let mut written = self.write(&plan, rules);
        if let Err((undo, MapError::Full { .. })) = &written {
            // What is no longer read may take up the room.
            self.undo(&plan, undo).await;
            self.garbage.wait().await;
            written = self.write(&plan, rules);
        }
        if let Err((undo, error)) = written {
            self.undo(&plan, &undo).await;
            // Flows that began meanwhile may have met a peer's new class: they are judged again.
            if let Err(error) = self.raise_revision() {
                tracing::error!(%error, "flows that began during a refused change keep its verdict");
            }
            self.tell_proxy_of_the_way_back(&plan, rules).await;
            return Err(error.into());
        }
        self.switch(revision, plan, endpoints)
    }

    fn next_revision(&mut self) -> u32 {
        self.last_revision = self.last_revision.wrapping_add(1).max(1);
        self.last_revision
    }

    /// Writes all but the switch. New ids are in no root yet. A peer that changes its class within a
    /// policy in force is of the old class or of the new one for each packet. On an error: how many
    /// entries were written.
    fn write(&self, plan: &Plan<'_>, rules: &mut RuleTable) -> Result<(), (Written, MapError)> {
        let mut written = Written::default();
        for (step, number) in plan.steps.iter().zip(0..) {
            written.step = number;
            written.moved = 0;
            if let Err(error) = self.write_step(step, rules, &mut written.moved) {
                return Err((written, error));
            }
        }
        Ok(())
    }

    fn write_step(&self, step: &Step<'_>, rules: &mut RuleTable, moved: &mut usize) -> Result<(), MapError> {
        let rows = |id, policy: &DirectionPolicy, class, rules: &mut RuleTable| {
            let content = policy.classes.get(&class);
            content.map_or(Vec::new(), |content| entries::class_entries(id, class, content, rules))
        };
        match step {
            Step::Open { .. } => {}
            Step::Replace { id, policy, .. } => {
                for class in policy.classes.keys() {
                    for (key, value) in rows(*id, policy, *class, rules) {
                        self.maps.policy.insert(&key, &value)?;
                    }
                }
                for (identity, class) in &policy.class_of {
                    self.maps.peer_class.insert(&PeerClassKey { policy: *id, identity: *identity }, class)?;
                }
            }
            Step::Patch { id, policy, patch, .. } => {
                for class in &patch.made {
                    for (key, value) in rows(*id, policy, *class, rules) {
                        self.maps.policy.insert(&key, &value)?;
                    }
                }
                for (identity, (_, class)) in &patch.moved {
                    self.set_class(*id, *identity, *class)?;
                    *moved += 1;
                }
            }
        }
        Ok(())
    }

    fn set_class(&self, policy: u32, identity: u32, class: u32) -> Result<(), MapError> {
        let key = PeerClassKey { policy, identity };
        match class {
            0 => self.maps.peer_class.remove(&key).map(drop),
            class => self.maps.peer_class.insert(&key, &class),
        }
    }

    /// Takes back what was written before a step failed. Peers first: a class without any is not read once
    /// who has just found it is through.
    async fn undo(&mut self, plan: &Plan<'_>, written: &Written) {
        let mut removals = Vec::new();
        for (step, number) in plan.steps.iter().zip(0..=written.step) {
            match step {
                Step::Open { .. } => {}
                Step::Replace { id, policy, .. } => removals.push(Removal::policy(*id, policy)),
                Step::Patch { id, policy, patch, .. } => {
                    let moved = if number == written.step { written.moved } else { patch.moved.len() };
                    let mut back = patch.moved.iter().take(moved);
                    match back.try_for_each(|(peer, (before, _))| self.set_class(*id, *peer, *before)) {
                        Ok(()) => removals.push(Removal::made(*id, policy, patch)),
                        // What some peers still lead to stays.
                        Err(error) => tracing::error!(%error, "cannot take back a map entry"),
                    }
                }
            }
        }
        self.garbage.remove(removals);
        self.garbage.wait().await;
    }

    /// Makes the written entries the ones in force, and lets go of the others.
    fn switch(
        &mut self,
        revision: u32,
        plan: Plan<'_>,
        endpoints: &EndpointChanges,
    ) -> Result<u32, DatapathError> {
        for (endpoint, root) in &plan.roots {
            self.maps.policy_root.set(*endpoint, &root.unwrap_or_default())?;
        }
        self.maps.config.set_revision(revision)?;
        self.revision = revision;
        for (endpoint, root) in plan.roots {
            match root {
                Some(root) => {
                    self.roots.insert(endpoint, root);
                    self.changed_at.insert(endpoint, revision);
                }
                None => {
                    self.roots.remove(&endpoint);
                    self.changed_at.remove(&endpoint);
                }
            }
        }
        for (endpoint, identity) in endpoints {
            if let Some(before) = self.identities.remove(endpoint)
                && let Some(of_identity) = self.endpoints.get_mut(&before)
            {
                of_identity.remove(endpoint);
                if of_identity.is_empty() {
                    self.endpoints.remove(&before);
                }
            }
            if let Some(identity) = identity {
                self.identities.insert(*endpoint, *identity);
                self.endpoints.entry(*identity).or_default().insert(*endpoint);
            }
        }
        let mut removals = Vec::new();
        for step in &plan.steps {
            match step {
                Step::Open { key, before } => {
                    self.ids.remove(key);
                    removals.extend(before.as_ref().map(Removal::replaced));
                }
                Step::Replace { key, id, before, .. } => {
                    self.ids.insert(*key, *id);
                    removals.extend(before.as_ref().map(Removal::replaced));
                }
                Step::Patch { key, id, patch, .. } => {
                    debug_assert_eq!(self.ids.get(key), Some(id));
                    removals.push(Removal::dropped(*id, patch));
                }
            }
        }
        // What another run has written is known by its ids alone.
        let inherited = std::mem::take(&mut self.inherited);
        if !inherited.is_empty() {
            removals.push(Removal::Inherited(inherited));
        }
        self.first_step = false;
        self.garbage.remove(removals);
        Ok(revision)
    }

    /// After the kernel refused: the proxy goes on with what is in force.
    async fn tell_proxy_of_the_way_back(&mut self, plan: &Plan<'_>, rules: &mut RuleTable) {
        if self.first_step {
            // What is in force is another run's, whose documents the proxy has from that run or, as
            // far as they are remembered, has just got.
            return;
        }
        let revision = self.next_revision();
        let update = self.update_back(revision, plan, rules);
        if let Err(error) = self.link.publish(update).await {
            tracing::error!(%error, "the proxy is ahead of the kernel until the next change of policy");
        }
    }
}

/// How far [`Enforcement::write`] has come: the step, and the peers that it has moved within that.
#[derive(Default)]
struct Written {
    step: usize,
    moved: usize,
}

fn sides<'a>(
    engine: &'a Engine,
    subject: u32,
    change: &'a SubjectChange,
) -> [(Direction, &'a DirectionChange, Option<&'a DirectionPolicy>); 2] {
    let policy = engine.subject(subject).map(|compiled| &compiled.policy);
    [
        (Direction::Ingress, &change.ingress, policy.and_then(|policy| policy.ingress.as_ref())),
        (Direction::Egress, &change.egress, policy.and_then(|policy| policy.egress.as_ref())),
    ]
}
