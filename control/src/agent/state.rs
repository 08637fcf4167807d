//! Everything that the agent knows and has put in force, and the one way to change it.
//!
//! A change goes through three steps, so that at no moment a packet is judged by half of it:
//!
//! 1. the *old* documents classify what is new (identities, endpoints); then the new addresses and
//!    prefixes enter the ipcache: no verdict has changed yet;
//! 2. the *new* documents are put in force;
//! 3. what only the old ones needed leaves the ipcache, then the policies, then the identities.
//!
//! What fails before the end is taken back, and the old state stays in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use policy_engine::{
    compile::{Compiled, compile},
    identity::{Identity, IdentityTable},
    policy_set::{PolicySet, subjects_affected},
};
use tektin_abi::maps::identity;

use super::{
    datapath::{Enforcement, Wanted},
    endpoints::Endpoints,
    error::AgentError,
    handover::Handover,
    identities::{Identities, NamedPorts, WorkloadKey},
    ipam::Ipam,
    ipcache::{self, Ipcache, Owner, Prefixes},
    leftovers,
    names::Names,
    netlink::Netlink,
    node::{NodeAddresses, SetUp},
    policies::Policies,
};
use crate::{api::TransportProtocol, rules::RuleTable};

mod naming;

/// All that decides what is in force.
#[derive(Clone, Default)]
pub struct Desired {
    pub documents: PolicySet,
    pub endpoints: BTreeMap<u32, Member>,
    /// Addresses of this host.
    pub host: BTreeSet<IpAddr>,
}

/// An endpoint as policy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub key: WorkloadKey,
    pub addresses: Vec<IpAddr>,
}

pub struct State {
    pub handover: Handover,
    pub netlink: Netlink,
    pub node: NodeAddresses,
    pub set_up: SetUp,
    pub datapath: tektin_loader::Datapath,
    pub maps: Arc<tektin_loader::Maps>,
    pub enforcement: Enforcement,
    pub ipcache: Ipcache,
    pub identities: Identities,
    pub endpoints: Endpoints,
    pub ipam: Ipam,
    pub policies: Policies,
    pub rules: RuleTable,
    pub names: Arc<Names>,
    pub desired: Desired,
    /// Every identity known, as the policy engine wants it.
    pub table: Arc<IdentityTable>,
    /// The identity of each endpoint.
    pub identity_of: BTreeMap<u32, u32>,
    pub compiled: BTreeMap<u32, Arc<Compiled>>,
    /// Devices whose arriving packets are judged, by index.
    pub outside: BTreeMap<u32, String>,
    /// Nothing was put in force by this run yet.
    pub first_change: bool,
}

/// The numbers that a desired state needs.
struct Numbered {
    identity_of: BTreeMap<u32, u32>,
    prefixes: Prefixes,
}

impl State {
    /// Puts `next` in force and returns the revision. On an error the state is as before.
    pub async fn change(&mut self, next: Desired) -> Result<u32, AgentError> {
        let numbered = self.number(&next)?;
        self.identities.save()?;
        match self.steps(&next, &numbered).await {
            Ok(revision) => {
                self.desired = next;
                self.identity_of = numbered.identity_of;
                self.first_change = false;
                self.settle();
                Ok(revision)
            }
            Err(error) => {
                if !self.first_change {
                    self.take_back().await;
                }
                self.settle();
                Err(error)
            }
        }
    }

    /// Gives every label set and prefix of `next` its number.
    fn number(&mut self, next: &Desired) -> Result<Numbered, AgentError> {
        let mut identity_of = BTreeMap::new();
        let mut prefixes = ipcache::world();
        for prefix in next.documents.prefixes() {
            prefixes.insert(prefix.trunc(), Owner::identity(self.identities.prefix(prefix)?));
        }
        for address in &next.host {
            prefixes.insert(IpNet::from(*address), Owner::identity(identity::HOST));
        }
        for (id, member) in &next.endpoints {
            let number = self.identities.workload(&member.key)?;
            identity_of.insert(*id, number);
            for address in &member.addresses {
                prefixes.insert(IpNet::from(*address), Owner { identity: number, endpoint: *id });
            }
        }
        Ok(Numbered { identity_of, prefixes })
    }

