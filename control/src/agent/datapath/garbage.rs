//! Map entries that nothing leads to any more. A program that found the way to them just before may
//! still be reading, and must find them: they go once every CPU has been through with what it was at.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use policy_engine::{
    compile::Patch,
    compiled::{Class, ClassId, DirectionPolicy},
};
use tektin_abi::maps::{PeerClassKey, PolicyKey};
use tektin_loader::{MapError, Maps};
use tokio::task::JoinHandle;

use super::{entries, plan::Replaced};

/// Where the kernel has no way to wait for its readers: far longer than a program runs.
const READERS: Duration = Duration::from_millis(500);

/// Entries to remove.
pub(super) enum Removal {
    Entries {
        peers: Vec<PeerClassKey>,
        rows: Vec<PolicyKey>,
    },
    /// All entries of policies of an earlier run.
    Inherited(BTreeSet<u32>),
}

/// Removes in the background, one batch after the other.
pub(super) struct Garbage {
    maps: Arc<Maps>,
    last: Option<JoinHandle<()>>,
}

impl Removal {
    pub(super) fn policy(id: u32, policy: &DirectionPolicy) -> Self {
        let peers = policy.class_of.keys().map(|identity| PeerClassKey { policy: id, identity: *identity });
        Self::Entries { peers: peers.collect(), rows: rows(id, &mut policy.classes.iter()) }
    }

    /// A policy with all that it had when it was put in force last.
    pub(super) fn replaced(replaced: &Replaced<'_>) -> Self {
        let Replaced { id, before } = replaced;
        let identities: BTreeSet<u32> =
            before.policy.class_of.keys().chain(before.patch.moved.keys()).copied().collect();
        let classes = &mut before.policy.classes.iter().chain(&before.patch.dropped);
        let peers = identities.into_iter().map(|identity| PeerClassKey { policy: *id, identity });
        Self::Entries { peers: peers.collect(), rows: rows(*id, classes) }
    }

    /// The classes that a patch has emptied.
    pub(super) fn dropped(id: u32, patch: &Patch) -> Self {
        Self::Entries { peers: Vec::new(), rows: rows(id, &mut patch.dropped.iter()) }
    }

    /// The classes that a patch has made.
    pub(super) fn made(id: u32, policy: &DirectionPolicy, patch: &Patch) -> Self {
        let made = patch.made.iter().filter_map(|class| policy.classes.get_key_value(class));
        Self::Entries { peers: Vec::new(), rows: rows(id, &mut { made }) }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Entries { peers, rows } => peers.is_empty() && rows.is_empty(),
            Self::Inherited(ids) => ids.is_empty(),
        }
    }

    /// Peers first: a class without any is not read.
    pub(super) fn carry_out(&self, maps: &Maps) -> Result<(), MapError> {
        match self {
            Self::Entries { peers, rows } => {
                for key in peers {
                    maps.peer_class.remove(key)?;
                }
                for key in rows {
                    maps.policy.remove(key)?;
                }
                Ok(())
            }
            Self::Inherited(ids) => maps.clear_policies(ids).map(drop),
        }
    }
}

fn rows(id: u32, classes: &mut dyn Iterator<Item = (&ClassId, &Class)>) -> Vec<PolicyKey> {
    classes.flat_map(|(class, content)| entries::class_keys(id, *class, content)).collect()
}

impl Garbage {
    pub(super) fn new(maps: Arc<Maps>) -> Self {
        Self { maps, last: None }
    }

    pub(super) fn remove(&mut self, removals: Vec<Removal>) {
        let removals: Vec<Removal> = removals.into_iter().filter(|removal| !removal.is_empty()).collect();
        if removals.is_empty() {
            return;
        }
        let (maps, earlier) = (self.maps.clone(), self.last.take());
        self.last = Some(tokio::spawn(async move {
            if let Some(earlier) = earlier {
                let _ = earlier.await;
            }
            let work = move || {
                wait_for_readers();
                for removal in &removals {
                    if let Err(error) = removal.carry_out(&maps) {
                        tracing::error!(%error, "entries of policies that are not in force stay");
                    }
                }
            };
            let _ = tokio::task::spawn_blocking(work).await;
        }));
    }

    /// Until all that was to be removed is.
    pub(super) async fn wait(&mut self) {
        if let Some(last) = self.last.take() {
            let _ = last.await;
        }
    }
}

/// Returns once no program still reads what it had found before.
fn wait_for_readers() {
    /// membarrier(2): on a kernel with `MEMBARRIER_CMD_GLOBAL` it is an RCU grace period.
    const GLOBAL: i32 = 1;
    // SAFETY: the call takes three integers and touches no memory.
    let waited = unsafe { nix::libc::syscall(nix::libc::SYS_membarrier, GLOBAL, 0, 0) };
    if waited != 0 {
        thread::sleep(READERS);
    }
}
