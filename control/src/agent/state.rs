//! Everything that the agent knows and has put in force, and the one way to change it.
//!
//! A change goes through three steps, so that at no moment a packet is judged by half of it:
//!
//! 1. the *old* documents classify what is new (identities, endpoints); then the new addresses and
//!    prefixes enter the ipcache: no verdict has changed yet;
//! 2. the *new* documents are put in force;
//! 3. what only the old ones needed leaves the ipcache, then the policies, then the identities.
//!
//! What fails before the end is taken back, and the old state stays in force. Each step does what the
//! change asks for; nothing here goes through all that is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use policy_engine::{engine::Engine, policy_set::DocumentChange};

use super::{
    claims::{Claims, OwnerChanges},
    datapath::{EndpointChanges, Enforcement},
    endpoints::Endpoints,
    error::AgentError,
    handover::Handover,
    identities::{Identities, NamedPorts, WorkloadKey},
    ipam::Ipam,
    ipcache::{self, Ipcache},
    leftovers,
    names::Names,
    netlink::Netlink,
    node::{NodeAddresses, SetUp},
    policies::Policies,
};
use crate::{api::TransportProtocol, rules::RuleTable};

mod carried;
mod draft;
mod naming;

use draft::Draft;

/// A change of what decides: documents, endpoints, addresses.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub documents: Vec<DocumentChange>,
    /// `None`: gone.
    pub endpoints: BTreeMap<u32, Option<Member>>,
    /// All addresses of this host, where they are others now.
    pub host: Option<BTreeSet<IpAddr>>,
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
    /// Documents and identities with the policies that they make.
    pub engine: Engine,
    /// Endpoints as they are policed, and addresses of this host.
    pub members: BTreeMap<u32, Member>,
    pub host: BTreeSet<IpAddr>,
    pub claims: Claims,
    /// The identity of each endpoint, and how many endpoints each has.
    pub identity_of: BTreeMap<u32, u32>,
    pub users: BTreeMap<u32, u32>,
    /// Devices whose arriving packets are judged, by index.
    pub outside: BTreeMap<u32, String>,
    /// Nothing was put in force by this run yet.
    pub first_change: bool,
}

impl Change {
    pub fn of_endpoint(id: u32, member: Option<Member>) -> Self {
        Self { endpoints: BTreeMap::from([(id, member)]), ..Self::default() }
    }

    pub fn of_documents(documents: Vec<DocumentChange>) -> Self {
        Self { documents, ..Self::default() }
    }
}

impl State {
    /// Puts a change in force and returns the revision. On an error the state is as before.
    pub async fn change(&mut self, change: Change) -> Result<u32, AgentError> {
        self.give_numbers(&change)?;
        let back = self.reversed(&change);
        let mut draft = self.number(change);
        let result = self.steps(&mut draft).await;
        match result {
            Ok(()) => self.first_change = false,
            // The first one fails together with the agent.
            Err(_) if self.first_change => {}
            Err(_) => self.take_back(back).await,
        }
        self.settle();
        result.map(|()| self.enforcement.revision())
    }

    async fn steps(&mut self, draft: &mut Draft) -> Result<(), AgentError> {
        // Before anything is in force under them: a number is not another's after a restart.
        self.identities.save()?;

        // 1. What is new, by the old documents.
        self.announce_identities(&draft.fresh);
        for identity in draft.fresh.drain(..) {
            self.engine.add_identity(identity);
        }
        let come: EndpointChanges = draft
            .endpoints
            .iter()
            .filter(|(_, identity)| identity.is_some())
            .map(|(e, i)| (*e, *i))
            .collect();
        if self.first_change {
            // The documents of the earlier run are in force until the new ones are: nothing to
            // classify for in between.
            return self.first_step(draft, come).await;
        }
        draft.new_subjects.iter().for_each(|subject| self.engine.add_subject(*subject));
        self.install(&come).await?;
        self.ipcache.add(&draft.owners.now)?;

        // 2. The new documents.
        draft.documents.iter().for_each(|document| self.engine.follow(document));
        let in_force = self.install(&EndpointChanges::new()).await?;
        self.ipcache.remove(&draft.owners.gone)?;

        // 3. What nobody needs any more.
        for number in &draft.gone {
            self.engine.remove_subject(*number);
            self.engine.remove_identity(*number);
        }
        let gone: EndpointChanges = draft
            .endpoints
            .iter()
            .filter(|(_, identity)| identity.is_none())
            .map(|(e, i)| (*e, *i))
            .collect();
        let raised = self.install(&gone).await? == Installed::Something;
        let owners_only = in_force == Installed::Nothing && draft.owners != OwnerChanges::default();
        if !raised && (owners_only || !draft.owners.gone.is_empty()) {
            self.enforcement.raise_revision()?;
        }
        self.let_go(&draft.gone.iter().copied().collect::<Vec<u32>>());
        Ok(())
    }