    async fn steps(&mut self, next: &Desired, numbered: &Numbered) -> Result<u32, AgentError> {
        let mut subjects = self.compiled.clone();

        // 1. What is new, by the old documents.
        let fresh = self.learn_identities();
        for compiled in subjects.values_mut() {
            let compiled = Arc::make_mut(compiled);
            for identity in &fresh {
                let _ = compiled.add(identity);
            }
        }
        let new_subjects = missing(&numbered.identity_of, &subjects);
        subjects.extend(compile_all(&self.desired.documents, &self.table, new_subjects).await?);
        let mut wanted = Wanted { subjects, ..Wanted::default() };
        wanted.endpoints.clone_from(&self.identity_of);
        wanted.endpoints.extend(&numbered.identity_of);
        wanted.in_use = in_use(self.ipcache.written());
        // At start the documents of the earlier run are in force until the new ones are: nothing
        // to classify for in between.
        if !self.first_change && (!fresh.is_empty() || wanted.endpoints != self.identity_of) {
            self.install(&wanted).await?;
        }
        if !self.first_change {
            self.ipcache.add(&numbered.prefixes)?;
        }

        // 2. The new documents.
        let affected = self.affected_by(next, &wanted.subjects);
        if !affected.is_empty() || self.first_change {
            let affected =
                if self.first_change { wanted.subjects.keys().copied().collect() } else { affected };
            wanted.subjects.extend(compile_all(&next.documents, &self.table, affected).await?);
            wanted.in_use = in_use(self.ipcache.written());
            self.install(&wanted).await?;
        }
        self.ipcache.add(&numbered.prefixes)?;
        self.ipcache.remove_others(&numbered.prefixes)?;

        // 3. What nobody needs any more.
        let kept: BTreeSet<u32> = numbered
            .identity_of
            .values()
            .copied()
            .chain(numbered.prefixes.values().map(|owner| owner.identity))
            .collect();
        let dropped: Vec<u32> = self
            .identities
            .workloads()
            .map(|(number, _)| number)
            .chain(self.identities.prefixes().map(|(number, _)| number))
            .filter(|number| !kept.contains(number))
            .collect();
        let subjects: BTreeSet<u32> = numbered.identity_of.values().copied().collect();
        wanted.subjects.retain(|subject, _| subjects.contains(subject));
        for compiled in wanted.subjects.values_mut().filter(|_| !dropped.is_empty()) {
            let compiled = Arc::make_mut(compiled);
            dropped.iter().for_each(|identity| compiled.remove(*identity));
        }
        wanted.endpoints.clone_from(&numbered.identity_of);
        wanted.in_use = in_use(self.ipcache.written());
        let revision = self.install(&wanted).await?;
        self.compiled = wanted.subjects;
        self.identities.retain(|number| kept.contains(&number));
        let table = Arc::make_mut(&mut self.table);
        dropped.iter().for_each(|number| drop(table.remove(*number)));
        if let Err(error) = leftovers::forget_identities(&self.maps, &dropped) {
            tracing::error!(%error, "counts of identities that are gone are kept");
        }
        Ok(revision)
    }

    /// Names first: records of what the new policies decide may come at once.
    async fn install(&mut self, wanted: &Wanted) -> Result<u32, AgentError> {
        self.announce(wanted);
        Ok(self.enforcement.install(wanted, &mut self.rules).await?)
    }

    /// Brings the policy engine's table up to date with the numbers given, and returns what is new.
    fn learn_identities(&mut self) -> Vec<Arc<Identity>> {
        if self.table.is_empty() {
            self.table = Arc::new(IdentityTable::with_reserved());
        }
        let mut fresh = Vec::new();
        for (number, key) in self.identities.workloads() {
            if self.table.identity(number).is_none() {
                let ports = engine_ports(&key.named_ports);
                fresh.push(Identity::workload(number, key.labels.clone(), ports));
            }
        }
        for (number, prefix) in self.identities.prefixes() {
            if self.table.identity(number).is_none() {
                fresh.push(Identity::for_prefix(number, prefix, BTreeSet::new()));
            }
        }
        if fresh.is_empty() {
            return Vec::new();
        }
        let table = Arc::make_mut(&mut self.table);
        let fresh: Vec<Arc<Identity>> = fresh.into_iter().map(|identity| table.insert(identity)).collect();
        self.announce_identities(&fresh);
        fresh
    }

