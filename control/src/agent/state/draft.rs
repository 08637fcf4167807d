//! What a change means in numbers: identities, owners of prefixes, subjects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use policy_engine::{
    identity::Identity,
    model::Document,
    policy_set::{DocumentChange, document_prefixes},
};

use super::{Change, Member, State, engine_ports};
use crate::agent::{claims::OwnerChanges, datapath::EndpointChanges, error::AgentError, ipcache::Owner};

/// A change in numbers. Nothing of it is in force yet.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) documents: Vec<DocumentChange>,
    /// The identity of each endpoint that comes or stays otherwise; `None`: goes.
    pub(super) endpoints: EndpointChanges,
    pub(super) owners: OwnerChanges,
    /// Identities whose numbers stand for nobody in force.
    pub(super) fresh: Vec<Identity>,
    /// Of them, and of those that were there, the ones that endpoints have from now on.
    pub(super) new_subjects: BTreeSet<u32>,
    /// Numbers that nobody needs any more.
    pub(super) gone: BTreeSet<u32>,
}

impl State {
    /// The change that leads back.
    pub(super) fn reversed(&self, change: &Change) -> Change {
        Change {
            documents: change.documents.iter().map(DocumentChange::reversed).collect(),
            endpoints: change.endpoints.keys().map(|id| (*id, self.members.get(id).cloned())).collect(),
            host: change.host.as_ref().map(|_| self.host.clone()),
        }
    }

    /// Gives what is new its numbers; all of it or, on an error, none.
    pub(super) fn give_numbers(&mut self, change: &Change) -> Result<(), AgentError> {
        let mut given = Vec::new();
        let mut give = || {
            for document in change.documents.iter().filter_map(|document| document.after.as_deref()) {
                for prefix in document_prefixes(document) {
                    let known = self.claims.is_named(prefix.trunc());
                    let number = self.identities.prefix(prefix)?;
                    given.extend((!known).then_some(number));
                }
            }
            for member in change.endpoints.values().flatten() {
                let known = self.identities.workload_number(&member.key).is_some();
                let number = self.identities.workload(&member.key)?;
                given.extend((!known).then_some(number));
            }
            Ok(())
        };
        let result = give();
        if result.is_err() {
            given.into_iter().for_each(|number| self.identities.release(number));
        }
        result
    }

    /// Notes who has what from now on, every number being given.
    pub(super) fn number(&mut self, change: Change) -> Draft {
        let mut draft = Draft::default();
        // What comes before what goes: a number that is needed again stays.
        for after in change.documents.iter().filter_map(|document| document.after.as_deref()) {
            self.name_prefixes(after, &mut draft);
        }
        for before in change.documents.iter().filter_map(|document| document.before.as_deref()) {
            for prefix in document_prefixes(before) {
                let freed = self.claims.unname(prefix.trunc());
                draft.gone.extend(freed.filter(|number| self.identities.prefix_of(*number).is_some()));
            }
        }
        draft.documents = change.documents;
        if let Some(host) = change.host {
            let net = |address: &IpAddr| IpNet::from(*address);
            self.host.difference(&host).for_each(|address| self.claims.set_host(net(address), false));
            host.difference(&self.host).for_each(|address| self.claims.set_host(net(address), true));
            self.host = host;
        }
        let (come, go): (BTreeMap<u32, Option<Member>>, _) =
            change.endpoints.into_iter().partition(|(_, member)| member.is_some());
        for id in go.into_keys() {
            self.leave(id, &mut draft);
        }
        for (id, member) in come {
            self.leave(id, &mut draft);
            if let Some(member) = member {
                self.join(id, member, &mut draft);
            }
        }
        draft.owners = self.claims.take_changes();
        let known = |number: &u32| self.engine.subject(*number).is_some();
        draft.new_subjects.retain(|number| !known(number) && !draft.gone.contains(number));
        draft
    }

    fn name_prefixes(&mut self, document: &Document, draft: &mut Draft) {
        for prefix in document_prefixes(document) {
            let prefix = prefix.trunc();
            let Ok(number) = self.identities.prefix(prefix) else { continue };
            if self.engine.identities().identity(number).is_none() && !self.claims.is_named(prefix) {
                draft.fresh.push(Identity::for_prefix(number, prefix, BTreeSet::new()));
            }
            self.claims.name(prefix, number);
        }
    }

    fn leave(&mut self, id: u32, draft: &mut Draft) {
        let Some(member) = self.members.remove(&id) else { return };
        for address in member.addresses {
            self.claims.set_endpoint(IpNet::from(address), None);
        }
        draft.endpoints.insert(id, None);
        let Some(identity) = self.identity_of.remove(&id) else { return };
        if let Some(users) = self.users.get_mut(&identity) {
            *users -= 1;
            if *users == 0 {
                self.users.remove(&identity);
                draft.gone.insert(identity);
            }
        }
    }

    fn join(&mut self, id: u32, member: Member, draft: &mut Draft) {
        let Ok(identity) = self.identities.workload(&member.key) else { return };
        for address in &member.addresses {
            self.claims.set_endpoint(IpNet::from(*address), Some(Owner { identity, endpoint: id }));
        }
        let known = self.engine.identities().identity(identity).is_some()
            || draft.fresh.iter().any(|fresh| fresh.id == identity);
        if !known {
            let ports = engine_ports(&member.key.named_ports);
            draft.fresh.push(Identity::workload(identity, member.key.labels.clone(), ports));
        }
        *self.users.entry(identity).or_default() += 1;
        draft.gone.remove(&identity);
        draft.new_subjects.insert(identity);
        draft.endpoints.insert(id, Some(identity));
        self.identity_of.insert(id, identity);
        self.members.insert(id, member);
    }
}
