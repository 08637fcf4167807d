//! Who has which prefix: an endpoint before the host, the host before a rule that names it.

use std::collections::BTreeMap;

use ipnet::IpNet;
use tektin_abi::maps::identity;

use super::ipcache::{self, Owner};

/// Everybody who claims a prefix. Rules are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Claim {
    rules: u32,
    /// The prefix's own identity, while a rule names it.
    own: u32,
    host: bool,
    endpoint: Option<Owner>,
}

/// All claims, and what they have changed since that was taken last.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    by_prefix: BTreeMap<IpNet, Claim>,
    changed: BTreeMap<IpNet, Option<Owner>>,
}

/// Owners of before and of now, where they differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerChanges {
    pub now: BTreeMap<IpNet, Owner>,
    pub gone: Vec<IpNet>,
}

impl Claim {
    fn owner(&self) -> Option<Owner> {
        let host = self.host.then_some(Owner::identity(identity::HOST));
        let rule = (self.rules > 0).then_some(Owner::identity(self.own));
        self.endpoint.or(host).or(rule)
    }
}

impl Claims {
    /// Every address has an owner, whatever the rules name.
    pub fn with_the_world() -> Self {
        let mut claims = Self::default();
        for (prefix, owner) in ipcache::world() {
            claims.name(prefix, owner.identity);
        }
        claims
    }

    /// Whether a rule names the prefix.
    pub fn is_named(&self, prefix: IpNet) -> bool {
        self.by_prefix.get(&prefix).is_some_and(|claim| claim.rules > 0)
    }

    /// One document more names the prefix, whose identity is `own`.
    pub fn name(&mut self, prefix: IpNet, own: u32) {
        self.edit(prefix, |claim| {
            claim.rules += 1;
            claim.own = own;
        });
    }

    /// One document less does. The prefix's own identity, if it was the last.
    pub fn unname(&mut self, prefix: IpNet) -> Option<u32> {
        let mut freed = None;
        self.edit(prefix, |claim| {
            claim.rules = claim.rules.saturating_sub(1);
            freed = (claim.rules == 0).then_some(claim.own);
        });
        freed
    }

    pub fn set_host(&mut self, prefix: IpNet, host: bool) {
        self.edit(prefix, |claim| claim.host = host);
    }

    pub fn set_endpoint(&mut self, prefix: IpNet, endpoint: Option<Owner>) {
        self.edit(prefix, |claim| claim.endpoint = endpoint);
    }

    /// What has changed since this was asked last.
    pub fn take_changes(&mut self) -> OwnerChanges {
        let mut changes = OwnerChanges::default();
        for (prefix, before) in std::mem::take(&mut self.changed) {
            let now = self.by_prefix.get(&prefix).and_then(Claim::owner);
            match now {
                _ if now == before => {}
                Some(owner) => drop(changes.now.insert(prefix, owner)),
                None => changes.gone.push(prefix),
            }
        }
        changes
    }

    /// Everybody.
    pub fn owners(&self) -> BTreeMap<IpNet, Owner> {
        self.by_prefix.iter().filter_map(|(prefix, claim)| Some((*prefix, claim.owner()?))).collect()
    }

    fn edit(&mut self, prefix: IpNet, edit: impl FnOnce(&mut Claim)) {
        let claim = self.by_prefix.entry(prefix).or_default();
        self.changed.entry(prefix).or_insert_with(|| claim.owner());
        edit(claim);
        if *claim == (Claim { own: claim.own, ..Claim::default() }) {
            self.by_prefix.remove(&prefix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_claim_owns_and_the_last_one_frees() {
        let prefix: IpNet = "10.0.0.1/32".parse().unwrap();
        let (rule, host) = (Owner::identity(1 << 24), Owner::identity(identity::HOST));
        let endpoint = Owner { identity: 300, endpoint: 7 };
        let mut claims = Claims::default();
        let now = |claims: &mut Claims| claims.take_changes().now.get(&prefix).copied();
        claims.name(prefix, 1 << 24);
        assert_eq!(now(&mut claims), Some(rule));
        claims.name(prefix, 1 << 24);
        assert_eq!(now(&mut claims), None, "nothing has changed");
        claims.set_host(prefix, true);
        assert_eq!(now(&mut claims), Some(host));
        claims.set_endpoint(prefix, Some(endpoint));
        assert_eq!(now(&mut claims), Some(endpoint));
        claims.set_host(prefix, false);
        assert_eq!(now(&mut claims), None);
        claims.set_endpoint(prefix, None);
        assert_eq!(now(&mut claims), Some(rule));
        assert_eq!(claims.unname(prefix), None);
        assert_eq!(claims.unname(prefix), Some(1 << 24));
        assert_eq!(claims.take_changes().gone, [prefix]);
        assert!(claims.owners().is_empty() && !claims.is_named(prefix));
    }
}