    /// Subjects that a document selects which differs between now and `next`.
    fn affected_by(&self, next: &Desired, subjects: &BTreeMap<u32, Arc<Compiled>>) -> BTreeSet<u32> {
        let (before, after) = (&self.desired.documents, &next.documents);
        if before.options != after.options {
            return subjects.keys().copied().collect();
        }
        let ids: BTreeSet<_> = before.iter().chain(after.iter()).map(|document| &document.id).collect();
        let mut affected = BTreeSet::new();
        for id in ids {
            let (old, new) = (before.document(id), after.document(id));
            if old == new {
                continue;
            }
            let identities =
                subjects.keys().filter_map(|subject| self.table.identity(*subject)).map(Arc::as_ref);
            affected.extend(subjects_affected(old.map(Arc::as_ref), new.map(Arc::as_ref), identities));
        }
        affected
    }

    /// After a failed change: back to what was in force.
    async fn take_back(&mut self) {
        let desired = self.desired.clone();
        let taken_back = async {
            let numbered = self.number(&desired)?;
            let mut wanted = Wanted { subjects: self.compiled.clone(), ..Wanted::default() };
            wanted.endpoints.clone_from(&self.identity_of);
            wanted.in_use = in_use(self.ipcache.written());
            self.ipcache.add(&numbered.prefixes)?;
            self.ipcache.remove_others(&numbered.prefixes)?;
            self.install(&wanted).await?;
            let kept: BTreeSet<u32> = numbered
                .identity_of
                .values()
                .copied()
                .chain(numbered.prefixes.values().map(|owner| owner.identity))
                .collect();
            self.identities.retain(|number| kept.contains(&number));
            self.table = Arc::default();
            self.learn_identities();
            Ok::<(), AgentError>(())
        };
        if let Err(error) = taken_back.await {
            tracing::error!(%error, "the state before a failed change could not be restored");
        }
    }

    /// What follows a change and cannot undo it: files, names for records.
    fn settle(&mut self) {
        if let Err(error) = self.identities.save() {
            tracing::error!(%error, "identities are not saved");
        }
        if let Err(error) = self.rules.save() {
            tracing::error!(%error, "rule ids are not saved");
        }
        self.publish_names();
    }
}

/// Identities that packets may have now.
fn in_use(prefixes: &Prefixes) -> BTreeSet<u32> {
    prefixes.values().map(|owner| owner.identity).collect()
}

fn missing(identity_of: &BTreeMap<u32, u32>, subjects: &BTreeMap<u32, Arc<Compiled>>) -> BTreeSet<u32> {
    identity_of.values().filter(|identity| !subjects.contains_key(identity)).copied().collect()
}

/// Compiles on a thread of its own: with many documents it takes longer than the API may stand still.
async fn compile_all(
    documents: &PolicySet,
    table: &Arc<IdentityTable>,
    subjects: BTreeSet<u32>,
) -> Result<BTreeMap<u32, Arc<Compiled>>, AgentError> {
    let (documents, table) = (documents.clone(), table.clone());
    let work = move || {
        let identities = subjects.iter().filter_map(|subject| table.identity(*subject));
        identities
            .map(|identity| (identity.id, Arc::new(compile(&documents, identity, &table))))
            .collect::<BTreeMap<_, _>>()
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| AgentError::System(format!("compiling the policies failed: {error}")))
}

/// Named ports as the policy engine wants them.
pub fn engine_ports(ports: &NamedPorts) -> policy_engine::identity::NamedPorts {
    use policy_engine::model::Protocol;
    let protocol = |protocol| match protocol {
        TransportProtocol::Tcp => Protocol::Tcp,
        TransportProtocol::Udp => Protocol::Udp,
        TransportProtocol::Sctp => Protocol::Sctp,
    };
    policy_engine::identity::NamedPorts(
        ports.iter().map(|(name, port)| (name.clone(), (protocol(port.protocol), port.port))).collect(),
    )
}