    /// From an earlier run's state to this one's.
    async fn first_step(&mut self, draft: &mut Draft, endpoints: EndpointChanges) -> Result<(), AgentError> {
        let (documents, subjects) =
            (std::mem::take(&mut draft.documents), std::mem::take(&mut draft.new_subjects));
        let empty = Engine::new(self.engine.policies().options);
        let mut engine = std::mem::replace(&mut self.engine, empty);
        // On a thread of its own: with many documents it takes longer than the link may stand still.
        let work = move || {
            documents.iter().for_each(|document| engine.follow(document));
            subjects.iter().for_each(|subject| engine.add_subject(*subject));
            engine
        };
        self.engine = tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| AgentError::System(format!("compiling the policies failed: {error}")))?;
        self.install(&endpoints).await?;
        let mut owners = ipcache::world();
        owners.extend(self.claims.owners());
        self.ipcache.add(&owners)?;
        let others = self.ipcache.written().keys().filter(|prefix| !owners.contains_key(prefix));
        self.ipcache.remove(&others.copied().collect::<Vec<IpNet>>())?;
        self.enforcement.raise_revision_everywhere().await?;
        let unused = self.identities.unused(|number| self.engine.identities().identity(number).is_some());
        self.let_go(&unused);
        Ok(())
    }

    /// Puts what the engine has changed in force, and endpoints, where there is anything. Names first:
    /// records of what the new policies decide may come at once.
    async fn install(&mut self, endpoints: &EndpointChanges) -> Result<Installed, AgentError> {
        let changes = self.engine.take_changes();
        if changes.is_empty() && endpoints.is_empty() && !self.first_change {
            return Ok(Installed::Nothing);
        }
        self.announce(&changes, endpoints);
        let installed = self.enforcement.install(&self.engine, &changes, endpoints, &mut self.rules).await;
        match installed {
            Ok(_) => Ok(Installed::Something),
            Err(error) => {
                self.engine.give_back(changes);
                Err(error.into())
            }
        }
    }

    /// Numbers that nothing in force has any more.
    fn let_go(&mut self, gone: &[u32]) {
        gone.iter().for_each(|number| self.identities.release(*number));
        self.names.identities_gone(gone);
        if let Err(error) = leftovers::forget_identities(&self.maps, gone) {
            tracing::error!(%error, "counts of identities that are gone are kept");
        }
    }

    /// After a failed change: the opposite change, as far as the failed one had come.
    async fn take_back(&mut self, back: Change) {
        let taken_back = async {
            let mut draft = self.number(back);
            for identity in draft.fresh.drain(..) {
                self.engine.add_identity(identity);
            }
            self.ipcache.add(&draft.owners.now)?;
            draft.documents.iter().for_each(|document| self.engine.follow(document));
            draft.new_subjects.iter().for_each(|subject| self.engine.add_subject(*subject));
            self.ipcache.remove(&draft.owners.gone)?;
            for number in &draft.gone {
                self.engine.remove_subject(*number);
                self.engine.remove_identity(*number);
            }
            self.install(&draft.endpoints).await?;
            self.enforcement.raise_revision()?;
            self.let_go(&draft.gone.iter().copied().collect::<Vec<u32>>());
            Ok::<(), AgentError>(())
        };
        if let Err(error) = taken_back.await {
            tracing::error!(%error, "the state before a failed change could not be restored");
        }
    }

    /// What follows a change and cannot undo it: files.
    fn settle(&mut self) {
        if let Err(error) = self.identities.save() {
            tracing::error!(%error, "identities are not saved");
        }
        match self.rules.save() {
            Ok(forgotten) => self.names.forget_rules(&forgotten),
            Err(error) => tracing::error!(%error, "rule ids are not saved"),
        }
    }
}

/// Whether anything had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Installed {
    Something,
    Nothing,
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
